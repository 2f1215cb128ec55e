package loop

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe is a source that counts the bytes that arrive.
type pipe struct {
	r, w  int
	got   chan int
	close bool // say that the descriptor is finished with the first batch
}

func newPipe(t *testing.T) *pipe {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return &pipe{r: p[0], w: p[1], got: make(chan int, 100)}
}

func (p *pipe) FD() int { return p.r }

func (p *pipe) Ready() (int, bool) {
	var b [16]byte
	n, err := unix.Read(p.r, b[:])
	if err != nil {
		return 0, true
	}
	p.got <- n
	return n, !p.close
}

func (p *pipe) write(t *testing.T, s string) {
	t.Helper()
	if _, err := unix.Write(p.w, []byte(s)); err != nil {
		t.Fatal(err)
	}
}

// start runs a loop until the test ends.
func start(t *testing.T, flush func()) *Loop {
	t.Helper()
	l, err := New(flush)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l
}

func TestReadySourceIsServedAndFlushed(t *testing.T) {
	flushed := make(chan struct{}, 100)
	l := start(t, func() { flushed <- struct{}{} })
	p := newPipe(t)
	if err := l.Add(p); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"a", "bcd"} {
		for len(flushed) > 0 {
			<-flushed
		}
		p.write(t, s)
		if got := <-p.got; got != len(s) {
			t.Errorf("%d bytes read, want %d", got, len(s))
		}
		<-flushed
	}
	if err := l.Do(func() {}); err != nil { // the round is over, and counted
		t.Fatal(err)
	}
	if got := l.Frames.Load(); got != 4 {
		t.Errorf("%d frames counted, want 4", got)
	}
}

// busy is a source that always has something to read.
type busy struct {
	*pipe
	queued *bool
}

func (b busy) Ready() (int, bool) {
	*b.queued = true
	return 1, true
}

func TestTaskRunsWhenWhatWasReadIsFlushed(t *testing.T) {
	queued := false // of the loop's thread alone
	l := start(t, func() { queued = false })
	for range 3 { // before and after the tasks' own descriptor
		b := busy{newPipe(t), &queued}
		b.write(t, "x")
		if err := l.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	early := 0
	for range 1000 {
		if err := l.Do(func() {
			if queued {
				early++
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if early > 0 {
		t.Errorf("%d of 1000 tasks ran while frames were queued", early)
	}
}

func TestRemovedSourceIsLeftAlone(t *testing.T) {
	l := start(t, nil)
	p, q := newPipe(t), newPipe(t)
	for _, s := range []*pipe{p, q} {
		if err := l.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	l.Remove(p)
	l.Remove(p) // idempotent
	p.write(t, "unread")
	q.write(t, "read")
	<-q.got
	if err := l.Do(func() {}); err != nil {
		t.Fatal(err)
	}
	if len(p.got) != 0 {
		t.Error("a removed source was served")
	}
}

func TestFinishedSourceIsForgotten(t *testing.T) {
	l := start(t, nil)
	p := newPipe(t)
	p.close = true
	if err := l.Add(p); err != nil {
		t.Fatal(err)
	}
	p.write(t, "last")
	<-p.got
	p.write(t, "more")
	q := newPipe(t)
	if err := l.Add(q); err != nil {
		t.Fatal(err)
	}
	q.write(t, "x")
	<-q.got
	if len(p.got) != 0 {
		t.Error("a finished source was served again")
	}
}

func TestIdleLoopStillWakesUp(t *testing.T) {
	l := start(t, nil)
	p := newPipe(t)
	if err := l.Add(p); err != nil {
		t.Fatal(err)
	}
	for range 2 { // from the first idleness, and from one after work
		untilIdle(l)
		p.write(t, "hello")
		<-p.got
	}
	untilIdle(l)
	if err := l.Do(func() {}); err != nil {
		t.Fatal(err)
	}
}

// untilIdle waits until the loop waits without a limit: its count of waits stands still for several of the bounded ones.
func untilIdle(l *Loop) {
	for last, same := uint64(0), 0; same < 5; {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: waitMillis * 2e6}, nil)
		if now := l.Waits.Load(); now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
}

func TestClosedDescriptorIsRefused(t *testing.T) {
	l := start(t, nil)
	if err := l.Add(&pipe{r: 1 << 20}); !errors.Is(err, unix.EBADF) {
		t.Errorf("Add of a closed descriptor: %v, want EBADF", err)
	}
}

func TestEndedLoopTakesNothing(t *testing.T) {
	l, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Post(func() { t.Error("it ran") }); !errors.Is(err, ErrClosed) {
		t.Errorf("Post after the end: %v, want ErrClosed", err)
	}
	if err := l.Do(func() {}); !errors.Is(err, ErrClosed) {
		t.Errorf("Do after the end: %v, want ErrClosed", err)
	}
	p := newPipe(t)
	if err := l.Add(p); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after the end: %v, want ErrClosed", err)
	}
	l.Remove(p)
}

func TestEndedLoopLeavesItsDescriptorsToOthers(t *testing.T) {
	l, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	// Somebody else gets the number, and a wake-up is late.
	other, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if other != l.wake {
		if err := unix.Dup3(other, l.wake, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(l.wake)
	}
	l.poke()
	var count [8]byte
	if n, err := unix.Read(other, count[:]); err != unix.EAGAIN {
		t.Errorf("%d bytes %v were written to somebody else's descriptor: %v", n, count, err)
	}
}

func TestSpinnerStopsWhenLookingFindsNothing(t *testing.T) {
	var s spinner
	for range 100 {
		if s.tries() > 0 {
			s.learn(false)
		}
	}
	spent := 0
	for range 10 * spinProbe {
		if s.tries() > 0 {
			spent++
			s.learn(false)
		}
	}
	if spent != 10 {
		t.Errorf("%d probes in %d waits, want 10", spent, 10*spinProbe)
	}
	for range spinProbe * spinRange {
		if s.tries() > 0 {
			s.learn(true)
		}
	}
	if s.tries() != spinTries {
		t.Error("looking finds work again, but the spinner does not look")
	}
}

// chain is a source that, at its first batch, hands over to another on its own thread.
type chain struct {
	*pipe
	loop *Loop
	next Source
	errs chan error
}

func (c *chain) Ready() (int, bool) {
	n, open := c.pipe.Ready()
	if c.next != nil {
		next := c.next
		c.next = nil
		c.errs <- c.loop.Serve(next)
		c.errs <- c.loop.Post(func() { c.loop.Forget(c) })
	}
	return n, open
}

func TestASourceMayServeAnotherAndForgetItself(t *testing.T) {
	l := start(t, nil)
	first, second := newPipe(t), newPipe(t)
	c := &chain{pipe: first, loop: l, next: second, errs: make(chan error, 2)}
	if err := l.Add(c); err != nil {
		t.Fatal(err)
	}
	first.write(t, "x")
	for range 2 {
		if err := <-c.errs; err != nil {
			t.Fatal(err)
		}
	}
	second.write(t, "yy")
	if n := <-first.got; n != 1 {
		t.Errorf("the first read %d bytes, want 1", n)
	}
	if n := <-second.got; n != 2 {
		t.Errorf("the second read %d bytes, want 2", n)
	}
	first.write(t, "x")
	if err := l.Do(func() {}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.got:
		t.Error("the first was served after it was forgotten")
	default:
	}
}
