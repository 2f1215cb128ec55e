package router

import (
	"container/list"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxLingering is how many connections of one container may be over for us and not for netstack.
const maxLingering = 4096

// lingering are connections that were closed here and are not gone: the container has not closed its side, or has not taken all, or they
// are in TIME-WAIT. No flow is counted for them any more, so a container that has a server hang up on it again and again, and never
// hangs up itself, would have netstack hold as many as it likes.
type lingering struct {
	mu   sync.Mutex
	of   map[netip.Addr]*list.List // of *Conn, by container, the oldest first
	n    int
	open map[netip.Addr]int // how many a container has that were not closed yet
}

// enter counts a connection that is open, and returns how many the container has, those that linger included.
func (l *lingering) enter(from netip.Addr) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[from]++
	n := l.open[from]
	if all := l.of[from]; all != nil {
		n += all.Len()
	}
	return n
}

// leave counts one that has been closed.
func (l *lingering) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// add enters a connection that is about to be closed. It leaves when netstack says that it is gone.
func (l *lingering) add(c *Conn) {
	from := c.remote.Addr()
	l.mu.Lock()
	all := l.of[from]
	if all == nil {
		all = list.New()
		l.of[from] = all
	}
	at := all.PushBack(c)
	l.n++
	l.mu.Unlock() // events come under the queue's lock
	gone := waiter.NewFunctionEntry(waiter.EventHUp, func(waiter.EventMask) {
		if s := tcp.EndpointState(c.ep.State()); s == tcp.StateClose || s == tcp.StateError {
			l.remove(from, at)
		}
	})
	c.wq.EventRegister(&gone)
}

// remove takes out a connection, if it is still in.
func (l *lingering) remove(from netip.Addr, at *list.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.of[from]
	if all == nil || at.Value == nil {
		return
	}
	all.Remove(at)
	at.Value = nil
	l.n--
	if all.Len() == 0 {
		delete(l.of, from)
	}
}

// trim resets the oldest of a container's connections if there are too many.
func (l *lingering) trim(from netip.Addr) {
	l.mu.Lock()
	var old *Conn
	if all := l.of[from]; all != nil && all.Len() > maxLingering {
		old, _ = all.Front().Value.(*Conn)
	}
	l.mu.Unlock()
	if old != nil {
		if e, ok := old.ep.(*tcp.Endpoint); ok {
			e.Abort()
		}
	}
}

func (l *lingering) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}
