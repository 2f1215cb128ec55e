// Package loop runs the threads of the data path.
//
// A Loop is one locked OS thread that serves any number of non-blocking descriptors to completion: whoever read a batch also
// forwards and sends it.
//
//	┌──► ready descriptors ──► Source.Ready, each a batch ──► Flush ──┐
//	│                                                                 │
//	├──── sched_yield, look again   (while that finds work) ◄─────────┤
//	├──── epoll_wait ≤ 10 ms, raw   (while traffic was seen lately) ◄─┤
//	└──── epoll_wait, no limit      (idle: no wake-ups at all) ◄──────┘
//
// Go's netpoller would cost a goroutine wake-up per batch, which halves the rate of requests. So a loop waits in a raw system
// call that keeps its P: no hand-off, no contention for a P on return. That is why GOMAXPROCS must be raised by the number
// of loops (agent does it). A garbage collection's preemption signal (SIGURG) interrupts the wait; the race in which the signal
// comes just before the wait is what the limit of 10 ms bounds.
package loop

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Source is a descriptor that a loop serves. Its methods are called on the loop's thread only.
type Source interface {
	// FD returns the non-blocking descriptor; it must not change while the source is added.
	FD() int
	// Ready handles one batch of what can be read. It returns how many frames there were, and false when the descriptor
	// is finished, upon which the loop forgets it.
	Ready() (frames int, open bool)
}

// Stats counts what a loop did since it was made. The fields may be read at any time.
type Stats struct {
	Rounds atomic.Uint64 // times around with something to do
	Frames atomic.Uint64 // frames that sources read
	Yields atomic.Uint64 // looks after sched_yield that found work
	Waits  atomic.Uint64 // waits in the kernel
}

// ErrClosed is returned by Add and Do after the loop has ended.
var ErrClosed = errors.New("loop: closed")

const (
	maxEvents  = 64
	waitMillis = 10
	idleWaits  = 20 // bounded waits without work after which the loop waits without a limit
)

// Loop is one thread. Make it with New, then Run it; Add, Remove and Do may be called from any other goroutine, also before Run.
type Loop struct {
	Stats

	epoll, wake int
	flush       func()

	mu     sync.Mutex
	tasks  []func()
	closed bool
	done   chan struct{}

	// Of the loop's thread alone.
	sources map[int32]Source
	events  [maxEvents]unix.EpollEvent
	spin    spinner
	idle    int
}

// New returns a loop that calls flush (if not nil) after each round over its ready sources.
func New(flush func()) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("loop: epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("loop: eventfd: %w", err)
	}
	l := &Loop{epoll: epoll, wake: wake, flush: flush, done: make(chan struct{}), sources: make(map[int32]Source)}
	if err := l.watch(wake); err != nil {
		unix.Close(epoll)
		unix.Close(wake)
		return nil, err
	}
	return l, nil
}

func (l *Loop) watch(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("loop: watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Add starts serving s. It returns when the loop knows it; after Run has ended it returns ErrClosed.
func (l *Loop) Add(s Source) error {
	var err error
	if e := l.Do(func() { err = l.Serve(s) }); e != nil {
		return e
	}
	return err
}

// Remove stops serving s. When it returns, s.Ready is not running and will not be called again, so its descriptor may be closed.
func (l *Loop) Remove(s Source) {
	// After the loop's end there is nothing left to remove s from.
	_ = l.Do(func() { l.forget(s) })
}

func (l *Loop) forget(s Source) {
	if l.sources[int32(s.FD())] != s {
		return
	}
	delete(l.sources, int32(s.FD()))
	// A TAP whose namespace died has left the set by itself.
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, s.FD(), nil)
}

// Do runs fn on the loop's thread between two rounds and waits for it. A Do that does nothing is a barrier: when it has returned, the
// thread holds nothing that it had read from tables before.
func (l *Loop) Do(fn func()) error {
	ran := make(chan struct{})
	if err := l.Post(func() { fn(); close(ran) }); err != nil {
		return err
	}
	select {
	case <-ran:
		return nil
	case <-l.done:
	}
	select {
	case <-ran: // it was among the last tasks
		return nil
	default:
		return ErrClosed
	}
}

// Post has fn run on the loop's thread between two rounds, and does not wait for it. Unlike Do it may be called on that thread itself.
// After the loop has ended it returns ErrClosed, and fn does not run.
func (l *Loop) Post(fn func()) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.tasks = append(l.tasks, fn)
	l.mu.Unlock()
	l.poke()
	return nil
}

// Serve is Add for the loop's own thread, in a Source's Ready or in a function given to Post.
func (l *Loop) Serve(s Source) error {
	err := l.watch(s.FD())
	if err == nil {
		l.sources[int32(s.FD())] = s
	}
	return err
}

// Forget is Remove for the loop's own thread.
func (l *Loop) Forget(s Source) { l.forget(s) }

// poke wakes the loop, unless it has ended: its descriptor's number may by then be somebody else's.
func (l *Loop) poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(l.wake, one[:]) // fails only when the counter is full, and then the loop is awake
}

// Run serves the sources on a locked thread until ctx ends, and releases the loop's own descriptors. It is called once.
func (l *Loop) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	shorten()
	stop := context.AfterFunc(ctx, l.poke)
	defer stop()
	defer l.end()
	for ctx.Err() == nil {
		n, err := l.wait()
		if err != nil {
			return fmt.Errorf("loop: wait: %w", err)
		}
		if n > 0 {
			l.round(n)
		}
	}
	return nil
}

func (l *Loop) end() {
	l.mu.Lock()
	l.closed = true
	tasks := l.tasks
	l.tasks = nil
	l.mu.Unlock()
	for _, task := range tasks {
		task()
	}
	close(l.done)
	unix.Close(l.epoll)
	unix.Close(l.wake)
}

// round serves n ready descriptors. Tasks wait for its end: what sources have read is queued for peers until the flush, and whoever
// waits for a task may close a peer.
func (l *Loop) round(n int) {
	frames, woken := 0, false
	for i := range n {
		fd := l.events[i].Fd
		if int(fd) == l.wake {
			woken = true
			continue
		}
		s := l.sources[fd]
		if s == nil {
			continue // finished
		}
		got, open := s.Ready()
		frames += got
		if !open {
			l.forget(s)
		}
	}
	if l.flush != nil {
		l.flush()
	}
	l.Rounds.Add(1)
	l.Frames.Add(uint64(frames))
	if woken {
		l.runTasks()
	}
}

func (l *Loop) runTasks() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	l.mu.Lock()
	tasks := l.tasks
	l.tasks = nil
	l.mu.Unlock()
	for _, task := range tasks {
		task()
	}
}

// wait returns how many descriptors are ready, in l.events.
func (l *Loop) wait() (int, error) {
	n, errno := l.poll(0)
	for tries := l.spin.tries(); n == 0 && errno == 0 && tries > 0; tries-- {
		before := time.Now()
		yield()
		n, errno = l.poll(0)
		switch {
		case n > 0:
			l.Yields.Add(1)
			l.spin.learn(true)
		case tries == 1:
			l.spin.learn(false)
		case time.Since(before) > crowded:
			tries = 1 // to be woken, perhaps on an idle core, is better than to queue for this one
		}
	}
	if n == 0 && errno == 0 {
		l.Waits.Add(1)
		if l.idle < idleWaits {
			n, errno = l.poll(waitMillis)
		} else {
			return l.sleep()
		}
		l.idle++
	}
	if n > 0 {
		l.idle = 0
	}
	if errno != 0 && errno != unix.EINTR {
		return 0, errno
	}
	return max(n, 0), nil
}

// sleep waits without a limit and lets the scheduler have the P meanwhile.
func (l *Loop) sleep() (int, error) {
	n, err := unix.EpollWait(l.epoll, l.events[:], -1)
	if err == unix.EINTR {
		return 0, nil
	}
	l.idle = 0
	return n, err
}
