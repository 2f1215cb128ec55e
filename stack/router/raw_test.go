package router_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
)

// raw is a container that speaks by hand: it keeps what it is sent.
type raw struct {
	*forward
	t      testing.TB
	router *router.Router

	mu   sync.Mutex
	got  [][]byte // IP packets, checksums paid
	came chan struct{}
}

func newRaw(t testing.TB) *raw {
	w := &raw{forward: &forward{}, t: t, came: make(chan struct{}, 1)}
	w.router = start(t, config(w, w.forward))
	return w
}

// Send is the router's Link.
func (w *raw) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if to != inside4 && to != inside6 {
		return drop.NoRoute
	}
	b := make([]byte, frame.Headroom)
	for _, p := range parts {
		b = append(b, p...)
	}
	kind := uint16(frame.EtherIPv4)
	if to.Is6() {
		kind = frame.EtherIPv6
	}
	binary.BigEndian.PutUint16(b[frame.Headroom+12:], kind)
	var f frame.Frame
	f.Set(b, frame.Headroom, len(b)-frame.Headroom)
	f.Offload = *o
	if reason := f.Parse(); reason != drop.None {
		w.t.Errorf("a frame that was sent does not parse: %v: % x", reason, b)
		return reason
	}
	f.Complete()
	f.Checksum = frame.Unverified
	if f.GSO == frame.GSONone && !f.Verify() {
		w.t.Errorf("a checksum is wrong: % x", b)
	}
	w.got = append(w.got, slices.Clone(f.Bytes()[f.L3:f.End]))
	select {
	case w.came <- struct{}{}:
	default:
	}
	return drop.None
}

// sent returns what the container was sent, and forgets it.
func (w *raw) sent() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// one returns the one packet that the container is sent.
func (w *raw) one() []byte {
	w.t.Helper()
	got := w.sent()
	for len(got) == 0 {
		next(w.t, w.came)
		got = w.sent()
	}
	if len(got) != 1 {
		w.t.Fatalf("the container was sent %d packets, want one", len(got))
	}
	return got[0]
}

// await returns the packet that the container is to be sent, and forgets the others.
func (w *raw) await(is func(b []byte) bool) []byte {
	w.t.Helper()
	for {
		for _, b := range w.sent() {
			if is(b) {
				return b
			}
		}
		next(w.t, w.came)
	}
}

// receive hands the router an IP packet in a frame, and waits until it has seen to it.
func (w *raw) receive(ip []byte) drop.Reason {
	w.t.Helper()
	f := framed(ip)
	if reason := f.Parse(); reason != drop.None {
		w.t.Fatalf("the test's packet does not parse: %v: % x", reason, ip)
	}
	reason := w.router.Receive(nil, f)
	for !w.router.Settled() {
		runtime.Gosched()
	}
	return reason
}

// framed puts an IP packet into an Ethernet frame.
func framed(ip []byte) *frame.Frame {
	b := make([]byte, frame.Headroom+14, frame.Headroom+14+len(ip))
	copy(b[frame.Headroom:], []byte{2, 0x42, 10, 0, 0, 1, 2, 0x42, 10, 0, 0, 2})
	kind := uint16(frame.EtherIPv4)
	if len(ip) > 0 && ip[0]>>4 == 6 {
		kind = frame.EtherIPv6
	}
	binary.BigEndian.PutUint16(b[frame.Headroom+12:], kind)
	b = append(b, ip...)
	f := new(frame.Frame)
	f.Set(b, frame.Headroom, len(b)-frame.Headroom)
	return f
}

// ip makes an IP packet with TTL 64.
func ip(src, dst netip.Addr, proto byte, payload []byte) []byte {
	if src.Is4() {
		b := make([]byte, 20, 20+len(payload))
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		return append(sum4(b), payload...)
	}
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, payload...)
}

// sum4 fills in the checksum of an IPv4 header.
func sum4(b []byte) []byte {
	h := b[:int(b[0]&15)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^frame.Sum(h, 0))
	return b
}

// hops sets a packet's TTL or hop limit.
func hops(b []byte, n byte) []byte {
	if b[0]>>4 == 6 {
		b[7] = n
		return b
	}
	b[8] = n
	return sum4(b)
}

// summed makes an IP packet of a transport message whose checksum is at offset at, and fills that in.
func summed(src, dst netip.Addr, proto byte, m []byte, at int) []byte {
	b := ip(src, dst, proto, m)
	f := framed(b)
	if f.Parse() != drop.None {
		panic("a test's packet does not parse")
	}
	pseudo := frame.PseudoSum(f)
	if proto == frame.ProtoICMP {
		pseudo = 0
	}
	m = b[len(b)-len(m):]
	binary.BigEndian.PutUint16(m[at:], ^frame.Sum(m, pseudo))
	return b
}

func udp(src, dst netip.AddrPort, payload []byte) []byte {
	m := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(m, src.Port())
	binary.BigEndian.PutUint16(m[2:], dst.Port())
	binary.BigEndian.PutUint16(m[4:], uint16(8+len(payload)))
	return summed(src.Addr(), dst.Addr(), frame.ProtoUDP, append(m, payload...), 6)
}

// Flags of tcp.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

func tcp(src, dst netip.AddrPort, flags byte, seq, acked uint32, payload []byte) []byte {
	m := make([]byte, 20, 20+len(payload))
	binary.BigEndian.PutUint16(m, src.Port())
	binary.BigEndian.PutUint16(m[2:], dst.Port())
	binary.BigEndian.PutUint32(m[4:], seq)
	binary.BigEndian.PutUint32(m[8:], acked)
	m[12], m[13] = 5<<4, flags
	binary.BigEndian.PutUint16(m[14:], 65535)
	return summed(src.Addr(), dst.Addr(), frame.ProtoTCP, append(m, payload...), 16)
}

// echo makes an echo request.
func echo(src, dst netip.Addr, payload []byte) []byte {
	m := append([]byte{8, 0, 0, 0, 0x12, 0x34, 0, 7}, payload...)
	proto := byte(frame.ProtoICMP)
	if src.Is6() {
		m[0], proto = 128, frame.ProtoICMPv6
	}
	return summed(src, dst, proto, m, 2)
}

// icmpOf returns type, code and the rest of a packet's ICMP message.
func icmpOf(t testing.TB, b []byte) (kind, code byte, rest []byte) {
	t.Helper()
	n, proto := 20, byte(frame.ProtoICMP)
	if b[0]>>4 == 6 {
		n, proto = 40, frame.ProtoICMPv6
	}
	if got := protoOf(b); got != proto {
		t.Fatalf("protocol %d was sent, want ICMP: % x", got, b)
	}
	return b[n], b[n+1], b[n+4:]
}

func protoOf(b []byte) byte {
	if b[0]>>4 == 6 {
		return b[6]
	}
	return b[9]
}
