package vxlan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// sink remembers the frames that a receiver hands on.
type sink struct {
	frames   [][]byte
	vnis     []VNI
	peers    []*Peer
	verified []bool
}

func (s *sink) Receive(v VNI, p *Peer, f *frame.Frame) {
	s.frames = append(s.frames, bytes.Clone(f.Bytes()))
	s.vnis, s.peers = append(s.vnis, v), append(s.peers, p)
	s.verified = append(s.verified, f.Checksum == frame.Verified)
}

// end is one end of a tunnel over loopback.
type end struct {
	*Tunnel
	*Sender
	*Receiver
	sink
}

func (e *end) to(t *testing.T, o *end) *Peer {
	t.Helper()
	p, err := e.Peer(o.cfg.Local)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// drain takes in all that has arrived: over loopback, that is all that was sent.
func (e *end) drain() {
	for {
		if n, _ := e.Ready(); n == 0 {
			return
		}
	}
}

// pair returns two ends at addresses a and b.
func pair(t testing.TB, a, b string, checksum Checksum) (x, y *end) {
	t.Helper()
	port := freePort(t, netip.MustParseAddr(a))
	open := func(addr string) *end {
		tunnel, err := Listen(Config{Local: netip.MustParseAddr(addr), Port: port, Checksum: checksum})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tunnel.Close)
		e := &end{Tunnel: tunnel, Sender: NewSender(&tunnel.Drops)}
		e.Receiver = tunnel.Receiver(0, &e.sink)
		return e
	}
	return open(a), open(b)
}

func freePort(t testing.TB, addr netip.Addr) uint16 {
	t.Helper()
	fd, err := socket(addr, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr, 0))); err != nil {
		t.Fatal(err)
	}
	port, err := localPort(fd)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// udp returns a parsed frame with a UDP datagram of n payload bytes, its checksum owed as a TAP hands it over.
func udp(t testing.TB, n int, seed byte) *frame.Frame {
	t.Helper()
	buf := make([]byte, frame.Headroom+14+20+8+n)
	b := buf[frame.Headroom:]
	copy(b, []byte{2, 0x42, 10, 0, 0, 3, 2, 0x42, 10, 0, 0, 2, 8, 0})
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, frame.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, 2, 10, 0, 0, 3})
	binary.BigEndian.PutUint16(ip[10:], ^frame.Sum(ip[:20], 0))
	binary.BigEndian.PutUint16(ip[20:], 1000)
	binary.BigEndian.PutUint16(ip[22:], 2000)
	binary.BigEndian.PutUint16(ip[24:], uint16(8+n))
	for i := range n {
		ip[28+i] = seed + byte(i)
	}
	f := new(frame.Frame)
	f.Set(buf, frame.Headroom, len(b))
	if reason := f.Parse(); reason != drop.None {
		t.Fatalf("frame of %d bytes: %s", len(b), reason)
	}
	f.Offload = frame.Offload{Checksum: frame.Partial, Start: f.L4, Offset: 6}
	binary.BigEndian.PutUint16(ip[26:], frame.PseudoSum(f))
	return f
}

// superframe returns a TCP superframe of n payload bytes that is to be cut into segments of size.
func superframe(t testing.TB, n, size int) *frame.Frame {
	t.Helper()
	buf := make([]byte, frame.Headroom+14+20+20+n)
	b := buf[frame.Headroom:]
	copy(b, []byte{2, 0x42, 10, 0, 0, 3, 2, 0x42, 10, 0, 0, 2, 8, 0})
	ip := b[14:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, frame.ProtoTCP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, 2, 10, 0, 0, 3})
	binary.BigEndian.PutUint16(ip[10:], ^frame.Sum(ip[:20], 0))
	binary.BigEndian.PutUint16(ip[20:], 1000)
	binary.BigEndian.PutUint16(ip[22:], 2000)
	ip[32], ip[33] = 0x50, 0x18
	for i := range n {
		ip[40+i] = byte(i * 7)
	}
	f := new(frame.Frame)
	f.Set(buf, frame.Headroom, len(b))
	f.Offload = frame.Offload{GSO: frame.GSOTCP4, Size: uint16(size), Checksum: frame.Partial, Start: 34, Offset: 16, HdrLen: 54}
	if reason := f.Parse(); reason != drop.None {
		t.Fatalf("superframe: %s", reason)
	}
	binary.BigEndian.PutUint16(ip[36:], frame.PseudoSum(f))
	return f
}

func TestFramesArriveInOrderAndWhole(t *testing.T) {
	for _, checksum := range []Checksum{ChecksumAuto, ChecksumOn, ChecksumOff} {
		t.Run(fmt.Sprintf("with checksum %d", checksum), func(t *testing.T) {
			a, b := pair(t, "127.0.0.1", "127.0.0.2", checksum)
			p := a.to(t, b)
			b.to(t, a)
			var want [][]byte
			for i := range 300 {
				f := udp(t, 1+i*37%1200, byte(i))
				if reason := a.Send(p, 4097, f, 1450); reason != drop.None {
					t.Fatalf("frame %d: %s", i, reason)
				}
				want = append(want, bytes.Clone(f.Bytes()))
				if i%50 == 49 {
					a.Sender.Flush()
					b.drain()
				}
			}
			if !slices.EqualFunc(b.frames, want, bytes.Equal) {
				t.Errorf("%d frames arrived, other than the %d that were sent; drops: %v %v", len(b.frames), len(want), a.Drops.Snapshot(), b.Drops.Snapshot())
			}
			for _, v := range b.vnis {
				if v != 4097 {
					t.Fatalf("a frame of VNI 4097 arrived with %d", v)
				}
			}
		})
	}
}

func TestEqualFramesLeaveAsOneMessage(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p, from := a.to(t, b), b.to(t, a)
	for i := range 40 {
		a.Send(p, 1, udp(t, 64, byte(i)), 1450)
	}
	a.Sender.Flush()
	b.drain()
	if frames, messages := p.TxFrames.Load(), p.TxMessages.Load(); frames != 40 || messages != 1 {
		t.Errorf("%d frames left in %d messages, want 40 in 1", frames, messages)
	}
	if frames, messages := from.RxFrames.Load(), from.RxMessages.Load(); frames != 40 || messages != 1 {
		t.Errorf("%d frames arrived in %d messages, want 40 in 1", frames, messages)
	}
	if slices.Contains(b.verified, false) {
		t.Error("a frame under a coalesced outer checksum was not taken as verified")
	}
}

func TestSingleFrameIsNotTakenAsVerified(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	b.to(t, a)
	a.Send(p, 1, udp(t, 64, 1), 1450)
	a.Sender.Flush()
	b.drain()
	if len(b.verified) != 1 || b.verified[0] {
		t.Errorf("verified = %v; a datagram without an outer checksum vouches for nothing", b.verified)
	}
}

func TestSuperframeIsCutToTheMTU(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	b.to(t, a)
	f := superframe(t, 60_000, 1410)
	if reason := a.Send(p, 1, f, 1000); reason != drop.None {
		t.Fatal(reason)
	}
	a.Sender.Flush()
	b.drain()
	var got []byte
	for i, raw := range b.frames {
		var g frame.Frame
		g.Set(raw, 0, len(raw))
		if reason := g.Parse(); reason != drop.None {
			t.Fatalf("segment %d: %s", i, reason)
		}
		if !g.Verify() {
			t.Errorf("segment %d has a wrong checksum", i)
		}
		if n := g.End - int(g.L3); n > 1000 {
			t.Errorf("segment %d has %d bytes, more than the MTU of 1000", i, n)
		}
		got = append(got, raw[g.Payload:g.End]...)
	}
	if want := f.Bytes()[f.Payload:]; !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, other than the %d that were sent", len(got), len(want))
	}
}

func TestTooBigForTheNetworkIsRefused(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	if reason := a.Send(p, 1, udp(t, 1450-28+1, 0), 1450); reason != drop.TooBig {
		t.Errorf("a packet of 1451 bytes in a network of 1450: %s, want %s", reason, drop.TooBig)
	}
	if reason := a.Send(p, 1, udp(t, 1450-28, 0), 1450); reason != drop.None {
		t.Errorf("a packet of 1450 bytes in a network of 1450: %s", reason)
	}
}

func TestDatagramsFromStrangersAreCounted(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b) // but b does not know a
	a.Send(p, 1, udp(t, 10, 0), 1450)
	a.Sender.Flush()
	b.drain()
	if len(b.frames) != 0 || b.Drops[drop.UnknownVTEP].Load() != 1 {
		t.Errorf("%d frames handed on, drops %v; want none, and one unknown-vtep", len(b.frames), b.Drops.Snapshot())
	}
	from := b.to(t, a)
	a.Send(p, 1, udp(t, 10, 0), 1450)
	a.Sender.Flush()
	b.drain()
	if len(b.frames) != 1 {
		t.Error("a peer that was made later is still refused")
	}
	b.Remove(from)
	a.Send(p, 1, udp(t, 10, 0), 1450)
	a.Sender.Flush()
	b.drain()
	if len(b.frames) != 1 {
		t.Error("a peer that was removed is still served")
	}
	from.Close()
}

func TestMalformedDatagramsAreCounted(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	b.to(t, a)
	for _, bad := range []string{"", "short", "\x00\x00\x00\x00\x00\x00\x01\x00no I flag"} {
		if err := unix.Send(p.paths[0].plain, []byte(bad), 0); err != nil {
			t.Fatal(err)
		}
	}
	b.drain()
	if got := b.Drops[drop.BadVXLAN].Load(); got != 3 {
		t.Errorf("%d malformed datagrams counted, want 3: %v", got, b.Drops.Snapshot())
	}
}

func TestRefusedDatagramsAreCounted(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	p.Close() // as when the socket is closed under the thread's feet
	a.Send(p, 1, udp(t, 10, 0), 1450)
	a.Send(p, 1, superframe(t, 5000, 1000), 1450)
	a.Sender.Flush()
	if got := a.Drops[drop.SendFailed].Load(); got != 6 {
		t.Errorf("%d frames counted as not sent, want 6: %v", got, a.Drops.Snapshot())
	}
	if got := p.TxFrames.Load(); got != 0 {
		t.Errorf("%d frames counted as sent through a closed socket", got)
	}
}

func TestClosedPeerIsNotHeldAgainstTheNextSend(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p, back := a.to(t, b), b.to(t, a)
	unix.Close(b.socks[0]) // nobody listens: the kernel answers with ICMP port unreachable
	a.Send(p, 1, udp(t, 10, 0), 1450)
	a.Sender.Flush()
	fd, err := listen(b.cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	b.socks[0], b.Receiver.sock = fd, fd
	a.Send(p, 1, udp(t, 10, 1), 1450)
	a.Sender.Flush()
	b.drain()
	if len(b.frames) != 1 {
		t.Errorf("%d frames arrived after the peer came back, want 1; drops %v", len(b.frames), a.Drops.Snapshot())
	}
	_ = back
}

func TestPortInUseNamesTheRemedy(t *testing.T) {
	a, _ := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	_, err := Listen(a.cfg)
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "kernel VXLAN device") || !strings.Contains(err.Error(), a.Local().String()) {
		t.Errorf("error = %v; want one that names the port, the likely holder, and EADDRINUSE", err)
	}
	shared := a.cfg
	shared.Receivers = 2
	if _, err := Listen(shared); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second tunnel with SO_REUSEPORT joined in silence: %v", err)
	}
	stranger := Config{Local: netip.MustParseAddr("192.0.2.77"), Port: a.cfg.Port}
	if _, err := Listen(stranger); err == nil || !strings.Contains(err.Error(), "192.0.2.77 is not an address of this host") {
		t.Errorf("error = %v; want one that says that 192.0.2.77 is not an address of this host", err)
	}
}

func TestUncutSuperframeOfAKernelPeer(t *testing.T) {
	f := superframe(t, 5000, 1400)
	datagram := append(make([]byte, HeaderLen), f.Bytes()...)
	if o := uncut(datagram, 1400); o.GSO != frame.GSOUDP || o.Size != 1400 || o.Start != 34 {
		t.Errorf("an inner packet longer than a segment gives %+v, want a UDP superframe of 1400", o)
	}
	six := append(make([]byte, HeaderLen+14), 0x60, 0, 0, 0, 0x0b, 0xb8, frame.ProtoUDP, 64) // of 3000 bytes
	six[HeaderLen+12], six[HeaderLen+13] = 0x86, 0xdd
	six = append(six, make([]byte, 32+3000)...)
	if o := uncut(six, 1000); o.GSO != frame.GSOUDP || o.Size != 1000 || o.Start != 54 {
		t.Errorf("the same over IPv6 gives %+v, want a UDP superframe of 1000", o)
	}
	small := append(make([]byte, HeaderLen), udp(t, 64, 0).Bytes()...)
	run := append(bytes.Clone(small), small...)
	for name, datagram := range map[string][]byte{"a run of datagrams": run, "less than two headers": run[:HeaderLen+14+39], "no IP": make([]byte, 2*len(small))} {
		if o := uncut(datagram, len(small)); o.GSO != frame.GSONone {
			t.Errorf("%s gives %+v, want a plain one", name, o)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	b.to(t, a)
	small, large := udp(t, 64, 0), superframe(t, 60_000, 1410)
	b.Receiver.handler = discard{}
	work := func() {
		a.Send(p, 1, small, 1450)
		a.Send(p, 1, large, 1450)
		a.Sender.Flush()
		b.Ready()
	}
	work()
	if n := testing.AllocsPerRun(100, work); n != 0 {
		t.Errorf("%v allocations to send and receive, want none", n)
	}
}

// discard drops what a receiver hands on.
type discard struct{}

func (discard) Receive(VNI, *Peer, *frame.Frame) {}

func BenchmarkTunnel(b *testing.B) {
	for _, bm := range []struct {
		name string
		make func() *frame.Frame
		n    int
	}{
		{"superframe", func() *frame.Frame { return superframe(b, 61_512, 1398) }, 1},
		{"64 small frames", func() *frame.Frame { return udp(b, 64, 0) }, 64},
	} {
		b.Run(bm.name, func(b *testing.B) {
			x, y := pair(b, "127.0.0.1", "127.0.0.2", ChecksumAuto)
			p, err := x.Peer(y.cfg.Local)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := y.Peer(x.cfg.Local); err != nil {
				b.Fatal(err)
			}
			y.Receiver.handler = discard{}
			f := bm.make()
			b.SetBytes(int64(bm.n * f.Len()))
			b.ReportAllocs()
			for b.Loop() {
				for range bm.n {
					x.Send(p, 1, f, 1450)
				}
				x.Sender.Flush()
				y.Ready()
			}
		})
	}
}
