package capture

import (
	"sync/atomic"

	"github.com/weftnet/weft/stack/frame"
)

// ring is a queue of frames with many writers that never wait and one reader. Its memory is fixed.
//
//	buf    │ free │ frame ....... │ being written │ frame │ frame .... │ free │    in whole cells
//	slots  │      │ record        │               │ rec.  │ record     │      │    one for each cell; ready once complete
//	               ▲ head                                              ▲ tail
//
// A writer reserves room by moving tail, copies, and then marks the record ready. The reader takes records in order of
// reservation, unmarks them, and gives the room back by moving head. A frame never wraps: where it would, it lies at the
// ring's start, and its record includes the cells left over at the end.
type ring struct {
	buf   []byte
	slots []slot
	tail  atomic.Uint64
	head  atomic.Uint64
	wake  chan struct{} // holds a token when there may be something to read
}

// slot holds the record of the frame that begins in the cell beside it.
type slot struct {
	ready atomic.Bool
	total uint64 // bytes of the ring that it takes
	record
}

// record is a frame as it was seen. In the ring, data is valid from next until release.
type record struct {
	nanos   int64 // since 1970
	at      Where
	offload frame.Offload
	length  int    // of the whole frame
	data    []byte // what was kept of it
}

const (
	cell      = 512
	minBuffer = 4 * (frame.MaxLen + cell) // room for a superframe wherever the ring's end happens to be
)

func newRing(size int) *ring {
	cells := (size + cell - 1) / cell
	return &ring{buf: make([]byte, cells*cell), slots: make([]slot, cells), wake: make(chan struct{}, 1)}
}

// put copies the first kept of length bytes of a frame into the ring. It reports false if there is no room.
func (r *ring) put(nanos int64, at *Where, o *frame.Offload, parts [][]byte, length, kept int) bool {
	size := uint64(len(r.buf))
	need := max(uint64(kept+cell-1)&^(cell-1), cell)
	start, total, ok := r.reserve(need)
	if !ok {
		return false
	}
	i := start % size
	s := &r.slots[i/cell]
	if total > need {
		i = 0
	}
	data := r.buf[i : i+uint64(kept) : i+need]
	s.total = total
	s.record = record{nanos, *at, *o, length, data}
	for _, p := range parts {
		data = data[copy(data, p):]
	}
	s.ready.Store(true)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

// reserve takes need bytes, and what is left over in front of the ring's end if they do not fit there.
func (r *ring) reserve(need uint64) (start, total uint64, ok bool) {
	size := uint64(len(r.buf))
	for {
		start, total = r.tail.Load(), need
		if left := size - start%size; left < need {
			total += left
		}
		if start+total-r.head.Load() > size {
			return 0, 0, false
		}
		if r.tail.CompareAndSwap(start, start+total) {
			return start, total, true
		}
	}
}

// next returns the oldest record, nil if none is ready. It must be released before next is called again.
func (r *ring) next() *record {
	s := &r.slots[r.head.Load()%uint64(len(r.buf))/cell]
	if !s.ready.Load() {
		return nil
	}
	return &s.record
}

// release gives the room of the record that next returned back to the writers.
func (r *ring) release() {
	head := r.head.Load()
	s := &r.slots[head%uint64(len(r.buf))/cell]
	s.record = record{}
	s.ready.Store(false)
	r.head.Store(head + s.total)
}
