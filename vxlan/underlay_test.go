package vxlan

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// hosts returns two ends, at the first two addresses of a prefix, in hosts of their own that are joined by a link with an MTU of 1500.
func hosts(t *testing.T, network string, cfg Config) (x, y *end, hx *lab.Host) {
	t.Helper()
	prefix := netip.MustParsePrefix(network)
	addrs := [2]netip.Prefix{}
	at := prefix.Addr()
	for i := range addrs {
		at = at.Next()
		addrs[i] = netip.PrefixFrom(at, prefix.Bits())
	}
	h := [2]*lab.Host{lab.T(t, "x"), lab.T(t, "y")}
	lab.Must(t, lab.Link(h[0], h[1], lab.LinkOptions{Addresses: [2][]netip.Prefix{{addrs[0]}, {addrs[1]}}}))
	var ends [2]*end
	for i := range ends {
		lab.Must(t, h[i].Do(func() error {
			cfg.Local = addrs[i].Addr()
			tunnel, err := Listen(cfg)
			if err != nil {
				return err
			}
			t.Cleanup(tunnel.Close)
			ends[i] = &end{Tunnel: tunnel, Sender: NewSender(&tunnel.Drops)}
			ends[i].Receiver = tunnel.Receiver(0, &ends[i].sink)
			_, err = tunnel.Peer(addrs[1-i].Addr())
			return err
		}))
	}
	return ends[0], ends[1], h[0]
}

// await takes in all that o has sent: the first frames wait for the neighbor's address.
func (e *end) await(t *testing.T, o *end) {
	t.Helper()
	sent, got := o.to(t, e), e.to(t, o)
	for got.RxFrames.Load() < sent.TxFrames.Load() {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(e.FD()), Events: unix.POLLIN}}, 10_000); n == 0 {
			t.Fatalf("%d frames arrived of %d sent; poll: %v", got.RxFrames.Load(), sent.TxFrames.Load(), err)
		}
		e.Ready()
	}
}

func TestUnderlaysOfBothFamilies(t *testing.T) {
	for _, c := range []struct {
		name, network string
		checksum      Checksum
		mtu           int
	}{
		{"IPv4", "192.0.2.0/24", ChecksumAuto, 1450},
		{"IPv4 without checksums", "192.0.2.0/24", ChecksumOff, 1450},
		{"IPv4 with checksums", "192.0.2.0/24", ChecksumOn, 1450},
		{"IPv6", "2001:db8::/64", ChecksumAuto, 1430},
		{"IPv6 that cannot do without checksums", "2001:db8::/64", ChecksumOff, 1430},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, y, _ := hosts(t, c.network, Config{Checksum: c.checksum})
			p := x.to(t, y)
			if p.MTU() != c.mtu || Overhead(p.Addr) != 1500-c.mtu {
				t.Fatalf("MTU %d and overhead %d over 1500 bytes, want %d and %d", p.MTU(), Overhead(p.Addr), c.mtu, 1500-c.mtu)
			}
			var want []byte
			for _, f := range []*frame.Frame{
				udp(t, 1, 1), superframe(t, 61_000, 9000), udp(t, c.mtu-28, 2),
				tagged(t, superframe(t, 61_000, 9000)), tagged(t, udp(t, c.mtu-28-4, 3)),
			} {
				if reason := x.Send(p, 7, f, 9000); reason != drop.None {
					t.Fatal(reason)
				}
				x.Sender.Flush()
				y.await(t, x)
				want = append(want, f.Bytes()[f.Payload:]...)
			}
			if got := payloads(t, y.frames, c.mtu); !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived, other than the %d that were sent; drops %v, %v", len(got), len(want), x.Drops.Snapshot(), y.Drops.Snapshot())
			}
			for name, f := range map[string]*frame.Frame{"plain": udp(t, c.mtu-28+1, 2), "tagged": tagged(t, udp(t, c.mtu-28-4+1, 3))} {
				if reason := x.Send(p, 7, f, 9000); reason != drop.TooBig {
					t.Errorf("a %s frame of one byte more: %s, want %s", name, reason, drop.TooBig)
				}
			}
		})
	}
}

func TestShrunkenPathIsNoticed(t *testing.T) {
	for name, f := range map[string]*frame.Frame{"one datagram": udp(t, 1422, 0), "a run of datagrams": superframe(t, 14_000, 1400)} {
		t.Run(name, func(t *testing.T) {
			x, y, host := hosts(t, "192.0.2.0/24", Config{})
			p := x.to(t, y)
			link, err := host.Netlink().LinkByName("eth0")
			lab.Must(t, err)
			lab.Must(t, host.Netlink().LinkSetMTU(link, 1300))
			if reason := x.Send(p, 1, f, 1450); reason != drop.None {
				t.Fatal(reason)
			}
			x.Sender.Flush()
			wire := map[bool]uint64{true: 10, false: 1}[f.GSO != frame.GSONone]
			if got := x.Drops[drop.TooBig].Load(); got != wire || p.MTU() != 1250 || !p.Segments() {
				t.Errorf("%d frames too big, want %d; MTU %d, want 1250; segmented sends go on: %v", got, wire, p.MTU(), p.Segments())
			}
			if f.GSO != frame.GSONone { // the next is cut to fit
				x.Send(p, 1, f, 1450)
				x.Sender.Flush()
				y.await(t, x)
				if got := payloads(t, y.frames, 1250); !bytes.Equal(got, f.Bytes()[f.Payload:]) {
					t.Errorf("%d bytes arrived, want %d; drops %v", len(got), f.Len()-int(f.Payload), x.Drops.Snapshot())
				}
			} else if reason := x.Send(p, 1, f, 1450); reason != drop.TooBig {
				t.Errorf("the next frame as large: %s, want %s", reason, drop.TooBig)
			}
		})
	}
}

func TestPathMTUIsNeverAssumed(t *testing.T) {
	x, y, host := hosts(t, "2001:db8::/64", Config{})
	x.Remove(x.to(t, y))
	link, err := host.Netlink().LinkByName("eth0")
	lab.Must(t, err)
	route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: netlink.NewIPNet(y.cfg.Local.AsSlice()), MTU: 1400}
	lab.Must(t, host.Netlink().RouteReplace(&route))
	var p *Peer
	lab.Must(t, host.Do(func() (err error) {
		p, err = x.Peer(y.cfg.Local)
		return err
	}))
	if got := p.MTU(); got != 1330 {
		t.Errorf("MTU %d over a route of 1400, want 1330", got)
	}
	p.Close()
	p.RefreshMTU()
	if got := p.MTU(); got != 1330 {
		t.Errorf("MTU %d of a closed peer, want the last one, 1330", got)
	}
}
