// Package histogram counts durations in log-linear buckets, as HdrHistogram does: each power of two is split into 128
// equal buckets, so that a value read back is at most 0.4 % from the one recorded, whatever its magnitude.
//
//	value (ns)   0 … 127   128 … 255   256 … 511   512 … 1023   …   2³⁹ … 2⁴⁰
//	width              1           1           2            4   …         2³²
//	bucket       0 … 127   128 … 255   256 … 383   384 … 511    …
package histogram

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	split   = 128 // buckets per power of two
	maxBits = 40  // the longest duration told apart: 2⁴⁰ ns, about 18 minutes
	size    = (maxBits-7)*split + split
)

// Histogram counts durations. The zero value is ready. Record may be called while another goroutine takes a Snapshot;
// everything else wants the histogram to itself.
type Histogram struct {
	counts [size]uint64
}

func bucket(v uint64) int {
	if v >= 1<<maxBits {
		v = 1<<maxBits - 1
	}
	shift := max(bits.Len64(v)-8, 0)
	return shift*split + int(v>>shift)
}

// middle returns the value that stands for all of bucket i.
func middle(i int) uint64 {
	if i < 2*split {
		return uint64(i)
	}
	shift := i/split - 1
	return uint64(i-shift*split)<<shift + 1<<(shift-1)
}

// Record counts d. Negative durations count as zero, those past 18 minutes as the longest.
func (h *Histogram) Record(d time.Duration) {
	atomic.AddUint64(&h.counts[bucket(uint64(max(d, 0)))], 1)
}

// Snapshot returns a copy.
func (h *Histogram) Snapshot() *Histogram {
	c := new(Histogram)
	for i := range h.counts {
		c.counts[i] = atomic.LoadUint64(&h.counts[i])
	}
	return c
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

// Quantile returns the duration that the fraction q of all recorded ones do not exceed (nearest rank), 0 if none were
// recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	rank := max(uint64(math.Ceil(q*float64(total))), 1)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return time.Duration(middle(i))
		}
	}
	return 0
}

// Bucket is a group of nearly equal durations, and how many there were. In JSON it is a pair: [nanoseconds, count].
type Bucket struct {
	Value time.Duration
	Count uint64
}

// Buckets returns the buckets that are not empty, in ascending order.
func (h *Histogram) Buckets() []Bucket {
	list := []Bucket{}
	for i, n := range h.counts {
		if n > 0 {
			list = append(list, Bucket{time.Duration(middle(i)), n})
		}
	}
	return list
}

// MarshalJSON writes a pair.
func (b Bucket) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d]", b.Value, b.Count), nil
}

// UnmarshalJSON reads a pair.
func (b *Bucket) UnmarshalJSON(text []byte) error {
	var pair []uint64
	if err := json.Unmarshal(text, &pair); err != nil || len(pair) != 2 {
		return fmt.Errorf("histogram: %s is not a bucket; expected [nanoseconds, count]", text)
	}
	b.Value, b.Count = time.Duration(pair[0]), pair[1]
	return nil
}

// MarshalJSON writes the buckets that are not empty.
func (h *Histogram) MarshalJSON() ([]byte, error) { return json.Marshal(h.Buckets()) }

// UnmarshalJSON is the inverse of MarshalJSON.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var list []Bucket
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	*h = Histogram{}
	for _, b := range list {
		h.counts[bucket(uint64(b.Value))] += b.Count
	}
	return nil
}
