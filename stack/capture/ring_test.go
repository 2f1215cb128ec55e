package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/weftnet/weft/stack/frame"
)

// pattern fills a frame of n bytes that says from which writer it is and which of its frames.
func pattern(b []byte, writer, seq int) []byte {
	binary.LittleEndian.PutUint32(b, uint32(writer))
	binary.LittleEndian.PutUint32(b[4:], uint32(seq))
	for i := 8; i < len(b); i++ {
		b[i] = byte(writer + seq + i)
	}
	return b
}

func TestRingKeepsEachWritersFramesWholeAndInOrder(t *testing.T) {
	const writers, each = 4, 3000
	r := newRing(minBuffer)
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			scratch := make([]byte, frame.MaxLen)
			for seq := range each {
				n := 8 + rng.IntN(1500)
				if seq%50 == 0 {
					n = 8 + rng.IntN(frame.MaxLen-8)
				}
				b := pattern(scratch[:n], w, seq)
				at := Where{Port: "p", VNI: uint32(seq)}
				for !r.put(int64(seq), &at, &frame.Offload{Size: uint16(w)}, [][]byte{b[:n/3], b[n/3:]}, n, n) {
					runtime.Gosched() // full: the reader is behind
				}
			}
		})
	}
	next := make([]int, writers)
	for range writers * each {
		rec := r.next()
		for rec == nil {
			<-r.wake
			rec = r.next()
		}
		w, seq := int(binary.LittleEndian.Uint32(rec.data)), int(binary.LittleEndian.Uint32(rec.data[4:]))
		if seq != next[w] {
			t.Fatalf("writer %d: got frame %d, expected %d", w, seq, next[w])
		}
		next[w]++
		if rec.nanos != int64(seq) || rec.at.VNI != uint32(seq) || rec.offload.Size != uint16(w) || rec.length != len(rec.data) {
			t.Fatalf("writer %d frame %d: its record is another's: %+v", w, seq, rec)
		}
		if want := pattern(make([]byte, len(rec.data)), w, seq); !bytes.Equal(rec.data, want) {
			t.Fatalf("writer %d frame %d of %d bytes is damaged", w, seq, len(rec.data))
		}
		r.release()
	}
	done.Wait()
	if r.next() != nil || r.head.Load() != r.tail.Load() {
		t.Error("the ring is not empty at the end")
	}
}

func TestRingRefusesWhatDoesNotFitAndTakesItLater(t *testing.T) {
	r := newRing(4 * cell)
	put := func(n int) bool { return r.put(0, &Where{}, &frame.Offload{}, [][]byte{make([]byte, n)}, n, n) }
	if !put(2*cell) || !put(cell) {
		t.Fatal("an empty ring refused what fits")
	}
	if put(cell + 1) {
		t.Fatal("a ring with one free cell took a frame of two")
	}
	if !put(0) {
		t.Fatal("a ring with one free cell refused an empty frame")
	}
	r.next()
	r.release()
	if !put(2 * cell) {
		t.Fatal("a ring refused what fits after a release")
	}
	for range 3 {
		if r.next() == nil {
			t.Fatal("a record is missing")
		}
		r.release()
	}
	if r.next() != nil {
		t.Fatal("a record too many")
	}
}

func TestRingRecordAtTheEndMovesToTheStartWhole(t *testing.T) {
	r := newRing(4 * cell)
	for round := range 20 {
		want := pattern(make([]byte, 2*cell+cell/2), 1, round) // three cells of four: every second one meets the end
		if !r.put(0, &Where{}, &frame.Offload{}, [][]byte{want}, len(want), len(want)) {
			if round == 0 {
				t.Fatal("an empty ring refused a frame that fits")
			}
			continue // the cells left over at the end count too, so that it may not fit for now
		}
		if rec := r.next(); rec == nil || !bytes.Equal(rec.data, want) {
			t.Fatalf("round %d: the frame is missing or damaged", round)
		}
		r.release()
	}
}
