package agent_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// What the hostile container may do is bounded: with all that it makes the agent hold, the agent stays below this. It is what Go's
// collector leaves, too, which lets a heap double.
const hostileLimit = 512 << 20

// hostile is a node with two containers on one network, and a host outside.
type hostile struct {
	t         testing.TB
	node      *node
	bad, good *container
	outside   site
	web       netip.AddrPort // outside
	gateway   netip.Addr
}

func newHostile(t testing.TB) *hostile {
	t.Helper()
	a, b := lay(t, wire{})
	lab.Must(t, a.Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	h := &hostile{t: t, bad: newContainer(t, 2), good: newContainer(t, 3), outside: b, gateway: netip.MustParseAddr("10.77.0.1")}
	h.node = start(t, a, a.config(h.bad, h.good))
	for _, c := range []*container{h.bad, h.good} {
		lab.Must(t, c.Default(h.gateway))
	}
	l := h.listen()
	h.web = netip.MustParseAddrPort(l.Addr().String())
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	h.unharmed("before")
	return h
}

// listen listens outside.
func (h *hostile) listen() (l net.Listener) {
	h.t.Helper()
	lab.Must(h.t, h.outside.Do(func() (err error) { l, err = net.Listen("tcp", h.outside.vtep.String()+":0"); return err }))
	return l
}

// unharmed fails the test if the other container is not served as if nothing went on.
func (h *hostile) unharmed(while string) {
	h.t.Helper()
	for _, to := range []netip.Addr{h.gateway, h.outside.vtep} {
		if !reaches(h.good, to) {
			h.t.Errorf("%s: the other container does not reach %s by ping", while, to)
		}
	}
	transport := &http.Transport{DialContext: func(_ context.Context, network, to string) (net.Conn, error) { return h.good.dial(network, to) }}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	r, err := client.Get("http://" + h.web.String())
	if err != nil {
		h.t.Errorf("%s: the other container asks the web server: %v", while, err)
		return
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); string(b) != "here" {
		h.t.Errorf("%s: the web server answers the other container %q, %v", while, b, err)
	}
	resolver := net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		return h.good.dial(network, netip.AddrPortFrom(h.gateway, 53).String())
	}}
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if got, err := resolver.LookupNetIP(ctx, "ip4", h.bad.Name()+".weft.internal."); err != nil || len(got) != 1 || got[0] != h.bad.v4 {
		h.t.Errorf("%s: the other container is told %v, %v for a name", while, got, err)
	}
}

// counted returns all that the node has refused, by reason: what it counts for frames, and for what leaves its networks.
func (h *hostile) counted(reason string) uint64 {
	h.t.Helper()
	n := h.node.refusals()[reason]
	s, err := h.node.Stats(h.t.Context())
	lab.Must(h.t, err)
	for _, net := range s.Networks {
		if net.Outside != nil {
			n += net.Outside.Drops[reason]
			if reason == "limited" {
				n += net.Outside.Limited
			}
		}
	}
	if s.Names != nil {
		n += s.Names.Drops[reason]
	}
	return n
}

// raw is an IPv4 socket of the hostile container's whose packets are as it likes, from their first byte on.
func (h *hostile) raw() (fd int) {
	h.t.Helper()
	lab.Must(h.t, h.bad.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}))
	h.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// header returns a packet with room for n bytes of payload.
func (h *hostile) header(proto byte, to netip.Addr, n int) []byte {
	p := make([]byte, 20+n)
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], h.bad.v4.AsSlice())
	copy(p[16:], to.AsSlice())
	return p
}

func random16(b []byte) { _, _ = rand.Read(b[:2]) }

// sum sets the checksum of a TCP segment or a UDP datagram, at its offset in the header.
func sum(p []byte, at int) {
	s := uint32(p[9]) + uint32(len(p)-20)
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			s += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			s += uint32(b[len(b)-1]) << 8
		}
	}
	p[20+at], p[21+at] = 0, 0
	add(p[12:])
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	binary.BigEndian.PutUint16(p[20+at:], ^uint16(s))
}

// syn is the opening of a connection from any port.
func (h *hostile) syn(to netip.AddrPort) []byte {
	p := h.header(unix.IPPROTO_TCP, to.Addr(), 20)
	random16(p[20:])
	binary.BigEndian.PutUint16(p[22:], to.Port())
	random16(p[24:])
	p[32], p[33] = 5<<4, 0x02
	binary.BigEndian.PutUint16(p[34:], 65535)
	sum(p, 16)
	return p
}

// datagram is one from any port.
func (h *hostile) datagram(to netip.AddrPort, payload []byte) []byte {
	p := h.header(unix.IPPROTO_UDP, to.Addr(), 8+len(payload))
	random16(p[20:])
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	copy(p[28:], payload)
	sum(p, 6)
	return p
}

func noise(n int) []byte { b := make([]byte, n); _, _ = rand.Read(b); return b }

func anyPort(a netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(noise(2))|1)
}

func TestFloodsOfOneContainerHarmNoOther(t *testing.T) {
	h := newHostile(t)
	nobody := netip.MustParseAddr("192.0.2.77") // nobody answers for it
	dns := netip.AddrPortFrom(h.gateway, 53)
	for _, c := range []struct {
		what    string
		packet  func(i int) []byte
		counted string // the reason by which some of them are refused
	}{
		{"SYNs to one that does not answer", func(i int) []byte { return h.syn(netip.AddrPortFrom(nobody, 80)) }, "flow-limit"},
		{"SYNs to one that answers", func(i int) []byte { return h.syn(h.web) }, ""},
		{"SYNs to the gateway", func(i int) []byte { return h.syn(dns) }, ""},
		{"datagrams to any port", func(i int) []byte { return h.datagram(anyPort(h.outside.vtep), noise(10)) }, ""},
		{"datagrams to any port of the gateway", func(i int) []byte { return h.datagram(anyPort(h.gateway), noise(10)) }, ""},
		{"datagrams to any port of the node", func(i int) []byte { return h.datagram(anyPort(h.node.site.vtep), noise(10)) }, ""},
		{"DNS garbage", func(i int) []byte { return h.datagram(dns, noise(1+i%600)) }, ""},
		{"fragments of packets that never get whole", func(i int) []byte {
			p := h.datagram(dns, noise(1000))
			binary.BigEndian.PutUint16(p[4:], uint16(i)|1)
			binary.BigEndian.PutUint16(p[6:], 0x2000|uint16(i%7)*125)
			return p
		}, "fragments-too-many"},
		{"a TTL of 0", func(i int) []byte { p := h.datagram(anyPort(h.outside.vtep), nil); p[8] = 0; return p }, "ttl-expired"},
		{"a source that is another's", func(i int) []byte { p := h.syn(h.web); copy(p[12:], h.good.v4.AsSlice()); sum(p, 16); return p }, "spoofed-address"},
		{"noise of any protocol", func(i int) []byte {
			p := h.header(byte(i), []netip.Addr{h.gateway, h.outside.vtep}[i%2], i%1400)
			_, _ = rand.Read(p[20:])
			return p
		}, "not-forwarded"},
	} {
		t.Run(c.what, func(t *testing.T) {
			h.t = t
			fd, before := h.raw(), uint64(0)
			if c.counted != "" {
				before = h.counted(c.counted)
			}
			var sent atomic.Int64
			var all sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			defer all.Wait()
			defer stop()
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					p := c.packet(i)
					to := &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}
					if err := unix.Sendto(fd, p, 0, to); err == nil {
						sent.Add(1)
					}
				}
			})
			lab.Eventually(t, func() bool { return sent.Load() > 5000 }, patience)
			h.unharmed("in the midst of it")
			lab.Eventually(t, func() bool { return sent.Load() > 20000 }, patience)
			h.unharmed("at its end")
			if got := h.node.rss(); got > hostileLimit {
				t.Errorf("the agent has %d MiB, expected %d at most", got>>20, hostileLimit>>20)
			}
			if c.counted != "" && h.counted(c.counted) == before {
				t.Errorf("none was counted as %s; counted is %v", c.counted, h.node.refusals())
			}
			s, err := h.node.Stats(t.Context())
			lab.Must(t, err)
			t.Logf("%d sent, %d MiB, %v, %+v", sent.Load(), h.node.rss()>>20, h.node.refusals(), s.Names)
		})
	}
}

func TestDatagramsAsLargeAsCanBePassAndHarmNobody(t *testing.T) {
	h := newHostile(t)
	var outside net.PacketConn
	lab.Must(t, h.outside.Do(func() (err error) { outside, err = net.ListenPacket("udp", h.outside.vtep.String()+":0"); return err }))
	defer outside.Close()
	const most = 65507
	for _, to := range []string{outside.LocalAddr().String(), netip.AddrPortFrom(h.gateway, 53).String()} {
		c, err := h.bad.dial("udp", to)
		lab.Must(t, err)
		defer c.Close()
		_, err = c.Write(make([]byte, most))
		lab.Must(t, err)
	}
	lab.Must(t, outside.SetReadDeadline(time.Now().Add(patience)))
	if n, _, err := outside.ReadFrom(make([]byte, most+1)); n != most {
		t.Errorf("outside has %d bytes, %v; expected %d", n, err, most)
	}
	h.unharmed("after them")
}

// A window closes, and stays so: the agent has what is under way then. The reader takes something at first, so that buffers and windows have
// reason to grow.
func TestConnectionsOfWhichNobodyReadsTakeBoundedMemory(t *testing.T) {
	const connections, first, limit = 400, 1 << 19, 256 << 20
	for _, c := range []struct {
		what string
		ends func(container, remote net.Conn) (from, to net.Conn)
	}{
		{"the container does not read", func(container, remote net.Conn) (net.Conn, net.Conn) { return remote, container }},
		{"the remote does not read", func(container, remote net.Conn) (net.Conn, net.Conn) { return container, remote }},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHostile(t)
			l := h.listen()
			defer l.Close()
			var all sync.WaitGroup
			defer all.Wait()
			var begun atomic.Int64
			for range connections {
				container, err := h.bad.dial("tcp", l.Addr().String())
				lab.Must(t, err)
				defer container.Close()
				remote, err := l.Accept()
				lab.Must(t, err)
				defer remote.Close()
				from, to := c.ends(container, remote)
				all.Go(func() {
					if _, err := io.CopyN(io.Discard, to, first); err == nil {
						begun.Add(1)
					}
				})
				all.Go(func() {
					b := make([]byte, 64<<10)
					for {
						if _, err := from.Write(b); err != nil {
							return
						}
					}
				})
			}
			lab.Eventually(t, func() bool { return begun.Load() == connections }, patience)
			// Until nothing moves any more.
			var last uint64
			lab.Eventually(t, func() bool {
				s, err := h.node.Stats(t.Context())
				lab.Must(t, err)
				before := last
				last = s.Networks[0].RxBytes + s.Networks[0].TxBytes
				h.unharmed("while it fills")
				return last-before < 128<<10
			}, patience)
			got := h.node.rss()
			t.Logf("%d MiB", got>>20)
			if got > limit {
				t.Errorf("the agent has %d MiB for %d connections, expected %d at most", got>>20, connections, limit>>20)
			}
			h.unharmed("when it is full")
		})
	}
}
