package router_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// fragment is the part of a packet's payload from offset from to to, in a packet of its own.
func fragment(b []byte, id uint32, from, to int) []byte {
	if b[0]>>4 == 4 {
		h := slices.Clone(b[:20])
		data := b[20:]
		word := uint16(from / 8)
		if to < len(data) {
			word |= 0x2000
		}
		binary.BigEndian.PutUint16(h[2:], uint16(20+to-from))
		binary.BigEndian.PutUint16(h[4:], uint16(id))
		binary.BigEndian.PutUint16(h[6:], word)
		return append(sum4(h), data[from:to]...)
	}
	h, data := slices.Clone(b[:40]), b[40:]
	word := uint16(from)
	if to < len(data) {
		word |= 1
	}
	binary.BigEndian.PutUint16(h[4:], uint16(8+to-from))
	ext := []byte{h[6], 0, 0, 0, 0, 0, 0, 0}
	h[6] = 44
	binary.BigEndian.PutUint16(ext[2:], word)
	binary.BigEndian.PutUint32(ext[4:], id)
	return slices.Concat(h, ext, data[from:to])
}

// fragments cuts a packet in pieces of n bytes.
func fragments(b []byte, id uint32, n int) (all [][]byte) {
	payload := len(b) - 20
	if b[0]>>4 == 6 {
		payload = len(b) - 40
	}
	for from := 0; from < payload; from += n {
		all = append(all, fragment(b, id, from, min(from+n, payload)))
	}
	return all
}

// catching has the datagrams kept that are forwarded.
func (w *raw) catching() (got *[][]byte) {
	got = new([][]byte)
	w.datagram = func(f *frame.Frame) drop.Reason {
		if f.Fragment || !f.Verify() {
			w.t.Error("what was put together is not whole")
		}
		*got = append(*got, slices.Clone(f.Bytes()[f.L3:f.End]))
		return drop.None
	}
	return got
}

func TestFragmentsArePutTogetherInAnyOrder(t *testing.T) {
	for name, b := range map[string][]byte{
		"UDP":               udp(port(inside4, 9), port(outside4, 53), random(5000)),
		"UDP over IPv6":     udp(port(inside6, 9), port(outside6, 53), random(5000)),
		"echo":              echo(inside4, outside4, random(4000)),
		"the largest":       udp(port(inside4, 9), port(outside4, 53), random(65507)),
		"the largest of v6": udp(port(inside6, 9), port(outside6, 53), random(65495)),
	} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			got := w.catching()
			for id := range uint32(5) {
				pieces := fragments(b, id, 1400)
				rand.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
				pieces = append(pieces[:1], pieces...) // one of them twice
				for i, p := range pieces {
					if reason := w.receive(p); reason != drop.None {
						t.Fatalf("piece %d: %v", i, reason)
					}
				}
			}
			if len(*got) != 5 {
				t.Fatalf("%d datagrams came, want 5", len(*got))
			}
			for _, g := range *got {
				if g[0]>>4 == 4 {
					g[4], g[5] = 0, 0 // its identification is that of its pieces
					sum4(g)
				}
				if !bytes.Equal(g, b) {
					t.Error("another datagram was put together than was sent")
				}
			}
			if s := w.router.Stats().Fragments; s.Whole != 5 || s.Open != 0 {
				t.Errorf("stats are %+v", s)
			}
		})
	}
}

func TestAFragmentedEchoToTheGatewayIsAnswered(t *testing.T) {
	w := newRaw(t)
	for _, p := range fragments(echo(inside4, gateway4, random(3000)), 1, 1400) {
		if reason := w.receive(p); reason != drop.None {
			t.Fatal(reason)
		}
	}
	if got := w.sent(); len(got) != 3 || got[0][20] != 0 {
		t.Errorf("the answer came in %d pieces, want 3", len(got))
	}
}

func TestFragmentsThatContradictEachOtherMakeNothing(t *testing.T) {
	b := udp(port(inside4, 9), port(outside4, 53), random(3000))
	b6 := udp(port(inside6, 9), port(outside6, 53), random(3000))
	long := udp(port(inside4, 9), port(outside4, 53), random(3500))
	for name, c := range map[string]struct {
		pieces [][]byte
		want   drop.Reason // of the last
	}{
		"they overlap":             {[][]byte{fragment(b, 1, 0, 1600), fragment(b, 1, 1400, 3008)}, drop.BadIPv4},
		"over IPv6":                {[][]byte{fragment(b6, 1, 0, 1600), fragment(b6, 1, 1400, 3008)}, drop.BadIPv6},
		"one is within another":    {[][]byte{fragment(b, 1, 0, 1600), fragment(b, 1, 8, 800)}, drop.BadIPv4},
		"two ends":                 {[][]byte{fragment(b, 1, 1400, 3008), fragment(long, 1, 3200, 3508)}, drop.BadIPv4},
		"beyond the end":           {[][]byte{fragment(b, 1, 2800, 3008), fragment(long, 1, 3200, 3400)}, drop.BadIPv4},
		"an end before the others": {[][]byte{fragment(long, 1, 3200, 3400), fragment(b, 1, 2800, 3008)}, drop.BadIPv4},
		"a length that is not right": {[][]byte{func() []byte {
			p := fragment(b, 1, 0, 1401)
			return p
		}()}, drop.BadIPv4},
		"the ping of death": {[][]byte{fragment(append(b[:20:20], random(65535)...), 1, 65528, 65535)}, drop.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			got := w.catching()
			var reason drop.Reason
			for _, p := range c.pieces {
				reason = w.receive(slices.Clone(p))
			}
			if reason != c.want || len(*got) > 0 {
				t.Errorf("the last piece gave %v, want %v; %d datagrams came of them", reason, c.want, len(*got))
			}
			if n := w.router.Stats().Fragments.Open; n != 0 {
				t.Errorf("%d are kept", n)
			}
		})
	}
}
