package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/relay"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// pair returns the two ends of a connection over loopback.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// plain is a side that is no socket to the relay, and has no faster way.
type plain struct{ c *net.TCPConn }

func (p plain) Read(b []byte) (int, error)         { return p.c.Read(b) }
func (p plain) Write(b []byte) (int, error)        { return p.c.Write(b) }
func (p plain) Close() error                       { return p.c.Close() }
func (p plain) CloseWrite() error                  { return p.c.CloseWrite() }
func (p plain) LocalAddr() net.Addr                { return p.c.LocalAddr() }
func (p plain) RemoteAddr() net.Addr               { return p.c.RemoteAddr() }
func (p plain) SetDeadline(t time.Time) error      { return p.c.SetDeadline(t) }
func (p plain) SetReadDeadline(t time.Time) error  { return p.c.SetReadDeadline(t) }
func (p plain) SetWriteDeadline(t time.Time) error { return p.c.SetWriteDeadline(t) }
func (p plain) Reset() error {
	_ = p.c.SetLinger(0)
	return p.c.Close()
}

// fast is a side with a faster way, as a router.Conn has: it takes nothing but sockets.
type fast struct{ plain }

func (f fast) WriteTo(w io.Writer) (int64, error) {
	if _, ok := w.(*net.TCPConn); !ok {
		return 0, errors.New("the faster way was not given a socket")
	}
	return io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{f.c})
}

func (f fast) ReadFrom(r io.Reader) (int64, error) {
	if _, ok := r.(*net.TCPConn); !ok {
		return 0, errors.New("the faster way was not given a socket")
	}
	return io.Copy(struct{ io.Writer }{f.c}, struct{ io.Reader }{r})
}

// kinds are the sides that the relay tells apart, a and b.
var kinds = map[string][2]func(*net.TCPConn) relay.Conn{
	"sockets":                      {relay.Host, relay.Host},
	"a socket and a plain side":    {relay.Host, func(c *net.TCPConn) relay.Conn { return plain{c} }},
	"a faster side and a socket":   {func(c *net.TCPConn) relay.Conn { return fast{plain{c}} }, relay.Host},
	"plain sides":                  {func(c *net.TCPConn) relay.Conn { return plain{c} }, func(c *net.TCPConn) relay.Conn { return plain{c} }},
	"a plain side and a fast side": {func(c *net.TCPConn) relay.Conn { return plain{c} }, func(c *net.TCPConn) relay.Conn { return fast{plain{c}} }},
}

// relayed is a relay that runs, and the far ends of its two connections.
type relayed struct {
	a, b   *net.TCPConn
	count  relay.Counters
	cancel context.CancelCauseFunc
	done   chan error
}

func start(t testing.TB, kind [2]func(*net.TCPConn) relay.Conn) *relayed {
	t.Helper()
	an, a := pair(t)
	bn, b := pair(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &relayed{a: a, b: b, cancel: cancel, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- relay.Run(ctx, kind[0](an), kind[1](bn), &r.count)
	}()
	t.Cleanup(func() {
		cancel(context.Canceled)
		<-ended
	})
	for _, c := range []*net.TCPConn{a, b} {
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return r
}

// wait returns what Run did.
func (r *relayed) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatal("the relay does not end")
		return nil
	}
}

// each runs a test for all kinds of sides, in both directions: x is the far end of one side, y of the other.
func each(t *testing.T, test func(t *testing.T, r *relayed, x, y *net.TCPConn)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			r := start(t, kind)
			test(t, r, r.a, r.b)
		})
		t.Run(name+", the other way round", func(t *testing.T) {
			r := start(t, kind)
			test(t, r, r.b, r.a)
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func say(t testing.TB, c net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	must(t, err)
}

func hear(t testing.TB, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	_, err := io.ReadFull(c, b)
	must(t, err)
	if string(b) != want {
		t.Fatalf("heard %q, expected %q", b, want)
	}
}

func hearEnd(t testing.TB, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d bytes, %v; expected the end", n, err)
	}
}

func hearReset(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Fatalf("reading ended with %v, expected a reset", err)
	}
}

func TestAHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	each(t, func(t *testing.T, r *relayed, x, y *net.TCPConn) {
		say(t, x, "question")
		must(t, x.CloseWrite())
		hear(t, y, "question")
		hearEnd(t, y)
		say(t, y, "answer")
		hear(t, x, "answer")
		must(t, y.CloseWrite())
		hearEnd(t, x)
		must(t, r.wait(t))
		up, down := r.count.Bytes()
		if up+down != uint64(len("question")+len("answer")) || r.count.Up.Load() != up || r.count.Down.Load() != down {
			t.Errorf("counted %d up and %d down", up, down)
		}
	})
}

func TestAResetOfOneSideIsAResetOfTheOther(t *testing.T) {
	each(t, func(t *testing.T, r *relayed, x, y *net.TCPConn) {
		say(t, x, "a")
		hear(t, y, "a")
		must(t, x.SetLinger(0))
		must(t, x.Close())
		hearReset(t, y)
		if err := r.wait(t); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			t.Errorf("the relay ended with %v, expected a reset", err)
		}
	})
}

func TestAResetAfterAHalfCloseIsHeardThoughNothingIsSent(t *testing.T) {
	r := start(t, kinds["sockets"])
	must(t, r.a.CloseWrite())
	hearEnd(t, r.b)
	must(t, r.a.SetLinger(0))
	must(t, r.a.Close())
	eventually(t, func() bool { // b has read to the end, and would find the end again
		i, err := relay.Inspect(r.b)
		return err == nil && i.Broken
	})
	if err := r.wait(t); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the relay ended with %v, expected a reset", err)
	}
}

func TestACloseWithBytesToComeEndsBothSides(t *testing.T) {
	each(t, func(t *testing.T, r *relayed, x, y *net.TCPConn) {
		must(t, x.Close()) // as a program that exits: a FIN, and a RST to what comes then
		hearEnd(t, y)
		for {
			if _, err := y.Write([]byte("anybody there?")); err != nil {
				break
			}
		}
		if err := r.wait(t); err == nil {
			t.Error("the relay says that all was carried")
		}
	})
}

func TestTheContextResetsBothSides(t *testing.T) {
	each(t, func(t *testing.T, r *relayed, x, y *net.TCPConn) {
		say(t, x, "a")
		hear(t, y, "a")
		gone := errors.New("the container is gone")
		r.cancel(gone)
		hearReset(t, x)
		hearReset(t, y)
		if err := r.wait(t); !errors.Is(err, gone) {
			t.Errorf("the relay ended with %v, expected the context's cause", err)
		}
	})
}

// noise is n pseudo-random bytes, and what it hashes them to.
type noise struct {
	src *rand.ChaCha8
	n   int64
	sum hash.Hash
}

func newNoise(seed byte, n int64) *noise {
	return &noise{src: rand.NewChaCha8([32]byte{seed}), n: n, sum: sha256.New()}
}

func (s *noise) Read(b []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), s.n)]
	s.n -= int64(len(b))
	_, _ = s.src.Read(b)
	s.sum.Write(b)
	return len(b), nil
}

// exchange sends n bytes each way at once, and compares.
func exchange(t *testing.T, r *relayed, n int64) {
	t.Helper()
	_ = r.a.SetDeadline(time.Time{})
	_ = r.b.SetDeadline(time.Time{})
	var all sync.WaitGroup
	for i, way := range [][2]*net.TCPConn{{r.a, r.b}, {r.b, r.a}} {
		s, got := newNoise(byte(i), n), sha256.New()
		var sent sync.WaitGroup
		sent.Go(func() {
			_, err := io.CopyBuffer(struct{ io.Writer }{way[0]}, s, make([]byte, 100_000))
			if err == nil {
				err = way[0].CloseWrite()
			}
			if err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			k, err := io.Copy(got, struct{ io.Reader }{way[1]})
			sent.Wait()
			if err != nil || k != n || !bytes.Equal(got.Sum(nil), s.sum.Sum(nil)) {
				t.Errorf("way %d: %d of %d bytes arrived, %v, the same: %t", i, k, n, err, bytes.Equal(got.Sum(nil), s.sum.Sum(nil)))
			}
		})
	}
	all.Wait()
	must(t, r.wait(t))
	if up, down := r.count.Bytes(); up != uint64(n) || down != uint64(n) {
		t.Errorf("counted %d up and %d down, expected %d", up, down, n)
	}
}

func TestManyBytesArriveAsTheyWereSent(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) { exchange(t, start(t, kind), 64<<20) })
	}
	t.Run("a gibibyte between sockets", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes seconds")
		}
		exchange(t, start(t, kinds["sockets"]), 1<<30)
	})
}

func TestWhoDoesNotReadStopsTheOtherAndNothingIsLost(t *testing.T) {
	each(t, func(t *testing.T, r *relayed, x, y *net.TCPConn) {
		// Fill all there is on the way, until y's window is zero.
		s, full := newNoise(7, 1<<40), false
		buf := make([]byte, 1<<16)
		sent := int64(0)
		for !full {
			_, _ = s.Read(buf)
			for b := buf; len(b) > 0; {
				_ = x.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				k, err := x.Write(b)
				b = b[k:]
				sent += int64(k)
				if err != nil {
					full = true
					if e := net.Error(nil); !errors.As(err, &e) || !e.Timeout() {
						t.Fatal(err)
					}
					break
				}
			}
		}
		// The other direction is not held up by it.
		say(t, y, "slowly")
		hear(t, x, "slowly")
		must(t, x.CloseWrite())
		got, want := sha256.New(), sha256.New()
		if k, err := io.Copy(got, y); k != sent || err != nil {
			t.Fatalf("%d of %d bytes arrived, %v", k, sent, err)
		}
		_, _ = io.CopyN(want, rand.NewChaCha8([32]byte{7}), sent)
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("other bytes arrived than were sent")
		}
		must(t, y.CloseWrite())
		must(t, r.wait(t))
	})
}

func TestTheCountersRunWhileTheTransferDoes(t *testing.T) {
	each(t, func(t *testing.T, r *relayed, x, y *net.TCPConn) {
		for _, want := range []uint64{5, 10} {
			say(t, x, "hello")
			hear(t, y, "hello")
			eventually(t, func() bool {
				up, down := r.count.Bytes()
				return up+down == want && (x == r.a) == (up == want)
			})
		}
	})
}

func eventually(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); {
		if time.Now().After(end) {
			t.Fatal("the condition did not come true")
		}
		runtime.Gosched()
	}
}

func TestTheKernelTellsOfAConnection(t *testing.T) {
	a, b := pair(t)
	say(t, a, "hello")
	hear(t, b, "hello")
	i, err := relay.Inspect(b)
	must(t, err)
	if i.State != "ESTABLISHED" || i.Received != 5 || i.Sent != 0 || i.RTT <= 0 || i.Window <= 0 || i.Broken {
		t.Errorf("the receiver is %+v", i)
	}
	must(t, a.CloseWrite())
	hearEnd(t, b)
	if i, err = relay.Inspect(b); err != nil || i.State != "CLOSE-WAIT" {
		t.Errorf("after a FIN it is %+v, %v", i, err)
	}
	must(t, a.SetLinger(0))
	must(t, a.Close())
	eventually(t, func() bool {
		i, err = relay.Inspect(b)
		return err == nil && i.Broken
	})
	must(t, b.Close())
	if _, err := relay.Inspect(b); err == nil || !strings.Contains(err.Error(), b.RemoteAddr().String()) {
		t.Errorf("of a closed socket: %v, expected an error that names it", err)
	}
}

// lift raises the limit on descriptors as far as it goes, until the test ends.
func lift(t testing.TB, need uint64) {
	t.Helper()
	var old syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	if old.Max < need {
		t.Skipf("takes %d descriptors, and there are %d (ulimit -Hn)", need, old.Max)
	}
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: max(need, old.Cur), Max: old.Max}))
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}

func TestAThousandIdleRelaysHoldNoBuffers(t *testing.T) {
	const n = 1000
	lift(t, 4*n+200)
	var rs []*relayed
	var before, after runtime.MemStats
	goroutines := runtime.NumGoroutine()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		rs = append(rs, start(t, kinds["sockets"]))
	}
	for _, r := range rs { // each has had something to do
		say(t, r.a, "a")
		hear(t, r.b, "a")
		say(t, r.b, "b")
		hear(t, r.a, "b")
	}
	runtime.GC()
	runtime.GC() // what the pool holds goes with the second
	runtime.ReadMemStats(&after)
	each := (after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse) / n
	t.Logf("%d bytes a relay, with both far ends", each)
	if each > 24<<10 {
		t.Errorf("an idle relay holds %d bytes: one buffer alone is 262,144", each)
	}
	for _, r := range rs {
		must(t, r.a.Close())
		must(t, r.b.Close())
		must(t, r.wait(t))
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines })
}
