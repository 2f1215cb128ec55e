package frame

import "math/bits"

// Joins says which superframes a sink takes.
type Joins uint8

// The kinds of superframe that may be joined.
const (
	JoinTCP4 Joins = 1 << iota
	JoinTCP6
	JoinUDP
)

// Sink is where frames go: a port, or whatever stands for one.
type Sink interface {
	// Joins says which superframes the sink takes. Its answer may change only between a Flush and the next Add.
	Joins() Joins

	// Deliver takes one frame made of at most 64 parts, n wire frames joined in it. All that it is given belongs to the
	// Coalescer again when it returns: whoever wants bytes longer copies them. Deliver must not call the Coalescer.
	Deliver(o *Offload, parts [][]byte, n int)
}

// Bounds of a Coalescer.
const (
	maxRuns  = 16    // flows joined at the same time
	maxParts = 64    // wire frames in one superframe; UDP_SEGMENT takes no more
	maxTotal = 65535 // bytes of the joined IP packet
)

// Coalescer joins consecutive wire frames of a flow into superframes (GRO), so that a batch costs its sink one call per
// flow and not one per frame. It follows net/ipv4/tcp_offload.c and udp_offload.c of Linux: what it joins, Cut takes apart
// into the same frames again. Frames of one flow are never reordered; frames of different flows may be.
//
//	Add ── continues its flow's run? ── yes ──▶ one part more;   full, short, PSH or FIN: delivered
//	             │ no: that run is delivered first
//	             └── may start a run? ── yes ──▶ a new run;      no room: the oldest is delivered
//	                       └──────────── no ───▶ delivered as it is
//
// The zero value is ready. A Coalescer belongs to one thread.
type Coalescer struct {
	n      int             // runs under way
	recent int             // position of the run that was found last
	hashes [maxRuns]uint32 // flow hashes of the runs under way, in order of arrival
	order  [maxRuns]uint8  // which element of runs each of them is
	busy   uint16          // elements of runs in use, one bit each
	runs   [maxRuns]run    // in no order
	single [1][]byte       // parts of a frame that is delivered as it is,
	plain  Offload         // and its Offload
}

// Add takes a parsed frame for a sink. The frame's bytes must stay what they are until Flush; f itself may be reused at once.
// One frame may be added for several sinks: nothing of it is changed but while a sink looks at it.
func (c *Coalescer) Add(f *Frame, to Sink) {
	if f.Fragment { // it may belong to any flow between its addresses
		c.drain(to)
		c.pass(f, to)
		return
	}
	kind := f.joinsAs(to.Joins())
	if at := c.find(f.Hash, to); at >= 0 {
		if r := &c.runs[c.order[at]]; kind != GSONone && kind == r.off.GSO && r.extend(f) {
			if r.closed {
				c.emit(at)
			}
			return
		}
		c.emit(at)
	}
	if kind == GSONone || kind != GSOUDP && f.buf[f.head+int(f.L4)+13]&(flagPSH|flagFIN) != 0 {
		c.pass(f, to)
		return
	}
	c.start(f, to, kind)
}

// Flush delivers all that is under way, in order of first arrival.
func (c *Coalescer) Flush() {
	for i := range c.n {
		c.deliver(c.order[i])
	}
	c.n = 0
}

// joinsAs returns the kind of superframe that f may be part of, GSONone if none.
func (f *Frame) joinsAs(j Joins) GSO {
	if f.GSO != GSONone || f.L4 == 0 || f.End == int(f.Payload) || f.routed {
		return GSONone
	}
	if f.Checksum == Unverified || f.Checksum == Partial && f.Start != f.L4 {
		return GSONone
	}
	h := f.buf[f.head+int(f.L4):]
	switch {
	case f.Proto == ProtoTCP:
		if h[13]&(flagSYN|flagRST|flagURG|flagCWR) != 0 {
			return GSONone
		}
		if f.Ether == EtherIPv4 && j&JoinTCP4 != 0 {
			return GSOTCP4
		}
		if f.Ether == EtherIPv6 && j&JoinTCP6 != 0 {
			return GSOTCP6
		}
	case f.Proto == ProtoUDP && j&JoinUDP != 0:
		if h[6]|h[7] != 0 && f.transportLen() == f.End-int(f.L4) { // has a checksum, and nothing behind the datagram
			return GSOUDP
		}
	}
	return GSONone
}

// find returns the position of the flow's run, -1 if there is none. Flows that share a hash share a run's place, which
// costs them joins and nothing else.
func (c *Coalescer) find(hash uint32, to Sink) int {
	if i := c.recent; i < c.n && c.hashes[i&(maxRuns-1)] == hash && c.runs[c.order[i&(maxRuns-1)]].sink == to {
		return i
	}
	for i, h := range c.hashes[:c.n] {
		if h == hash && c.runs[c.order[i]].sink == to {
			c.recent = i
			return i
		}
	}
	return -1
}

// start begins a run with f.
func (c *Coalescer) start(f *Frame, to Sink, kind GSO) {
	if c.n == maxRuns {
		c.emit(0)
	}
	slot := uint8(bits.TrailingZeros16(^c.busy))
	c.busy |= 1 << slot
	c.hashes[c.n], c.order[c.n], c.recent = f.Hash, slot, c.n
	c.n++
	c.runs[slot].begin(f, to, kind)
}

// pass delivers f as it is.
func (c *Coalescer) pass(f *Frame, to Sink) {
	c.plain, c.single[0] = f.Offload, f.Bytes()
	to.Deliver(&c.plain, c.single[:], 1)
}

// drain delivers all runs of one sink.
func (c *Coalescer) drain(to Sink) {
	for i := 0; i < c.n; {
		if c.runs[c.order[i]].sink == to {
			c.emit(i)
		} else {
			i++
		}
	}
}

// emit delivers the run at position at and closes the gap that it leaves.
func (c *Coalescer) emit(at int) {
	c.deliver(c.order[at])
	c.n--
	copy(c.hashes[at:c.n], c.hashes[at+1:])
	copy(c.order[at:c.n], c.order[at+1:])
}

// deliver hands the run in slot to its sink and frees the slot.
func (c *Coalescer) deliver(slot uint8) {
	r := &c.runs[slot]
	r.sink.Deliver(r.seal(), r.parts[:r.n], r.n)
	r.restore()
	r.sink = nil
	c.busy &^= 1 << slot
}
