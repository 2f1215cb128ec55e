package router_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/router"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func port(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

func TestWhatIsNotForwardedIsRefusedForItsReason(t *testing.T) {
	const none = 255
	bad := func(b []byte, at int) []byte { b = slices.Clone(b); b[at] ^= 1; return b }
	for name, c := range map[string]struct {
		packet     []byte
		want       drop.Reason
		kind, code byte // of the ICMP error that the sender gets
	}{
		"loopback":                       {udp(port(inside4, 9), port(addr("127.0.0.1"), 9), nil), drop.Forbidden, 3, 13},
		"this network":                   {udp(port(inside4, 9), port(addr("0.1.2.3"), 9), nil), drop.Forbidden, 3, 13},
		"class E":                        {udp(port(inside4, 9), port(addr("240.0.0.1"), 9), nil), drop.Forbidden, none, 0},
		"multicast":                      {udp(port(inside4, 9), port(addr("224.0.0.251"), 9), nil), drop.Forbidden, none, 0},
		"all hosts":                      {udp(port(inside4, 9), port(addr("255.255.255.255"), 9), nil), drop.Forbidden, none, 0},
		"the subnet's broadcast":         {udp(port(inside4, 9), port(addr("10.0.0.255"), 9), nil), drop.Forbidden, 3, 13},
		"loopback over IPv6":             {udp(port(inside6, 9), port(addr("::1"), 9), nil), drop.Forbidden, 1, 1},
		"another's link-local address":   {udp(port(inside6, 9), port(addr("fe80::9"), 9), nil), drop.Forbidden, 1, 1},
		"multicast over IPv6":            {udp(port(inside6, 9), port(addr("ff02::fb"), 9), nil), drop.Forbidden, none, 0},
		"a TTL of 1":                     {hops(udp(port(inside4, 9), port(outside4, 9), nil), 1), drop.TTLExpired, 11, 0},
		"a TTL of 0":                     {hops(udp(port(inside4, 9), port(outside4, 9), nil), 0), drop.TTLExpired, 11, 0},
		"a hop limit of 1":               {hops(udp(port(inside6, 9), port(outside6, 9), nil), 1), drop.TTLExpired, 3, 0},
		"a TTL of 1, to a neighbor":      {hops(udp(port(inside4, 9), port(addr("10.0.0.7"), 9), nil), 1), drop.TTLExpired, 11, 0},
		"a TCP SYN with a TTL of 1":      {hops(tcp(port(inside4, 9), port(outside4, 9), syn, 1, 0, nil), 1), drop.TTLExpired, 11, 0},
		"a neighbor that nobody is":      {udp(port(inside4, 9), port(addr("10.0.0.7"), 9), nil), drop.NoRoute, 3, 1},
		"a neighbor over IPv6":           {udp(port(inside6, 9), port(addr("fd00::7"), 9), nil), drop.NoRoute, 1, 3},
		"another protocol":               {ip(inside4, outside4, 47, make([]byte, 8)), drop.NotForwarded, 3, 13},
		"another protocol over IPv6":     {ip(inside6, outside6, 47, make([]byte, 8)), drop.NotForwarded, 1, 1},
		"another protocol, to us":        {ip(inside4, gateway4, 47, make([]byte, 8)), drop.NotForwarded, 3, 2},
		"an echo reply":                  {summed(inside4, outside4, 1, []byte{0, 0, 0, 0, 0, 0, 0, 0}, 2), drop.NotForwarded, none, 0},
		"an ICMP error about a datagram": {summed(inside4, outside4, 1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, udp(port(outside4, 9), port(inside4, 9), nil)...), 2), drop.NotForwarded, none, 0},
		"a wrong header checksum":        {bad(udp(port(inside4, 9), port(outside4, 9), nil), 5), drop.BadChecksum, none, 0},
		"a wrong TCP checksum":           {bad(tcp(port(inside4, 9), port(outside4, 9), syn, 1, 0, nil), 24), drop.BadChecksum, none, 0},
		"a wrong UDP checksum, to us":    {bad(udp(port(inside4, 9), port(gateway4, 9), []byte("x")), 28), drop.BadChecksum, none, 0},
		"our own source":                 {udp(port(gateway4, 9), port(outside4, 9), nil), drop.SpoofedAddress, none, 0},
		"a loopback source":              {udp(port(addr("127.0.0.1"), 9), port(gateway4, 9), nil), drop.SpoofedAddress, none, 0},
		"no source":                      {udp(port(addr("::"), 9), port(gateway6, 9), nil), drop.SpoofedAddress, none, 0},
		"a link-local source":            {udp(port(addr("fe80::2"), 9), port(outside6, 9), nil), drop.NotForwarded, none, 0},
		"a port of ours that is closed":  {udp(port(inside4, 9), port(gateway4, 9), []byte("x")), drop.None, 3, 3},
		"one of ours over IPv6":          {udp(port(inside6, 9), port(gateway6, 9), []byte("x")), drop.None, 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			if got := w.receive(slices.Clone(c.packet)); got != c.want {
				t.Errorf("Receive gave %v, want %v", got, c.want)
			}
			got := w.sent()
			if c.kind == none {
				if len(got) > 0 {
					t.Errorf("the container was told % x", got[0])
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("the container was sent %d packets, want an ICMP error", len(got))
			}
			kind, code, rest := icmpOf(t, got[0])
			if kind != c.kind || code != c.code {
				t.Errorf("the container got ICMP type %d code %d, want %d and %d", kind, code, c.kind, c.code)
			}
			if c.want == drop.NoRoute {
				c.packet = hops(slices.Clone(c.packet), 63) // it had been forwarded
			}
			if quote := rest[4:]; !bytes.HasPrefix(c.packet, quote[:min(len(quote), len(c.packet))]) {
				t.Errorf("the error quotes\n% x, want\n% x", quote, c.packet)
			}
			src := got[0][12:16]
			if got[0][0]>>4 == 6 {
				src = got[0][8:24]
			}
			if a, _ := netip.AddrFromSlice(src); a != gateway4 && a != gateway6 {
				t.Errorf("the error came from %s, want the gateway", a)
			}
		})
	}
}

func TestFramesThatAreNotIPAreRefused(t *testing.T) {
	w := newRaw(t)
	f := framed(udp(port(inside4, 9), port(outside4, 9), nil))
	b := f.Bytes()
	tagged := slices.Concat(make([]byte, frame.Headroom), b[:12], []byte{0x81, 0, 0, 5}, b[12:])
	f.Set(tagged, frame.Headroom, len(tagged)-frame.Headroom)
	if f.Parse() != drop.None || w.router.Receive(nil, f) != drop.NotForwarded {
		t.Error("a tagged frame was taken")
	}
	binary.BigEndian.PutUint16(b[12:], 0x88cc)
	f.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
	if f.Parse() != drop.None || w.router.Receive(nil, f) != drop.NoRoute {
		t.Error("a frame without IP was taken")
	}
}

func TestEchoToTheGatewayIsAnswered(t *testing.T) {
	for name, c := range map[string]struct{ src, dst netip.Addr }{"IPv4": {inside4, gateway4}, "IPv6": {inside6, gateway6}} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			if reason := w.receive(hops(echo(c.src, c.dst, []byte("payload")), 1)); reason != drop.None {
				t.Fatalf("Receive gave %v", reason)
			}
			kind, code, rest := icmpOf(t, w.one())
			if want := byte(0); c.src.Is6() {
				want = 129
				if kind != want || code != 0 {
					t.Errorf("the answer is of type %d code %d", kind, code)
				}
			} else if kind != want || code != 0 {
				t.Errorf("the answer is of type %d code %d", kind, code)
			}
			if string(rest) != "\x12\x34\x00\x07payload" {
				t.Errorf("the answer carries % x", rest)
			}
		})
	}
}

func TestDatagramsAndEchoesForElsewhereAreForwarded(t *testing.T) {
	for name, b := range map[string][]byte{
		"UDP":            udp(port(inside4, 9), port(outside4, 53), []byte("x")),
		"UDP over IPv6":  udp(port(inside6, 9), port(outside6, 53), []byte("x")),
		"echo":           echo(inside4, outside4, []byte("x")),
		"echo over IPv6": echo(inside6, outside6, []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			var got []byte
			w.datagram = func(f *frame.Frame) drop.Reason {
				got = slices.Clone(f.Bytes()[f.L3:f.End])
				return drop.FlowLimit
			}
			if reason := w.receive(slices.Clone(b)); reason != drop.FlowLimit {
				t.Errorf("Receive gave %v, want what Datagram gave", reason)
			}
			if !bytes.Equal(got, b) {
				t.Errorf("Datagram got % x, want % x", got, b)
			}
		})
	}
}

func TestANeighborsPacketIsForwardedWithOneHopLess(t *testing.T) {
	for name, c := range map[string]struct{ src, dst netip.Addr }{
		"IPv4": {addr("10.0.0.3"), inside4}, "IPv6": {addr("fd00::3"), inside6},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			b := udp(port(c.src, 9), port(c.dst, 9), []byte("x"))
			if reason := w.receive(slices.Clone(b)); reason != drop.None {
				t.Fatalf("Receive gave %v", reason)
			}
			if got := w.one(); !bytes.Equal(got, hops(b, 63)) {
				t.Errorf("the container got % x, want % x", got, b)
			}
		})
	}
}

func TestASegmentOfNoConnectionIsReset(t *testing.T) {
	w := newRaw(t)
	for name, c := range map[string]struct {
		dst      netip.AddrPort
		flags    byte
		seq, ack uint32 // of the reset
	}{
		"an ACK for elsewhere":      {port(outside4, 80), ack, 77, 0},
		"a SYN-ACK":                 {port(outside4, 80), syn | ack, 77, 0},
		"a SYN to a port of ours":   {port(gateway4, 80), syn, 0, 6},
		"an ACK to a port of ours":  {port(gateway4, 80), ack, 77, 0},
		"a FIN without anything":    {port(outside4, 80), fin, 0, 6},
		"nothing at all":            {port(outside4, 80), 0, 0, 5},
		"a SYN-ACK to ours at once": {port(gateway4, 80), syn | ack, 77, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if reason := w.receive(tcp(port(inside4, 999), c.dst, c.flags, 5, 77, nil)); reason != drop.None {
				t.Fatalf("Receive gave %v", reason)
			}
			b := w.one()[20:]
			if b[13]&rst == 0 || binary.BigEndian.Uint32(b[4:]) != c.seq || b[13]&ack != 0 && binary.BigEndian.Uint32(b[8:]) != c.ack {
				t.Errorf("the answer is % x, want a reset with sequence %d and acknowledgement %d", b, c.seq, c.ack)
			}
		})
	}
	if reason := w.receive(tcp(port(inside4, 999), port(outside4, 80), rst, 5, 0, nil)); reason != drop.None {
		t.Fatalf("Receive gave %v", reason)
	}
	if got := w.sent(); len(got) > 0 {
		t.Errorf("a reset was answered with % x", got[0])
	}
}

func TestUnreachableQuotesTheSYN(t *testing.T) {
	for name, c := range map[string]struct{ src, dst netip.Addr }{"IPv4": {inside4, outside4}, "IPv6": {inside6, outside6}} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			w.tcp = func(_ context.Context, q *router.Request) { q.Unreachable(packet.HostUnreachable) }
			b := tcp(port(c.src, 999), port(c.dst, 80), syn, 0xdeadbeef, 0, nil)
			w.receive(slices.Clone(b))
			_, _, rest := icmpOf(t, w.one())
			if !bytes.Equal(rest[4:], b) {
				t.Errorf("the error quotes\n% x, want\n% x", rest[4:], b)
			}
		})
	}
}
