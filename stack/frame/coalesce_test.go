package frame

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

// delivery is one frame that a sink got.
type delivery struct {
	o     Offload
	bytes []byte
	n     int
}

// store is a Sink that keeps all that it gets.
type store struct {
	joins Joins
	got   []delivery
}

func (s *store) Joins() Joins { return s.joins }

func (s *store) Deliver(o *Offload, parts [][]byte, n int) {
	s.got = append(s.got, delivery{*o, bytes.Join(parts, nil), n})
}

// counts returns how many wire frames each delivery joined.
func (s *store) counts() []int {
	var n []int
	for _, d := range s.got {
		n = append(n, d.n)
	}
	return n
}

// apart returns the wire frames that a receiver makes of what the sink got.
func (s *store) apart(t testing.TB) [][]byte {
	t.Helper()
	var out [][]byte
	for _, d := range s.got {
		f := view(d.bytes)
		f.Offload = d.o
		if r := f.Parse(); r != drop.None {
			t.Fatalf("Parse of a delivered frame: %v", r)
		}
		if f.GSO == GSONone {
			f.Complete()
			out = append(out, f.Bytes())
			continue
		}
		if f.HdrLen != f.Payload {
			t.Errorf("header length %d, want %d", f.HdrLen, f.Payload)
		}
		if got, want := be16(f.Bytes()[f.Start+f.Offset:]), PseudoSum(f); got != want {
			t.Errorf("the checksum field holds %#04x, want the pseudo-header's %#04x", got, want)
		}
		if !f.verifyHeader() {
			t.Error("the superframe's IPv4 header checksum is wrong")
		}
		pieces := cut(t, f, 1<<17, nil)
		if len(pieces) != d.n {
			t.Errorf("%d frames joined, cut into %d", d.n, len(pieces))
		}
		out = append(out, pieces...)
	}
	return out
}

const joinAll = JoinTCP4 | JoinTCP6 | JoinUDP

// verified is p as a frame whose checksum somebody vouches for.
func verified(t testing.TB, p packet) *Frame {
	f := wire(t, p.build())
	f.Checksum = Verified
	return f
}

// train is n consecutive frames of p, each with its payload.
func train(p packet, n int) []packet {
	out := make([]packet, n)
	for i := range out {
		out[i] = p
		p.seq += uint32(len(p.payload))
		p.id++
	}
	return out
}

func TestCoalescerJoins(t *testing.T) {
	data := random(1000, 1)
	for name, p := range variants(1000) {
		p.payload = data
		t.Run(name, func(t *testing.T) {
			var c Coalescer
			s := &store{joins: joinAll}
			var want [][]byte
			for i, q := range train(p, 10) {
				if i == 9 {
					q.payload, q.flags = q.payload[:7], flagPSH
				}
				want = append(want, q.build())
				c.Add(verified(t, q), s)
			}
			if !slices.Equal(s.counts(), []int{10}) { // the last one closed it
				t.Fatalf("joined %v, want all ten", s.counts())
			}
			if got := s.apart(t); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Error("the frames differ from those that were joined")
			}
			c.Flush()
			if len(s.got) != 1 {
				t.Error("Flush delivered something twice")
			}
		})
	}
}

func TestCoalescerKeepsApart(t *testing.T) {
	p := packet{tcpOptions: timestamps, payload: make([]byte, 100), id: 7}
	u := packet{proto: ProtoUDP, payload: make([]byte, 100)}
	v := packet{v6: true, payload: make([]byte, 100), extensions: []extension{hopByHop}}
	tagged := packet{tags: []uint16{EtherQinQ, EtherVLAN}, payload: make([]byte, 100)}
	options := packet{options: []byte{7, 7, 4, 0, 0, 0, 0, 0}, payload: make([]byte, 100)}
	routed := packet{v6: true, payload: make([]byte, 100), extensions: []extension{{extRouting, []byte{0, 4, 1, 0, 0, 0, 0}}}}
	noDF := packet{noDF: true, payload: make([]byte, 100)}
	for name, c := range map[string]struct {
		p      packet
		change func(q *packet) // of the second of three frames
		edit   func(b []byte)  // of its bytes
		frame  func(f *Frame)  // of its state
		joins  Joins           // all if 0
		counts []int           // wire frames in each delivery
	}{
		"nothing that follows on":          {p: p, counts: []int{3}},
		"an IPv4 id that stays, with DF":   {p: p, change: func(q *packet) { q.id = 7 }, counts: []int{3}},
		"an IPv4 id that stays, without":   {p: noDF, change: func(q *packet) { q.id = 0 }, counts: []int{1, 1, 1}},
		"a gap in the sequence":            {p: p, change: func(q *packet) { q.seq++ }, counts: []int{1, 2}},
		"another acknowledgement":          {p: p, change: func(q *packet) { q.ack++ }, counts: []int{1, 1, 1}},
		"another window":                   {p: p, change: func(q *packet) { q.window++ }, counts: []int{1, 1, 1}},
		"other timestamps":                 {p: p, change: func(q *packet) { q.tcpOptions = []byte{1, 1, 8, 10, 0, 0, 1, 3, 0, 0, 3, 4} }, counts: []int{1, 1, 1}},
		"fewer TCP options":                {p: p, change: func(q *packet) { q.tcpOptions = nil }, counts: []int{1, 1, 1}},
		"another TTL":                      {p: p, change: func(q *packet) { q.ttl = 63 }, counts: []int{1, 1, 1}},
		"another TOS":                      {p: p, change: func(q *packet) { q.tos = 3 }, counts: []int{1, 1, 1}},
		"another hop limit":                {p: v, change: func(q *packet) { q.ttl = 63 }, counts: []int{1, 1, 1}},
		"another IPv6 flow label":          {p: v, edit: func(b []byte) { b[17] = 9 }, counts: []int{1, 1, 1}},
		"another extension header":         {p: v, edit: func(b []byte) { b[57] = 9 }, counts: []int{1, 1, 1}},
		"other IPv4 options":               {p: options, change: func(q *packet) { q.options = []byte{7, 7, 8, 0, 0, 0, 0, 0} }, counts: []int{1, 1, 1}},
		"another source MAC":               {p: p, edit: func(b []byte) { b[11]++ }, counts: []int{1, 1, 1}},
		"another destination MAC":          {p: p, edit: func(b []byte) { b[0] += 4 }, counts: []int{1, 1, 1}},
		"another outer VLAN":               {p: tagged, edit: func(b []byte) { b[15]++ }, counts: []int{1, 1, 1}},
		"another inner VLAN":               {p: tagged, edit: func(b []byte) { b[19]++ }, counts: []int{1, 1, 1}},
		"an urgent pointer":                {p: p, edit: func(b []byte) { b[53] = 1 }, counts: []int{1, 1, 1}},
		"another IPv4 source":              {p: p, edit: func(b []byte) { b[26]++ }, counts: []int{1, 1, 1}},
		"another IPv4 destination":         {p: p, edit: func(b []byte) { b[33]++ }, counts: []int{1, 1, 1}},
		"another IPv6 prefix":              {p: v, edit: func(b []byte) { b[22]++ }, counts: []int{1, 1, 1}},
		"another IPv6 source":              {p: v, edit: func(b []byte) { b[37]++ }, counts: []int{1, 1, 1}},
		"another IPv6 destination prefix":  {p: v, edit: func(b []byte) { b[38]++ }, counts: []int{1, 1, 1}},
		"another IPv6 destination":         {p: v, edit: func(b []byte) { b[53]++ }, counts: []int{1, 1, 1}},
		"another TCP source port":          {p: p, edit: func(b []byte) { b[34]++ }, counts: []int{1, 1, 1}},
		"another TCP destination port":     {p: p, edit: func(b []byte) { b[37]++ }, counts: []int{1, 1, 1}},
		"another UDP port":                 {p: u, edit: func(b []byte) { b[37]++ }, counts: []int{1, 1, 1}},
		"UDP amid TCP":                     {p: p, change: func(q *packet) { q.proto, q.payload = ProtoUDP, make([]byte, 112) }, counts: []int{1, 1, 1}},
		"SYN":                              {p: p, change: func(q *packet) { q.flags = flagSYN }, counts: []int{1, 1, 1}},
		"RST":                              {p: p, change: func(q *packet) { q.flags = flagRST }, counts: []int{1, 1, 1}},
		"URG":                              {p: p, change: func(q *packet) { q.flags = flagURG }, counts: []int{1, 1, 1}},
		"CWR":                              {p: p, change: func(q *packet) { q.flags = flagCWR }, counts: []int{1, 1, 1}},
		"ECE":                              {p: p, change: func(q *packet) { q.flags = 0x40 }, counts: []int{1, 1, 1}},
		"a pure acknowledgement":           {p: p, change: func(q *packet) { q.payload = nil }, counts: []int{1, 1, 1}},
		"PSH closes":                       {p: p, change: func(q *packet) { q.flags = flagPSH }, counts: []int{2, 1}},
		"FIN closes":                       {p: p, change: func(q *packet) { q.flags = flagFIN }, counts: []int{2, 1}},
		"a shorter segment closes":         {p: p, change: func(q *packet) { q.payload = make([]byte, 99) }, counts: []int{2, 1}},
		"a longer segment starts anew":     {p: p, change: func(q *packet) { q.payload = make([]byte, 101) }, counts: []int{1, 2}},
		"an unverified checksum":           {p: p, frame: func(f *Frame) { f.Checksum = Unverified }, counts: []int{1, 1, 1}},
		"a checksum owed deeper inside":    {p: p, frame: func(f *Frame) { f.Checksum, f.Start, f.Offset = Partial, f.Payload, 6 }, counts: []int{1, 1, 1}},
		"a fragment":                       {p: p, edit: func(b []byte) { b[20] = 0x20 }, counts: []int{1, 1, 1}},
		"a routing header under way":       {p: v, edit: func(b []byte) { b[20], b[57] = extRouting, 1 }, counts: []int{1, 1, 1}},
		"such headers throughout":          {p: routed, counts: []int{1, 1, 1}},
		"a sink that takes no TCP":         {p: p, joins: JoinUDP | JoinTCP6, counts: []int{1, 1, 1}},
		"a sink that takes no TCP of IPv6": {p: v, joins: JoinUDP | JoinTCP4, counts: []int{1, 1, 1}},
		"a sink that takes no UDP":         {p: u, joins: JoinTCP4 | JoinTCP6, counts: []int{1, 1, 1}},
		"datagrams of one length":          {p: u, counts: []int{3}},
		"a shorter datagram closes":        {p: u, change: func(q *packet) { q.payload = make([]byte, 99) }, counts: []int{2, 1}},
		"an empty datagram":                {p: u, change: func(q *packet) { q.payload = nil }, counts: []int{1, 1, 1}},
		"a datagram without checksum":      {p: u, edit: func(b []byte) { put16(b[40:], 0) }, counts: []int{1, 1, 1}},
		"bytes behind a datagram":          {p: u, edit: func(b []byte) { b[39]-- }, counts: []int{1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.joins == 0 {
				c.joins = joinAll
			}
			var g Coalescer
			s := &store{joins: c.joins}
			var want [][]byte
			q := c.p
			for i := range 3 {
				this := q
				if i == 1 && c.change != nil {
					c.change(&this)
				}
				b := this.build()
				if i == 1 && c.edit != nil {
					c.edit(b)
				}
				want = append(want, bytes.Clone(b))
				f := wire(t, b)
				f.Checksum, f.Hash = Verified, 1 // flows may share a hash: the headers decide
				if i == 1 && c.frame != nil {
					c.frame(f)
				}
				g.Add(f, s)
				q.seq, q.id = this.seq+uint32(len(this.payload)), q.id+1
			}
			g.Flush()
			if !slices.Equal(s.counts(), c.counts) {
				t.Fatalf("joined %v, want %v", s.counts(), c.counts)
			}
			for i, d := range s.got {
				if d.n == 1 && len(s.got) == 3 && !bytes.Equal(d.bytes, want[i]) {
					t.Errorf("frame %d was changed, or out of order", i)
				}
			}
		})
	}
}

func TestCoalescerKeepsALoneFrameAsItWas(t *testing.T) {
	var c Coalescer
	s := &store{joins: joinAll}
	b := append(packet{payload: []byte{1, 2}}.build(), 0, 0, 0, 0) // padded
	f := wire(t, b)
	f.Checksum, f.Start, f.Offset = Partial, f.L4, tcpCheck
	o := f.Offload
	c.Add(f, s)
	*f = Frame{} // its owner may use it again
	if len(s.got) != 0 {
		t.Fatal("delivered before anything could follow")
	}
	c.Flush()
	if len(s.got) != 1 || s.got[0].o != o || !bytes.Equal(s.got[0].bytes, b) {
		t.Errorf("got %+v", s.got)
	}
}

func TestCoalescerPassesSuperframesBehindTheirFlow(t *testing.T) {
	var c Coalescer
	s := &store{joins: joinAll}
	p := packet{payload: make([]byte, 1000)}
	c.Add(verified(t, p), s)
	p.seq += 1000
	f := p.super(t, 500)
	c.Add(f, s)
	if len(s.got) != 2 || s.got[0].o.GSO != GSONone || s.got[1].o != f.Offload {
		t.Errorf("got %+v", s.got)
	}
}

// A flooded frame is added for each port, and may wait in the tunnel's outbox too.
func TestCoalescerJoinsForEachSinkAlone(t *testing.T) {
	for name, p := range variants(100) {
		t.Run(name, func(t *testing.T) {
			var c Coalescer
			all, some, none := &store{joins: joinAll}, &store{joins: joinAll}, &store{}
			var frames []*Frame
			var want [][]byte
			for i, q := range train(p, 3) {
				if i == 2 {
					q.flags = flagPSH // closes a run of all, and changes its flags
				}
				f := verified(t, q)
				frames, want = append(frames, f), append(want, bytes.Clone(f.Bytes()))
				c.Add(f, all)
				c.Add(f, none)
				if i != 1 {
					c.Add(f, some)
				}
			}
			c.Flush()
			for i, f := range frames {
				if !bytes.Equal(f.Bytes(), want[i]) {
					t.Errorf("frame %d was changed", i)
				}
			}
			for s, frames := range map[*store][][]byte{all: want, none: want, some: {want[0], want[2]}} {
				if got := s.apart(t); !slices.EqualFunc(got, frames, func(a, b []byte) bool {
					return bytes.Equal(meaningful(t, a), meaningful(t, b))
				}) {
					t.Errorf("joined %v for a sink that takes %b, and the frames differ from those added", s.counts(), s.joins)
				}
			}
		})
	}
}

func TestCoalescerClosesAtItsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		size, frames int
		want         []int
	}{
		"64 frames":          {10, 130, []int{64, 64, 2}},
		"64 KiB of a packet": {9000, 9, []int{7, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var g Coalescer
			s := &store{joins: joinAll}
			for _, q := range train(packet{payload: make([]byte, c.size)}, c.frames) {
				g.Add(verified(t, q), s)
			}
			g.Flush()
			if !slices.Equal(s.counts(), c.want) {
				t.Errorf("joined %v, want %v", s.counts(), c.want)
			}
		})
	}
}

// Three flows too many in each round: the oldest leave, and find no run of theirs when they come again.
func TestCoalescerDeliversInOrderOfArrival(t *testing.T) {
	var c Coalescer
	s := &store{joins: joinAll}
	var got, want []int
	for round := range 2 {
		for i := range maxRuns + 3 {
			c.Add(verified(t, packet{client: byte(i), seq: uint32(round * 10), payload: make([]byte, 10)}), s)
			want = append(want, i)
		}
	}
	if len(s.got) != maxRuns+6 {
		t.Errorf("%d frames delivered before Flush, want %d", len(s.got), maxRuns+6)
	}
	c.Flush()
	for _, d := range s.got {
		got = append(got, int(d.bytes[11])-1) // the client
	}
	if !slices.Equal(got, want) {
		t.Errorf("delivered clients %v, want %v", got, want)
	}
}

func TestCoalescerDoesNotAllocate(t *testing.T) {
	c, add := trainBench(t, packet{tcpOptions: timestamps, payload: make([]byte, 1398)})
	if n := testing.AllocsPerRun(100, func() { add(); c.Flush() }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// void is a Sink that only counts.
type void struct{ frames int }

func (v *void) Joins() Joins                               { return joinAll }
func (v *void) Deliver(_ *Offload, _ [][]byte, frames int) { v.frames += frames }

// trainBench returns a function that adds 46 frames of one flow.
func trainBench(t testing.TB, p packet) (*Coalescer, func()) {
	c, s := new(Coalescer), new(void)
	var frames []*Frame
	for _, q := range train(p, 46) {
		frames = append(frames, verified(t, q))
	}
	return c, func() {
		for _, f := range frames {
			c.Add(f, s)
		}
	}
}

func BenchmarkCoalesce(b *testing.B) {
	for name, p := range map[string]packet{
		"tcp4": {tcpOptions: timestamps}, "tcp6": {v6: true, tcpOptions: timestamps}, "udp4": {proto: ProtoUDP},
	} {
		p.payload = make([]byte, 1398)
		b.Run(name, func(b *testing.B) {
			c, add := trainBench(b, p)
			b.SetBytes(46 * 1398)
			b.ReportAllocs()
			for b.Loop() {
				add()
				c.Flush()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/46, "ns/segment")
		})
	}
	for _, flows := range []int{4, 16, 64} {
		b.Run(fmt.Sprintf("%d flows in turn", flows), func(b *testing.B) {
			c, s := new(Coalescer), new(void)
			frames := make([]*Frame, flows)
			for i := range frames {
				frames[i] = verified(b, packet{port: uint16(i), proto: ProtoUDP, payload: make([]byte, 600)})
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, f := range frames {
					c.Add(f, s)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(flows), "ns/segment")
		})
	}
}
