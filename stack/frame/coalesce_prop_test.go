package frame

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// flow is a sender under test: what it sent, in order.
type flow struct {
	next packet
	sent [][]byte
	to   *store
}

// key tells whose a frame is: EtherType, protocol, addresses and ports stand in it. Fragments here are first ones.
func key(t testing.TB, b []byte) string {
	f := wire(t, b)
	return string(f.SrcAddr().AsSlice()) + string([]byte{f.Proto}) + string(b[f.L4:f.L4+4])
}

// drawFlow begins flow number i.
func drawFlow(t *rapid.T, i int, sinks []*store) *flow {
	p := packet{
		client: byte(i % 3), port: uint16(i),
		v6:    rapid.Bool().Draw(t, "v6"),
		proto: rapid.SampledFrom([]uint8{ProtoTCP, ProtoTCP, ProtoUDP}).Draw(t, "proto"),
		noDF:  rapid.Bool().Draw(t, "noDF"),
		id:    rapid.Uint16().Draw(t, "id"),
		seq:   rapid.Uint32().Draw(t, "seq"),
	}
	if rapid.Bool().Draw(t, "tagged") {
		p.tags = []uint16{EtherVLAN}
	}
	if p.proto == ProtoTCP && rapid.Bool().Draw(t, "timestamps") {
		p.tcpOptions = timestamps
	}
	return &flow{next: p, to: rapid.SampledFrom(sinks).Draw(t, "sink")}
}

// send makes the flow's next frame: mostly one that follows on, with every way of not doing so in between.
func (fl *flow) send(t *rapid.T, tb testing.TB) *Frame {
	q := &fl.next
	q.flags = 0
	size := rapid.SampledFrom([]int{500, 500, 500, 500, 499, 501, 0, 1}).Draw(t, "size")
	q.payload = random(size, rapid.Uint64().Draw(t, "payload"))
	fragment := false
	switch rapid.IntRange(0, 19).Draw(t, "oddity") {
	case 0:
		q.flags = flagPSH
	case 1:
		q.flags = rapid.SampledFrom([]byte{flagFIN, flagSYN, flagRST, flagURG, flagCWR}).Draw(t, "flag")
	case 2:
		q.ack++
	case 3:
		q.seq += 7
	case 4:
		q.id += 3
	case 5:
		q.ttl = rapid.SampledFrom([]byte{63, 64}).Draw(t, "ttl")
	case 6:
		fragment = !q.v6
	}
	b := q.build()
	q.seq, q.id = q.seq+uint32(size), q.id+1
	if fragment {
		f := wire(tb, b)
		b[f.L3+6] |= 0x20
		put16(b[f.L3+10:], 0)
		put16(b[f.L3+10:], ^Sum(b[f.L3:f.L3+20], 0))
	}
	fl.sent = append(fl.sent, bytes.Clone(b))
	f := wire(tb, b)
	switch state := rapid.SampledFrom([]Checksum{Verified, Verified, Verified, Partial, Unverified}).Draw(t, "checksum"); {
	case state == Partial && !fragment:
		f.Checksum, f.Start, f.Offset = Partial, f.L4, uint16(f.checkOffset())
		put16(f.Bytes()[f.Start+f.Offset:], PseudoSum(f))
	case state == Verified:
		f.Checksum = Verified
	}
	return f
}

// meaningful returns b without the IPv4 identification that DF makes meaningless.
func meaningful(t testing.TB, b []byte) []byte {
	f := wire(t, b)
	if f.Ether == EtherIPv4 && b[f.L3+6]&0x40 != 0 {
		b = bytes.Clone(b)
		put16(b[f.L3+10:], Update(be16(b[f.L3+10:]), be16(b[f.L3+4:]), 0))
		put16(b[f.L3+4:], 0)
	}
	return b
}

// Whatever flows do, each receiver gets each flow's frames in order, to the byte, and no superframe that it does not take.
func TestCoalescerLosesAndReordersNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sinks := []*store{{joins: joinAll}, {joins: JoinTCP4}}
		flows := make([]*flow, rapid.IntRange(1, 24).Draw(rt, "flows"))
		for i := range flows {
			flows[i] = drawFlow(rt, i, sinks)
		}
		var c Coalescer
		var f *Frame
		total := 0
		for range rapid.IntRange(1, 40).Draw(rt, "bursts") {
			fl := rapid.SampledFrom(flows).Draw(rt, "flow")
			for range rapid.IntRange(1, 6).Draw(rt, "burst") {
				f = fl.send(rt, t)
				c.Add(f, fl.to)
				total++
			}
			if rapid.IntRange(0, 9).Draw(rt, "flush") == 0 {
				c.Flush()
			}
		}
		c.Flush()
		for _, s := range sinks {
			for _, d := range s.got {
				total -= d.n
				if s.joins == JoinTCP4 && d.o.GSO != GSONone && d.o.GSO != GSOTCP4 {
					rt.Fatalf("the plain sink got %+v", d.o)
				}
			}
			byFlow := map[string][][]byte{}
			for _, b := range s.apart(t) {
				k := key(t, b)
				byFlow[k] = append(byFlow[k], b)
			}
			for _, fl := range flows {
				if fl.to == s && len(fl.sent) > 0 {
					compareFlow(rt, t, byFlow[key(t, fl.sent[0])], fl.sent)
				}
			}
		}
		if total != 0 {
			rt.Fatalf("%d frames missing", total)
		}
	})
}

func compareFlow(rt *rapid.T, t testing.TB, got, want [][]byte) {
	if len(got) != len(want) {
		rt.Fatalf("a flow got %d frames, sent %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(meaningful(t, got[i]), meaningful(t, want[i])) {
			rt.Fatalf("frame %d is\n% x, want\n% x", i, got[i][:min(len(got[i]), 80)], want[i][:min(len(want[i]), 80)])
		}
	}
}
