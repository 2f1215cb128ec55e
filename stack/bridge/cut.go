package bridge

import (
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// cutter cuts superframes for ports that do not take them. The zero value is ready; it belongs to one thread at a time.
type cutter struct {
	scratch []byte // headers of the pieces
	segs    []frame.Segment
}

// deliver writes a superframe to a port in pieces, each with its checksum.
func (c *cutter) deliver(p *Port, f *frame.Frame) {
	// Cut at the sender's own size: the device may be plain, but it is as near as the sender.
	size := f.End - int(f.L3)
	if frame.CutSpace(f, size, 0) > cutSpace { // thousands of tiny segments, each of which would cost a write
		p.Drops.Add(drop.TooLarge, wireFrames(f))
		return
	}
	if c.scratch == nil {
		c.scratch = make([]byte, cutSpace) // once, on hosts without offloads
	}
	segs, _, reason := frame.Cut(f, size, nil, c.scratch, c.segs[:0])
	c.segs = segs[:0]
	if reason != drop.None {
		p.Drops.Add(reason, wireFrames(f))
		return
	}
	whole := frame.Offload{Checksum: frame.Verified}
	for i := range segs {
		parts := [2][]byte{segs[i].Header, segs[i].Payload}
		p.Deliver(&whole, parts[:], 1)
	}
}
