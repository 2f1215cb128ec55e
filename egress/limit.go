package egress

import (
	"hash/maphash"
	"net/netip"
	"sync"
)

// limit bounds the flows of each container's address, whatever their protocol (datagram.Limit). Its methods may be called from any thread.
type limit struct {
	max    int
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

func newLimit(most int) *limit {
	l := &limit{max: most, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].used = make(map[holder]int)
	}
	return l
}

// Take counts a flow that begins, unless there are as many as there may be.
func (l *limit) Take(network string, container netip.Addr) bool {
	h := holder{network, container}
	s := &l.shards[maphash.Comparable(l.seed, h)%uint64(len(l.shards))]
	s.Lock()
	defer s.Unlock()
	if s.used[h] >= l.max {
		return false
	}
	s.used[h]++
	return true
}

// Give counts a flow that has ended, once for each Take.
func (l *limit) Give(network string, container netip.Addr) {
	h := holder{network, container}
	s := &l.shards[maphash.Comparable(l.seed, h)%uint64(len(l.shards))]
	s.Lock()
	defer s.Unlock()
	if s.used[h]--; s.used[h] == 0 {
		delete(s.used, h)
	}
}
