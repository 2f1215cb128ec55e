package vxlan

import (
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

const (
	maxBoxes     = 32
	scratchBytes = 64 << 10
)

// Sender gathers what one thread sends. It keeps references to the frames until Flush, and never waits.
type Sender struct {
	drops   *drop.Counters
	boxes   [maxBoxes]*outbox
	open    int
	scratch []byte // headers of cut superframes
	used    int
	segs    []frame.Segment
}

// NewSender returns a sender for one thread. Frames that the kernel refuses are counted in drops.
func NewSender(drops *drop.Counters) *Sender {
	return &Sender{drops: drops, scratch: make([]byte, scratchBytes), segs: make([]frame.Segment, 0, 2*maxSegments)}
}

// Send queues f for peer p in network v; mtu is the network's, in bytes of inner IP packet. A superframe is cut to the smaller of mtu and the
// path's MTU; a plain frame gets its checksum completed in place. TooBig means that it does not fit, and nothing was queued.
func (s *Sender) Send(p *Peer, v VNI, f *frame.Frame, mtu int) drop.Reason {
	mtu = min(mtu, p.Room(f))
	if f.GSO == frame.GSONone {
		if f.Len()-int(f.L3) > mtu { // with padding, which goes along
			return drop.TooBig
		}
		f.Complete()
		datagram := f.Front(HeaderLen)
		PutHeader(datagram, v)
		s.box(p, f.Hash).add(datagram, nil)
		return drop.None
	}
	return s.sendCut(p, v, f, mtu)
}

func (s *Sender) sendCut(p *Peer, v VNI, f *frame.Frame, mtu int) drop.Reason {
	need := frame.CutSpace(f, mtu, HeaderLen)
	if need > len(s.scratch) {
		return drop.TooLarge // a superframe of thousands of tiny segments
	}
	if s.used+need > len(s.scratch) {
		s.Flush()
	}
	var encap [HeaderLen]byte
	PutHeader(encap[:], v)
	b := s.box(p, f.Hash) // before scratch is taken: to make room it may flush
	segs, used, reason := frame.Cut(f, mtu, encap[:], s.scratch[s.used:], s.segs[:0])
	s.segs = segs[:0]
	if reason != drop.None {
		return reason
	}
	s.used += used
	for i := range segs {
		if b.full() {
			b.flush(s.drops)
		}
		b.add(segs[i].Header, segs[i].Payload)
	}
	return drop.None
}

// box returns the outbox, with room, for flows of this hash to p.
func (s *Sender) box(p *Peer, hash uint32) *outbox {
	path := &p.paths[hash%paths]
	for i := range s.open {
		if b := s.boxes[i]; b.path == path {
			if b.full() {
				b.flush(s.drops)
			}
			return b
		}
	}
	if s.open == maxBoxes {
		s.Flush()
	}
	if s.boxes[s.open] == nil {
		s.boxes[s.open] = new(outbox) // at most maxBoxes times in the sender's life
	}
	b := s.boxes[s.open]
	s.open++
	b.peer, b.path = p, path
	return b
}

// Flush sends what is queued. Frames and their buffers are free for reuse when it returns.
func (s *Sender) Flush() {
	for i := range s.open {
		b := s.boxes[i]
		b.flush(s.drops)
		b.peer, b.path = nil, nil
	}
	s.open, s.used = 0, 0
}
