package frame

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
)

// cut cuts f and returns the wire frames, without their encapsulation.
func cut(t testing.TB, f *Frame, mtu int, encap []byte) [][]byte {
	t.Helper()
	space := CutSpace(f, mtu, len(encap))
	segs, used, r := Cut(f, mtu, encap, make([]byte, space), nil)
	if r != drop.None || used != space {
		t.Fatalf("Cut = %v with %d bytes used, want none with %d", r, used, space)
	}
	var out [][]byte
	for _, s := range segs {
		if !bytes.HasPrefix(s.Header, encap) {
			t.Fatalf("header begins with % x, want % x", s.Header[:len(encap)], encap)
		}
		out = append(out, append(bytes.Clone(s.Header[len(encap):]), s.Payload...))
	}
	return out
}

func TestCutMakesFramesThatAnotherParserFindsRight(t *testing.T) {
	encap := []byte{8, 0, 0, 0, 0, 0x10, 1, 0}
	for _, total := range []int{1, 1397, 1398, 1399, 2796, 9001, 65431} {
		for name, p := range variants(total) {
			p.flags = flagPSH | flagFIN | flagCWR
			p.seq, p.id = 0xffff_ff00, 0xfffe // both wrap
			size := 1398
			t.Run(fmt.Sprintf("%s, %d bytes", name, total), func(t *testing.T) {
				f := p.super(t, size)
				frames := cut(t, f, 1500, encap)
				if want := (total + size - 1) / size; len(frames) != want {
					t.Fatalf("%d frames, want %d", len(frames), want)
				}
				var stream []byte
				for i, b := range frames {
					stream = append(stream, checkSegment(t, p, b, len(stream), i, len(frames))...)
				}
				if !bytes.Equal(stream, p.payload) {
					t.Error("the segments' payloads differ from the superframe's")
				}
			})
		}
	}
}

// checkSegment holds segment i of n of p against what the sender would have sent, and returns its payload.
func checkSegment(t *testing.T, p packet, b []byte, at, i, n int) []byte {
	t.Helper()
	d := decode(t, b)
	payload := wire(t, b).Bytes()[wire(t, b).Payload:]
	if ip, _ := d.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ip != nil && ip.Id != p.id+uint16(i) {
		t.Errorf("segment %d has id %#x, want %#x", i, ip.Id, p.id+uint16(i))
	}
	tcp, _ := d.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if tcp == nil {
		if udp := d.Layer(layers.LayerTypeUDP).(*layers.UDP); int(udp.Length) != 8+len(payload) {
			t.Errorf("segment %d has UDP length %d, want %d", i, udp.Length, 8+len(payload))
		}
		return payload
	}
	if tcp.Seq != p.seq+uint32(at) {
		t.Errorf("segment %d has sequence number %d, want %d", i, tcp.Seq, p.seq+uint32(at))
	}
	if last := i == n-1; tcp.PSH != last || tcp.FIN != last || tcp.CWR != (i == 0) || !tcp.ACK {
		t.Errorf("segment %d of %d has PSH %v FIN %v CWR %v ACK %v", i, n, tcp.PSH, tcp.FIN, tcp.CWR, tcp.ACK)
	}
	return payload
}

// What a sender without offloads would have sent is what Cut must make, to the byte.
func TestCutEqualsFramesBuiltOneByOne(t *testing.T) {
	for name, p := range variants(5000) {
		t.Run(name, func(t *testing.T) {
			for i, b := range cut(t, p.super(t, 999), 1450, nil) {
				want := p
				want.id, want.seq = p.id+uint16(i), p.seq+uint32(i*999)
				want.payload = p.payload[i*999 : min(i*999+999, len(p.payload))]
				if !bytes.Equal(b, want.build()) {
					t.Fatalf("frame %d is\n% x, want\n% x", i, b[:90], want.build()[:90])
				}
			}
		})
	}
}

func TestCutKeepsToTheMTU(t *testing.T) {
	tcp, udp := packet{payload: make([]byte, 5000)}, packet{proto: ProtoUDP, payload: make([]byte, 5000)}
	for _, b := range cut(t, tcp.super(t, 4000), 1000, nil) {
		if len(b) > 1014 {
			t.Errorf("a TCP frame of %d bytes, mtu 1000", len(b))
		}
	}
	none := packet{tcpOptions: timestamps}.super(t, 1000)
	if n := len(cut(t, none, 1450, nil)); n != 1 {
		t.Errorf("a superframe without payload became %d frames, want 1", n)
	}
	scratch := make([]byte, 1<<16)
	for name, c := range map[string]struct {
		f       *Frame
		mtu     int
		scratch []byte
		want    drop.Reason
	}{
		"datagrams longer than the mtu":       {udp.super(t, 1423), 1450, scratch, drop.TooBig},
		"datagrams as long as the mtu":        {udp.super(t, 1422), 1450, scratch, drop.None},
		"an mtu shorter than the headers":     {tcp.super(t, 1000), 40, scratch, drop.TooBig},
		"more segments than scratch can hold": {tcp.super(t, 100), 1450, scratch[:50*54-1], drop.BadOffload},
		"as many segments as it can hold":     {tcp.super(t, 100), 1450, scratch[:50*54], drop.None},
		"a frame that is no superframe":       {wire(t, tcp.build()), 1450, scratch, drop.BadOffload},
	} {
		t.Run(name, func(t *testing.T) {
			segs, used, r := Cut(c.f, c.mtu, nil, c.scratch, nil)
			if r != c.want || r != drop.None && (len(segs) > 0 || used > 0) {
				t.Errorf("Cut = %d segments, %d bytes used, %v; want %v", len(segs), used, r, c.want)
			}
		})
	}
}

func TestCutWritesAZeroSumOfUDPAsOnes(t *testing.T) {
	p := packet{proto: ProtoUDP, payload: make([]byte, 2)}
	copy(p.payload, p.build()[40:42]) // adding the checksum that the rest has makes the sum of all zero
	p.payload = append(p.payload, p.payload...)
	for i, b := range cut(t, p.super(t, 2), 1450, nil) {
		if got := be16(b[40:]); got != 0xffff {
			t.Errorf("datagram %d has checksum %#04x, want 0xffff", i, got)
		}
	}
}

// Under a routing header the addresses of the IPv6 header are not those of the pseudo-header: what the sender summed counts.
func TestCutTrustsThePseudoSumUnderARoutingHeader(t *testing.T) {
	p := packet{v6: true, payload: random(3000, 4), extensions: []extension{{extRouting, []byte{0, 4, 1, 0, 0, 0, 0}}}}
	f := p.super(t, 1000)
	f.Bytes()[53] ^= 0xff // the next hop, where the sum has the final one
	for i, b := range cut(t, f, 1450, nil) {
		b[53] ^= 0xff
		if g := wire(t, edit(b, func(b []byte) { b[57] = 0 })); !g.Verify() || g.Checksum != Verified {
			t.Errorf("segment %d has a wrong checksum at its final destination", i)
		}
	}
}

func TestCutDoesNotAllocate(t *testing.T) {
	f := packet{tcpOptions: timestamps, payload: make([]byte, 60000)}.super(t, 1398)
	scratch, segs, encap := make([]byte, 1<<16), make([]Segment, 0, 64), make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() { Cut(f, 1450, encap, scratch, segs) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkCut(b *testing.B) {
	for name, p := range map[string]packet{
		"tcp4": {tcpOptions: timestamps}, "tcp6": {v6: true, tcpOptions: timestamps}, "udp4": {proto: ProtoUDP},
	} {
		for _, n := range []int{46 * 1370, 46} { // 64 KiB, and nothing but headers
			p.payload = make([]byte, n)
			f := p.super(b, max(n/46, 1))
			scratch, segs, encap := make([]byte, 1<<16), make([]Segment, 0, 64), make([]byte, 8)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					Cut(f, 1450, encap, scratch, segs)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/46, "ns/segment")
			})
		}
	}
}
