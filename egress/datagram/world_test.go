package datagram

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

const patience = 10 * time.Second

// family is a container, its gateway, and a neighbor outside.
type family struct{ host, gateway, outside, elsewhere netip.Addr }

var families = map[string]family{
	"IPv4": {netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.7"), netip.MustParseAddr("127.0.0.8")},
	"IPv6": {netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::1"), netip.MustParseAddr("::1")},
}

// link is the router of a network with one container: what it is sent arrives there.
type link struct {
	arrived chan *frame.Frame
	mtu     int
}

func newLink() *link { return &link{arrived: make(chan *frame.Frame, 1<<12), mtu: 1450} }

func (l *link) MTU() int { return l.mtu }

func (l *link) Gateway(v6 bool) (netip.Addr, bool) {
	if v6 {
		return families["IPv6"].gateway, true
	}
	return families["IPv4"].gateway, true
}

func (l *link) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	select {
	case l.arrived <- framed(to.Is4(), o, slices.Concat(parts...)):
		return drop.None
	default:
		return drop.QueueFull
	}
}

// framed is a frame of b, which has room for an Ethernet header in front.
func framed(v4 bool, o *frame.Offload, b []byte) *frame.Frame {
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	if !v4 {
		b[12], b[13] = 0x86, 0xdd
	}
	f := new(frame.Frame)
	f.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
	f.Offload = *o
	return f
}

// next returns what arrives next at the container, parsed.
func (l *link) next(t testing.TB) *frame.Frame {
	t.Helper()
	select {
	case f := <-l.arrived:
		if r := f.Parse(); r != drop.None {
			t.Fatalf("a malformed frame arrived: %s: % x", r, f.Bytes())
		}
		f.Complete()
		if f.GSO == frame.GSONone {
			f.Checksum = frame.Unverified
			if !f.Verify() {
				t.Fatalf("a frame with a wrong checksum arrived: % x", f.Bytes())
			}
		}
		return f
	case <-time.After(patience):
		t.Fatal("nothing arrived")
		return nil
	}
}

// payload is what a UDP datagram, or superframe, carries.
func payload(f *frame.Frame) []byte { return f.Bytes()[f.Payload:f.End] }

// one keeps the one packet that a Writer writes.
type one struct{ f *frame.Frame }

func (k *one) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	k.f = framed(to.Is4(), o, slices.Concat(parts...))
	return drop.None
}

// udp is a container's datagram or, where segment is not 0, superframe.
func udp(t testing.TB, h packet.Header, b []byte, segment int) *frame.Frame {
	t.Helper()
	var w packet.Writer
	var k one
	if r := w.UDP(&k, h, b, segment, 65575); r != drop.None {
		t.Fatal(r)
	}
	if r := k.f.Parse(); r != drop.None {
		t.Fatal(r)
	}
	return k.f
}

// echo is a container's echo request.
func echo(t testing.TB, src, dst netip.Addr, ttl uint8, id, seq uint16, b []byte) *frame.Frame {
	t.Helper()
	var w packet.Writer
	var k one
	if r := w.EchoReply(&k, src, dst, ttl, id, seq, b, 65535); r != drop.None {
		t.Fatal(r)
	}
	if r := k.f.Parse(); r != drop.None {
		t.Fatal(r)
	}
	m := k.f.Bytes()[k.f.L4:]
	was := binary.BigEndian.Uint16(m)
	if m[0] = echo4; src.Is6() {
		m[0] = echo6
	}
	binary.BigEndian.PutUint16(m[2:], frame.Update(binary.BigEndian.Uint16(m[2:]), was, binary.BigEndian.Uint16(m)))
	return k.f
}

// clock is a clock that is set by hand.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(1000, c.ns.Load()) }

// advance lets time pass, and flows end that do by then.
func (c *clock) advance(t *testing.T, table *Table, d time.Duration) {
	t.Helper()
	c.ns.Add(int64(d))
	if err := table.loop.Load().Do(table.expire); err != nil {
		t.Fatal(err)
	}
}

// open returns a table that is closed when the test ends, and that has given back all its descriptors then.
func open(t testing.TB, c Config) *Table {
	t.Helper()
	before := descriptors(t)
	table, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
		if s := table.Stats(); s.Sockets != 0 {
			t.Errorf("%d sockets are counted after all were closed", s.Sockets)
		}
	})
	return table
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// anywhere admits all.
func anywhere(_ uint8, dst netip.AddrPort) (netip.AddrPort, bool) { return dst, true }

// server is a UDP socket outside.
type server struct {
	fd int
	at netip.AddrPort
}

// serve opens a socket at an address, and closes it when the test ends.
func serve(t testing.TB, at netip.Addr) *server {
	t.Helper()
	fd, err := socket(frame.ProtoUDP, at.Is4())
	if err != nil {
		t.Fatal(err)
	}
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(at.AsSlice()[:4])}
	if at.Is6() {
		to = &unix.SockaddrInet6{Addr: at.As16()}
	}
	if err := unix.Bind(fd, to); err != nil {
		t.Fatal(err)
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{fd, addrPort(got)}
	t.Cleanup(s.close)
	return s
}

// close closes the socket, if that has not been done.
func (s *server) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), uint16(s.Port))
	}
	return netip.AddrPort{}
}

// receive returns the next datagram, or run of them, what came with it, and from where.
func (s *server) receive(t testing.TB) ([]byte, arrival, unix.Sockaddr) {
	t.Helper()
	b, control := make([]byte, 1<<16), make([]byte, 256)
	p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if n, err := unix.Poll(p, 100); n == 0 || err == unix.EINTR {
			continue
		}
		n, k, _, from, err := unix.Recvmsg(s.fd, b, control, 0)
		if err == unix.EAGAIN {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return b[:n], readControls(control[:k]), from
	}
	t.Fatal("nothing arrived outside")
	return nil, arrival{}, nil
}

// send sends b, in datagrams of segment bytes if that is not 0.
func (s *server) send(t testing.TB, b []byte, segment int, to unix.Sockaddr) {
	t.Helper()
	var c controls
	if segment > 0 {
		c.segment(segment)
	}
	if _, err := unix.SendmsgN(s.fd, b, c.bytes()[:c.n], to, 0); err != nil {
		t.Fatal(err)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// must ends the test unless r is want.
func must(t testing.TB, r, want drop.Reason) {
	t.Helper()
	if r != want {
		t.Fatalf("%s, expected %s", r, want)
	}
}
