package datagram_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/egress/datagram"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
)

// outside is a container whose datagrams leave by a host behind which there are two routers and a server; the MTU between the routers is
// smaller than elsewhere:
//
//	container ── TAP ── host ── 10.1.0.0/24 ── near ── 10.2.0.0/24, 1300 ── far ── 10.3.0.0/24 ── server
type outside struct {
	container, host, near, far, server *lab.Host
	table                              *datagram.Table
	network                            *datagram.Network
}

const (
	containerMAC frame.MAC = 0x0242_0a00_0002
	gatewayMAC   frame.MAC = 0x0242_0a00_0001
	narrow                 = 1300
)

func both(v4, v6 string) []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{lab.T(t, "container"), lab.T(t, "host"), lab.T(t, "near"), lab.T(t, "far"), lab.T(t, "server"), nil, nil}
	for i, l := range []struct{ a, b *lab.Host }{{o.host, o.near}, {o.near, o.far}, {o.far, o.server}} {
		n := i + 1
		mtu := map[bool]int{true: narrow, false: 1500}[i == 1]
		lab.Must(t, lab.Link(l.a, l.b, lab.LinkOptions{
			Names: [2]string{"right", "left"}, MTU: mtu,
			Addresses: [2][]netip.Prefix{both(fmt.Sprintf("10.%d.0.1/24", n), fmt.Sprintf("fd0%d::1/64", n)), both(fmt.Sprintf("10.%d.0.2/24", n), fmt.Sprintf("fd0%d::2/64", n))},
		}))
	}
	for _, h := range []*lab.Host{o.near, o.far, o.server} {
		for name, value := range map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", "net.ipv4.icmp_ratelimit": "0", "net.ipv6.icmp.ratelimit": "0",
		} {
			lab.Must(t, h.Sysctl(name, value))
		}
	}
	way := func(h *lab.Host, to []int, v4, v6 string) {
		for _, n := range to {
			lab.Must(t, h.Route(netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", n)), netip.MustParseAddr(v4)))
			lab.Must(t, h.Route(netip.MustParsePrefix(fmt.Sprintf("fd0%d::/64", n)), netip.MustParseAddr(v6)))
		}
	}
	way(o.host, []int{2, 3}, "10.1.0.2", "fd01::2")
	way(o.near, []int{3}, "10.2.0.2", "fd02::2")
	way(o.far, []int{1}, "10.2.0.1", "fd02::1")
	way(o.server, []int{1, 2}, "10.3.0.1", "fd03::1")
	lab.Must(t, o.host.Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	o.attach(t)
	return o
}

// attach gives the container its TAP, and has what it sends leave by the host.
func (o *outside) attach(t *testing.T) {
	t.Helper()
	dev, err := tap.Open(tap.Config{
		Namespace: o.container.Namespace(), Name: "eth0", MAC: containerMAC, MTU: 1450, Addresses: both("10.0.0.2/24", "fd00::2/64"),
	})
	lab.Must(t, err)
	for _, gw := range []string{"10.0.0.1", "fd00::1"} {
		lab.Must(t, o.container.Default(netip.MustParseAddr(gw)))
		out, err := o.container.Command("ip", "neighbor", "replace", gw, "lladdr", "02:42:0a:00:00:01", "dev", "eth0", "nud", "permanent").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	o.table, err = datagram.New(datagram.Config{})
	lab.Must(t, err)
	q := dev.Queues()[0]
	o.network = o.table.Network("blue", port{q}, func(_ uint8, dst netip.AddrPort) (netip.AddrPort, bool) { return dst, true })
	var stop atomic.Bool
	var ended sync.WaitGroup
	ended.Add(1)
	go func() {
		defer ended.Done()
		_ = o.host.Do(func() error { // it fails only if the host is gone
			for b := make([]byte, frame.Headroom+frame.MaxLen); !stop.Load(); {
				n, errno := q.Read(b[frame.Headroom-frame.OffloadLen:])
				if errno != 0 {
					_, _ = unix.Poll([]unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}, 20)
					continue
				}
				o.take(b, n)
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		stop.Store(true)
		ended.Wait()
		lab.Must(t, o.table.Close())
		_ = dev.Remove() // or it is gone already
	})
}

func (o *outside) take(b []byte, n int) {
	var f frame.Frame
	f.Set(b, frame.Headroom, n-frame.OffloadLen)
	if f.Offload.Unmarshal(b[frame.Headroom-frame.OffloadLen:]) != drop.None || f.Parse() != drop.None || f.Dst() != gatewayMAC {
		return
	}
	o.network.Datagram(&f)
}

// port is the container's TAP as a datagram.Out.
type port struct{ q *tap.Queue }

func (p port) MTU() int { return 1450 }

func (p port) Gateway(v6 bool) (netip.Addr, bool) {
	if v6 {
		return netip.MustParseAddr("fd00::1"), true
	}
	return netip.MustParseAddr("10.0.0.1"), true
}

func (p port) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	containerMAC.Put(parts[0])
	gatewayMAC.Put(parts[0][6:])
	parts[0][12], parts[0][13] = 8, 0
	if to.Is6() {
		parts[0][12], parts[0][13] = 0x86, 0xdd
	}
	if p.q.Write(o, parts) != 0 {
		return drop.QueueFull
	}
	return drop.None
}

// probe is a UDP socket in the container that hears of ICMP errors.
type probe struct {
	fd int
	v4 bool
	to unix.Sockaddr
}

func (o *outside) probe(t *testing.T, to netip.AddrPort) *probe {
	t.Helper()
	p := &probe{v4: to.Addr().Is4()}
	family, level, recverr := unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	p.to = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	if p.v4 {
		family, level, recverr = unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
		p.to = &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	lab.Must(t, o.container.Do(func() (err error) {
		if p.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(p.fd, level, recverr, 1), unix.Connect(p.fd, p.to))
	}))
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// option sets one of two options, by the version of IP.
func (p *probe) option(t *testing.T, four, six, value int) {
	t.Helper()
	level, name := unix.IPPROTO_IPV6, six
	if p.v4 {
		level, name = unix.IPPROTO_IP, four
	}
	lab.Must(t, unix.SetsockoptInt(p.fd, level, name, value))
}

// send sends n bytes; what came of those before does not matter.
func (p *probe) send(t *testing.T, n int) {
	t.Helper()
	for range 3 {
		if err := unix.Send(p.fd, make([]byte, n), 0); err == nil {
			return
		} else if errors.Is(err, unix.EMSGSIZE) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// told returns the next error that the container's kernel has for the socket: who sent it, and what it is.
func (p *probe) told(t *testing.T) (from netip.Addr, errno unix.Errno, info uint32, quoted int) {
	t.Helper()
	b, control := make([]byte, 2000), make([]byte, 512)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		n, k, _, _, err := unix.Recvmsg(p.fd, b, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err == nil {
			from, errno, info = datagram.Failure(control[:k])
			return from, errno, info, n
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.fd)}}, 50)
	}
	t.Fatal("no error came")
	return netip.Addr{}, 0, 0, 0
}

var servers = map[string]struct{ near, far, server string }{
	"IPv4": {"10.1.0.2", "10.2.0.2", "10.3.0.2"},
	"IPv6": {"fd01::2", "fd02::2", "fd03::2"},
}

func TestOutsideLooksAsThroughARouter(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	o := newOutside(t)
	t.Run("what may be fragmented is, before the path is known", func(t *testing.T) {
		p := o.probe(t, netip.MustParseAddrPort("10.3.0.2:33435"))
		p.option(t, unix.IP_MTU_DISCOVER, 0, unix.IP_PMTUDISC_DONT)
		p.send(t, 1390)
		if got, errno, _, _ := p.told(t); got.String() != "10.3.0.2" || errno != unix.ECONNREFUSED {
			t.Errorf("%v from %s, expected that the server got it", errno, got)
		}
	})
	for family, s := range servers {
		closed := netip.AddrPortFrom(netip.MustParseAddr(s.server), 33434)
		t.Run(family+": each router is seen where it is", func(t *testing.T) {
			for ttl, from := range map[int]string{2: s.near, 3: s.far, 4: s.server} {
				p := o.probe(t, closed)
				p.option(t, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, ttl)
				p.send(t, 40)
				want := unix.EHOSTUNREACH
				if ttl == 4 {
					want = unix.ECONNREFUSED
				}
				if got, errno, _, quoted := p.told(t); got.String() != from || errno != want || quoted != 40 {
					t.Errorf("with TTL %d: %v from %s, which quotes %d bytes; expected %v from %s, and 40", ttl, errno, got, quoted, want, from)
				}
			}
		})
		t.Run(family+": ping goes there and back, and sees the routers", func(t *testing.T) {
			if out, err := o.container.Command("ping", "-c2", "-i0.05", "-W5", s.server).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			out, _ := o.container.Command("ping", "-c1", "-W5", "-t3", s.server).CombinedOutput()
			if !strings.Contains(strings.ToLower(string(out)), "from "+s.far) || !strings.Contains(string(out), "exceeded") && !strings.Contains(string(out), "Hop limit") {
				t.Errorf("with TTL 3: %s", out)
			}
		})
		t.Run(family+": the path's MTU is found", func(t *testing.T) {
			p := o.probe(t, closed)
			p.option(t, unix.IP_MTU_DISCOVER, unix.IPV6_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			p.send(t, 1390)
			if got, errno, mtu, _ := p.told(t); got.String() != s.near || errno != unix.EMSGSIZE || mtu != narrow {
				t.Errorf("%v, MTU %d, from %s; expected %v, %d, from %s", errno, mtu, got, unix.EMSGSIZE, narrow, s.near)
			}
			if family == "IPv6" {
				return // from now on it is taken for fragments that the container made
			}
			p.send(t, 1390) // by now the host knows by itself
			if got, errno, mtu, _ := p.told(t); got != netip.MustParseAddr("10.0.0.1") || errno != unix.EMSGSIZE || mtu != narrow {
				t.Errorf("then %v, MTU %d, from %s; expected %d from the gateway", errno, mtu, got, narrow)
			}
		})
		t.Run(family+": where no route leads is unreachable", func(t *testing.T) {
			to := map[string]string{"IPv4": "203.0.113.1", "IPv6": "2001:db8::1"}[family]
			p := o.probe(t, netip.AddrPortFrom(netip.MustParseAddr(to), 9))
			p.send(t, 10)
			if got, errno, _, _ := p.told(t); !strings.HasSuffix(got.String(), "1") || errno != unix.ENETUNREACH {
				t.Errorf("%v from %s, expected %v from the gateway", errno, got, unix.ENETUNREACH)
			}
		})
	}
	t.Run("a host without IPv6 says so at once, and has IPv4", func(t *testing.T) {
		lab.Must(t, o.host.Sysctl("net.ipv6.conf.all.disable_ipv6", "1"))
		p := o.probe(t, netip.AddrPortFrom(netip.MustParseAddr(servers["IPv6"].server), 33434))
		p.send(t, 10)
		if got, errno, _, _ := p.told(t); got.String() != "fd00::1" || errno != unix.ENETUNREACH {
			t.Errorf("%v from %s, expected %v from the gateway", errno, got, unix.ENETUNREACH)
		}
		p = o.probe(t, netip.AddrPortFrom(netip.MustParseAddr(servers["IPv4"].server), 33434))
		p.send(t, 10)
		if got, errno, _, _ := p.told(t); got.String() != servers["IPv4"].server || errno != unix.ECONNREFUSED {
			t.Errorf("%v from %s, expected %v from the server", errno, got, unix.ECONNREFUSED)
		}
	})
}
