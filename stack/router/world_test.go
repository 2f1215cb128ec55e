package router_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
)

var (
	subnet4  = netip.MustParsePrefix("10.0.0.0/24")
	subnet6  = netip.MustParsePrefix("fd00::/64")
	gateway4 = netip.MustParseAddr("10.0.0.1")
	gateway6 = netip.MustParseAddr("fd00::1")
	inside4  = netip.MustParseAddr("10.0.0.2") // the container
	inside6  = netip.MustParseAddr("fd00::2")
	outside4 = netip.MustParseAddr("192.0.2.9") // the world
	outside6 = netip.MustParseAddr("2001:db8::9")
)

const mtu = 1450

// wire is the bridge between a router and a container: it delivers on a thread of its own, as the data path does, and drops what it has no
// room for. It checks every frame.
type wire struct {
	t     testing.TB
	knows func(netip.Addr) bool
	take  func(f *frame.Frame) drop.Reason
	see   func(f *frame.Frame) // every frame, before it is delivered

	mu     sync.Mutex
	queue  [][]byte
	states []frame.Offload
	more   *sync.Cond
	closed bool
	done   chan struct{}
	super  int // superframes
}

func newWire(t testing.TB, knows func(netip.Addr) bool) *wire {
	w := &wire{t: t, knows: knows, done: make(chan struct{})}
	w.more = sync.NewCond(&w.mu)
	return w
}

// run delivers until the wire is closed.
func (w *wire) run() {
	defer close(w.done)
	var f frame.Frame
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.closed {
			w.more.Wait()
		}
		if w.closed {
			w.mu.Unlock()
			return
		}
		b, o := w.queue[0], w.states[0]
		w.queue, w.states = w.queue[1:], w.states[1:]
		w.mu.Unlock()
		f.Set(b, frame.Headroom, len(b)-frame.Headroom)
		f.Offload = o
		if reason := f.Parse(); reason != drop.None {
			w.t.Errorf("a frame that was sent does not parse: %v", reason)
			continue
		}
		w.check(&f)
		if w.see != nil {
			w.see(&f)
		}
		if w.take == nil {
			continue
		}
		w.take(&f)
	}
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	w.more.Broadcast()
	w.mu.Unlock()
	<-w.done
}

// check looks at lengths and checksums of a frame, as its receiver's kernel would.
func (w *wire) check(f *frame.Frame) {
	if f.GSO != frame.GSONone {
		w.mu.Lock()
		w.super++
		w.mu.Unlock()
		segs, _, reason := frame.Cut(f, mtu, nil, make([]byte, frame.CutSpace(f, mtu, 0)), nil)
		if reason != drop.None {
			w.t.Errorf("a superframe cannot be cut: %v", reason)
		}
		for _, s := range segs {
			b := append(append(make([]byte, frame.Headroom), s.Header...), s.Payload...)
			var one frame.Frame
			one.Set(b, frame.Headroom, len(b)-frame.Headroom)
			if one.Parse() != drop.None || !one.Verify() || len(s.Header)+len(s.Payload) > mtu+14 {
				w.t.Errorf("a segment of a superframe is not right: % x", s.Header)
			}
		}
		return
	}
	if n := f.End - int(f.L3); n > mtu {
		w.t.Errorf("a packet of %d bytes was sent; the MTU is %d", n, mtu)
	}
	var c frame.Frame
	b := append(make([]byte, frame.Headroom), f.Bytes()...)
	c.Set(b, frame.Headroom, len(b)-frame.Headroom)
	c.Offload = f.Offload
	if c.Parse() == drop.None {
		c.Complete()
		c.Checksum = frame.Unverified
		if !c.Verify() {
			w.t.Errorf("a checksum is wrong (%+v): % x", f.Offload, f.Bytes())
		}
	}
}

// Send is the Link of whoever sends into the wire.
func (w *wire) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	if !w.knows(to) {
		return drop.NoRoute
	}
	b := make([]byte, frame.Headroom, frame.Headroom+2048)
	for _, p := range parts {
		b = append(b, p...)
	}
	e := b[frame.Headroom:]
	copy(e, []byte{2, 0x42, 10, 0, 0, 2, 2, 0x42, 10, 0, 0, 1})
	binary.BigEndian.PutUint16(e[12:], frame.EtherIPv4)
	if to.Is6() {
		binary.BigEndian.PutUint16(e[12:], frame.EtherIPv6)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= 1000 {
		return drop.QueueFull
	}
	w.queue, w.states = append(w.queue, b), append(w.states, *o)
	w.more.Signal()
	return drop.None
}

func (w *wire) superframes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.super
}

// forward is a Forward made of functions.
type forward struct {
	tcp      func(ctx context.Context, q *router.Request)
	datagram func(f *frame.Frame) drop.Reason
}

func (f *forward) TCP(ctx context.Context, q *router.Request) {
	if f.tcp != nil {
		f.tcp(ctx, q)
	}
}

func (f *forward) Datagram(d *frame.Frame) drop.Reason {
	if f.datagram != nil {
		return f.datagram(d)
	}
	return drop.NotForwarded
}

// config is a router's for the network of the tests.
func config(link router.Link, f router.Forward) router.Config {
	return router.Config{
		Network: "net", Subnets: []netip.Prefix{subnet4, subnet6}, Gateways: []netip.Addr{gateway4, gateway6},
		MTU: mtu, Link: link, Forward: f,
	}
}

// start returns a router that ends with the test.
func start(t testing.TB, c router.Config) *router.Router {
	t.Helper()
	r, err := router.New(c)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// world is a router, and a container whose kernel is a netstack too.
type world struct {
	*forward
	router    *router.Router
	container *router.Router
	down, up  *wire // to the container, and from it
}

func newWorld(t testing.TB) *world {
	w := &world{forward: &forward{}}
	w.down = newWire(t, func(a netip.Addr) bool { return a == inside4 || a == inside6 })
	w.up = newWire(t, func(netip.Addr) bool { return true })
	w.router = start(t, config(w.down, w.forward))
	w.container = start(t, router.Config{
		Network: "container", Subnets: []netip.Prefix{subnet4, subnet6}, Gateways: []netip.Addr{inside4, inside6},
		MTU: mtu, Link: w.up, Forward: &forward{},
	})
	w.up.take = func(f *frame.Frame) drop.Reason { return w.router.Receive(nil, f) }
	w.down.take = func(f *frame.Frame) drop.Reason { return w.container.Receive(nil, f) }
	for _, d := range []*wire{w.up, w.down} {
		go d.run()
		t.Cleanup(d.close)
	}
	return w
}

// dial connects from the container.
func (w *world) dial(t testing.TB, to netip.AddrPort) *router.Conn {
	t.Helper()
	c, err := w.container.DialTCP(within(t), netip.AddrPort{}, to)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// accepting makes the world accept everything, and returns the connections.
func (w *world) accepting(t testing.TB) <-chan *router.Conn {
	conns := make(chan *router.Conn, 16)
	w.forward.tcp = func(ctx context.Context, q *router.Request) {
		c, err := q.Accept(ctx)
		if err != nil {
			t.Errorf("Accept: %v", err)
			return
		}
		conns <- c
	}
	return conns
}

// within is a context that ends before a test that hangs would.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that must come to be.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("it did not come to be that %s", what)
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

// next takes what must come.
func next[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
