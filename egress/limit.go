package egress

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
)

// limit bounds what each container's address has, and what all have together: flows, whatever their protocol (datagram.Limit), or sockets. Its
// methods may be called from any thread.
type limit struct {
	max    int // of one container
	all    int64
	sum    atomic.Int64
	seed   maphash.Seed
	shards [32]struct {
		sync.Mutex
		used map[holder]int
	}
}

// holder is who has flows.
type holder struct {
	network   string
	container netip.Addr
}

func newLimit(each int, all int64) *limit {
	l := &limit{max: each, all: all, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].used = make(map[holder]int)
	}
	return l
}

// Take counts one that begins, unless there are as many as there may be.
func (l *limit) Take(network string, container netip.Addr) bool {
	h := holder{network, container}
	s := &l.shards[maphash.Comparable(l.seed, h)%uint64(len(l.shards))]
	s.Lock()
	defer s.Unlock()
	if s.used[h] >= l.max {
		return false
	}
	if l.sum.Add(1) > l.all {
		l.sum.Add(-1)
		return false
	}
	s.used[h]++
	return true
}

// Give counts one that has ended, once for each Take.
func (l *limit) Give(network string, container netip.Addr) {
	h := holder{network, container}
	s := &l.shards[maphash.Comparable(l.seed, h)%uint64(len(l.shards))]
	s.Lock()
	defer s.Unlock()
	l.sum.Add(-1)
	if s.used[h]--; s.used[h] == 0 {
		delete(s.used, h)
	}
}
