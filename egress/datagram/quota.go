package datagram

import (
	"net/netip"
	"sync"
)

// quota counts what each container has, and all have together. It is asked when flows begin and end, not for each datagram.
type quota struct {
	each, all int // at most; all may be 0 for no limit

	mu   sync.Mutex
	held map[owner]int
	sum  int
}

// owner is a container.
type owner struct {
	network string
	addr    netip.Addr
}

func newQuota(each, all int) *quota {
	return &quota{each: each, all: all, held: make(map[owner]int)}
}

// Take counts one more of a container's, and reports whether it may have that.
func (q *quota) Take(network string, container netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := owner{network, container}
	n := q.held[o]
	if n >= q.each || q.all > 0 && q.sum >= q.all {
		return false
	}
	q.held[o] = n + 1
	q.sum++
	return true
}

// Give takes one back.
func (q *quota) Give(network string, container netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := owner{network, container}
	if n := q.held[o]; n > 1 {
		q.held[o] = n - 1
	} else {
		delete(q.held, o)
	}
	q.sum--
}
