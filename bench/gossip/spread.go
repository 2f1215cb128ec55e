package gossip

import (
	"slices"
	"sync"
	"time"
)

// Spread is how long something took, over all times that it was measured.
type Spread struct {
	Count  int     `json:"count"`
	Missed int     `json:"missed"` // took longer than the limit, which stands in for them
	P50    float64 `json:"p50_s"`
	P90    float64 `json:"p90_s"`
	P99    float64 `json:"p99_s"`
	Max    float64 `json:"max_s"`
}

// samples collects times. The zero value is ready, for any number of goroutines.
type samples struct {
	mu     sync.Mutex
	took   []time.Duration
	missed int
}

func (s *samples) add(took time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, took)
	if !ok {
		s.missed++
	}
}

func (s *samples) spread() Spread {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.took)
	return Spread{
		Count: len(s.took), Missed: s.missed,
		P50: quantile(s.took, 0.5), P90: quantile(s.took, 0.9), P99: quantile(s.took, 0.99), Max: quantile(s.took, 1),
	}
}

// quantile returns the smallest of the sorted times, in seconds, that this share of them does not exceed.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q * float64(len(sorted)))
	if float64(rank) == q*float64(len(sorted)) {
		rank--
	}
	return sorted[max(rank, 0)].Seconds()
}
