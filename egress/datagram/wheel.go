package datagram

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	turn   = 256 // seconds: more than the longest timeout
	second = int64(time.Second)
)

// wheel is a timer wheel of one turn. A flow stands in the slot of the second in which it would end if nothing happened; whether something
// did is looked at only then, so that datagrams do not touch the wheel.
type wheel struct {
	timer int // timerfd, armed while there are flows

	mu    sync.Mutex
	slots [turn]*remote
	n     int
	seen  int64 // the last second whose slot was looked at
}

// place is where a remote stands in a slot's list.
type place struct {
	next, prev *remote
	slot       int
	placed     bool
}

// add places r by its deadline.
func (w *wheel) add(r *remote, now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == 0 {
		w.seen = now / second
		w.arm(1)
	}
	w.n++
	r.slot, r.placed, r.prev = int((r.deadline()/second+1)%turn), true, nil
	r.next = w.slots[r.slot]
	if r.next != nil {
		r.next.prev = r
	}
	w.slots[r.slot] = r
}

// remove takes r out, if it is in.
func (w *wheel) remove(r *remote) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !r.placed {
		return
	}
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		w.slots[r.slot] = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.place = place{}
	w.left()
}

// left counts one flow less.
func (w *wheel) left() {
	if w.n--; w.n == 0 {
		w.arm(0)
	}
}

// arm has the timer expire every so many seconds; 0 stops it.
func (w *wheel) arm(seconds int64) {
	each := unix.NsecToTimespec(seconds * second)
	// It fails for a descriptor or a time that is not one.
	_ = unix.TimerfdSettime(w.timer, 0, &unix.ItimerSpec{Interval: each, Value: each}, nil)
}

// pop takes one flow out that may be due, nil if there is none.
func (w *wheel) pop(now int64) *remote {
	w.mu.Lock()
	defer w.mu.Unlock()
	for to := now / second; w.seen < to && w.n > 0; w.seen++ {
		w.seen = max(w.seen, to-turn)
		r := w.slots[(w.seen+1)%turn]
		if r == nil {
			continue
		}
		w.slots[r.slot] = r.next
		if r.next != nil {
			r.next.prev = nil
		}
		r.place = place{}
		w.left()
		return r
	}
	return nil
}

// expire ends the flows that were idle for too long. It is for the table's thread.
func (t *Table) expire() {
	now := t.clock()
	var again []*remote
	for r := t.wheel.pop(now); r != nil; r = t.wheel.pop(now) {
		ended, empty := r.m.expire(r, now)
		if !ended {
			again = append(again, r) // not at once: its slot may be one that is still to be looked at
		}
		if empty {
			r.m.end()
		}
	}
	for _, r := range again {
		t.wheel.add(r, now)
	}
}

// ticker is the wheel's timer as a loop.Source.
type ticker struct{ t *Table }

// FD returns the timer.
func (k ticker) FD() int { return k.t.wheel.timer }

// Ready ends what is due.
func (k ticker) Ready() (int, bool) {
	var count [8]byte
	if _, err := unix.Read(k.t.wheel.timer, count[:]); err == nil {
		k.t.expire()
	}
	return 0, true
}
