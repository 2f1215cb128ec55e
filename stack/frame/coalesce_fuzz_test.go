package frame

import (
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

// FuzzCoalescer adds two frames in turn, as a peer might send them, all vouched for by the tunnel.
func FuzzCoalescer(f *testing.F) {
	for _, p := range []packet{
		{}, {v6: true, tcpOptions: timestamps}, {proto: ProtoUDP}, {tags: []uint16{EtherQinQ, EtherVLAN}},
		{options: make([]byte, 8)}, {v6: true, proto: ProtoUDP, extensions: []extension{hopByHop}},
	} {
		p.payload = make([]byte, 30)
		pair := train(p, 2)
		f.Add(pair[0].build(), pair[1].build())
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var c Coalescer
		s := &store{joins: joinAll}
		added := 0
		for _, bytes := range [][]byte{a, b, b, a} {
			fr := view(bytes)
			if fr.Parse() != drop.None {
				continue
			}
			fr.Checksum = Verified
			c.Add(fr, s)
			added++
		}
		c.Flush()
		for _, d := range s.got {
			added -= d.n
			fr := view(d.bytes)
			fr.Offload = d.o
			if r := fr.Parse(); r != drop.None {
				t.Fatalf("Parse of a frame joined from %d: %v", d.n, r)
			}
			if d.n > 1 {
				if n := len(cut(t, fr, 1<<17, nil)); n != d.n {
					t.Fatalf("%d frames joined, cut into %d", d.n, n)
				}
			}
		}
		if added != 0 {
			t.Fatalf("%d frames missing", added)
		}
	})
}
