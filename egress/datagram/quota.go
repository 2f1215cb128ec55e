package datagram

import (
	"net/netip"
	"sync"
)

// Quota bounds what each container has, and what all have together: flows (it is a Limit), or sockets. It is asked when these begin and end,
// not for each datagram. Its methods may be called from any thread.
type Quota struct {
	each, all int

	mu   sync.Mutex
	held map[owner]int
	sum  int
}

// owner is a container.
type owner struct {
	network string
	addr    netip.Addr
}

// NewQuota returns a quota of so many for each container, and for all; all may be 0 for no limit.
func NewQuota(each, all int) *Quota {
	return &Quota{each: each, all: all, held: make(map[owner]int)}
}

// Take counts one more of a container's, and reports whether it may have that.
func (q *Quota) Take(network string, container netip.Addr) bool {
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

// Give takes one back, once for each Take.
func (q *Quota) Give(network string, container netip.Addr) {
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
