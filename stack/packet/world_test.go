package packet

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// host is a container's address, and who one elsewhere, of both families.
type pair struct{ host, who, gateway netip.Addr }

var families = map[string]pair{
	"IPv4": {netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("10.0.0.1")},
	"IPv6": {netip.MustParseAddr("fd00::2"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("fd00::1")},
}

// link keeps what it is sent, as a bridge would hand it to a device: with an Ethernet header.
type link struct {
	frames []*frame.Frame
	refuse drop.Reason
}

func (l *link) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	if l.refuse != drop.None {
		return l.refuse
	}
	b := slices.Concat(parts...)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	if to.Is6() {
		b[12], b[13] = 0x86, 0xdd
	}
	f := new(frame.Frame)
	f.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
	f.Offload = *o
	l.frames = append(l.frames, f)
	return drop.None
}

// wire returns the wire frames of all that was sent. Each is well-formed, and an independent parser agrees with its checksums.
func (l *link) wire(t testing.TB) (all [][]byte) {
	t.Helper()
	for _, f := range l.frames {
		if r := f.Parse(); r != drop.None {
			t.Fatalf("a frame contradicts itself: %s: %+v % x", r, f.Offload, f.Bytes()[:min(f.Len(), 80)])
		}
		if f.GSO == frame.GSONone {
			f.Complete()
			all = append(all, f.Bytes())
			continue
		}
		segs, _, r := frame.Cut(f, f.Len(), nil, make([]byte, 1<<20), nil)
		if r != drop.None {
			t.Fatalf("a superframe cannot be cut: %s", r)
		}
		for _, s := range segs {
			all = append(all, slices.Concat(s.Header, s.Payload))
		}
	}
	for _, b := range all {
		decode(t, b)
	}
	return all
}

// decode has an independent parser read b and check its checksums, but for those of fragments.
func decode(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v in % x", e.Error(), b[:min(len(b), 80)])
	}
	for _, l := range p.Layers() {
		if n, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := n.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
		t.Fatalf("gopacket: checksums: %v %+v in % x", err, bad, b[:min(len(b), 80)])
	}
	return p
}

// assemble puts the fragments of one datagram together, and returns its transport protocol and what it carries.
func assemble(t *testing.T, frames [][]byte, mtu int) (proto uint8, whole []byte) {
	t.Helper()
	var id uint32
	for i, b := range frames {
		if len(b)-Room > mtu {
			t.Fatalf("fragment %d has %d bytes, MTU %d", i, len(b)-Room, mtu)
		}
		var at int
		var more bool
		var this uint32
		var body []byte
		if b[Room]>>4 == 4 {
			ip := decode(t, b).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			at, more, this, body = int(ip.FragOffset)*8, ip.Flags&layers.IPv4MoreFragments != 0, uint32(ip.Id), ip.Payload
			proto = uint8(ip.Protocol)
		} else {
			f := decode(t, b).Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
			at, more, this, body = int(f.FragmentOffset)*8, f.MoreFragments, f.Identification, f.Payload
			proto = uint8(f.NextHeader)
		}
		if i == 0 {
			id = this
		}
		if at != len(whole) || this != id || more != (i < len(frames)-1) {
			t.Fatalf("fragment %d at %d with id %d, more %v; expected at %d with id %d", i, at, this, more, len(whole), id)
		}
		whole = append(whole, body...)
	}
	return proto, whole
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// sum is the ones-complement sum of RFC 1071, the slow way.
func sum(b ...byte) uint16 {
	var s uint32
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// checked reports whether the transport checksum of what lies between two addresses is right.
func checked(src, dst netip.Addr, proto uint8, b []byte) bool {
	if proto == frame.ProtoICMP {
		return sum(b...) == 0xffff
	}
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, proto, byte(len(b) >> 8), byte(len(b))})
	return sum(append(pseudo, b...)...) == 0xffff
}

func (p pair) header(df bool) Header {
	return Header{Src: netip.AddrPortFrom(p.who, 9999), Dst: netip.AddrPortFrom(p.host, 4000), TTL: 55, TOS: 0xb9, DF: df}
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, expected other %d", what, len(got), len(want))
	}
}
