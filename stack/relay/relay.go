// Package relay joins two TCP connections, so that what is said on one is heard on the other: not bytes alone, but also where a
// stream ends (RFC 9293 §3.6), and where it breaks (§3.10.7).
//
//	     ┌───────────────── Run ─────────────────┐
//	     │  read ──────── up ─────────► write    │          one side says          the other hears
//	a ◄──┤                                       ├──► b     FIN (half-close)       FIN, and may still send
//	     │  write ◄────── down ──────── read     │          RST, or is unreachable RST
//	     └──────────── ctx ends: RST, RST ───────┘          FIN both ways          FIN, and is closed
//
// A direction that waits holds no buffer: it waits until its socket can be read, and takes a buffer from a pool then. Where the two sides
// have a faster way between them, one writes to the other, or reads from it, itself: see Conn.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a side of a relay. One that is an io.WriterTo or an io.ReaderFrom, and no socket itself, is taken at its word where the other
// side is a socket (of Host): it is handed that as a *net.TCPConn, and may use its descriptor, but must not hold a buffer while
// there is nothing to copy.
type Conn interface {
	net.Conn
	CloseWrite() error // ends what is sent, and leaves the other direction open
	Reset() error      // ends both directions at once, with a RST; whoever waits in Read or Write returns
}

// watcher is a Conn that knows of its connection's end even when nobody reads or writes. Watch waits for a reset, after all
// was read, and returns its error; it returns another error when the read deadline has passed.
type watcher interface{ Watch() error }

// Counters tell how much a relay has carried. The zero value is ready.
type Counters struct {
	Up, Down atomic.Uint64 // bytes from a to b and from b to a; while a faster way is taken, of what has ended: see Bytes

	up, down atomic.Pointer[meter]
}

// meter is a socket that knows what passes through it, for a direction that is not counted otherwise.
type meter struct {
	conn     *host
	sent     bool   // it is the side that is written to
	at, base uint64 // what it counted, and what Counters did, when the direction took the faster way
}

// Bytes returns how much has been carried by now, each way. It may be called at any time, from any goroutine.
func (c *Counters) Bytes() (up, down uint64) { return live(&c.Up, &c.up), live(&c.Down, &c.down) }

func live(n *atomic.Uint64, p *atomic.Pointer[meter]) uint64 {
	if m := p.Load(); m != nil {
		if v, ok := m.read(); ok {
			return m.base + v - m.at
		}
	}
	return n.Load()
}

func (m *meter) read() (uint64, bool) {
	i, err := m.conn.Info()
	switch {
	case err != nil:
		return 0, false
	case m.sent:
		return i.Sent, true
	}
	return i.Received, true
}

// Run carries what a and b say to each other until both have ended their streams, and closes both. c may be nil. When a side breaks, both are
// reset, and the error says which; when ctx ends first, likewise, and the error is its cause.
func Run(ctx context.Context, a, b Conn, c *Counters) error {
	if c == nil {
		c = new(Counters)
	}
	r := &run{a: a, b: b}
	stop := context.AfterFunc(ctx, func() { r.abort(context.Cause(ctx)) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.carry(b, a, &c.Down, &c.down)
	}()
	r.carry(a, b, &c.Up, &c.up)
	<-done
	stop()
	// Their streams have ended, or they are reset: there is nothing that Close could still fail to do.
	_ = a.Close()
	_ = b.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// run is what the two directions share.
type run struct {
	a, b Conn

	mu    sync.Mutex
	err   error // the first
	ended int   // directions
}

// abort resets both sides, for the first reason that there is.
func (r *run) abort(err error) {
	r.mu.Lock()
	first := r.err == nil && r.ended < 2
	if first {
		r.err = err
	}
	r.mu.Unlock()
	if first {
		// A side that is gone already cannot be reset.
		_ = r.a.Reset()
		_ = r.b.Reset()
	}
}

// end counts a direction that has ended, and reports whether it is the last.
func (r *run) end() (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
	return r.ended == 2
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// carry is one direction of a relay.
func (r *run) carry(src, dst Conn, n *atomic.Uint64, m *atomic.Pointer[meter]) {
	err := transfer(src, dst, n, m)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		r.abort(fmt.Errorf("relay: %s to %s: %w", src.RemoteAddr(), dst.RemoteAddr(), err))
		r.end()
		return
	}
	if r.end() {
		_ = dst.SetReadDeadline(longAgo) // it was read to its end, and is being watched
		return
	}
	// The other direction may be idle for ever, and would not see that its receiver is gone.
	if w, ok := src.(watcher); ok {
		if err := w.Watch(); err != nil && !errors.Is(err, net.ErrClosed) && !timedOut(err) {
			r.abort(fmt.Errorf("relay: %s: %w", src.RemoteAddr(), err))
		}
	}
}

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// transfer copies src to its end by the fastest way that there is.
func transfer(src, dst Conn, n *atomic.Uint64, m *atomic.Pointer[meter]) error {
	from, fromHost := src.(*host)
	to, toHost := dst.(*host)
	switch {
	case fromHost && toHost:
		return from.splice(to, n)
	case toHost:
		if w, ok := src.(io.WriterTo); ok {
			defer measure(m, to, true, n)()
			return count(n)(w.WriteTo(to.TCPConn))
		}
	case fromHost:
		if w, ok := dst.(io.ReaderFrom); ok {
			defer measure(m, from, false, n)()
			return count(n)(w.ReadFrom(from.TCPConn))
		}
		return from.copyTo(dst, n)
	}
	return copyAll(src, dst, n)
}

// count adds what a transfer of its own has carried.
func count(n *atomic.Uint64) func(int64, error) error {
	return func(k int64, err error) error {
		n.Add(uint64(max(k, 0)))
		return err
	}
}

// measure has Counters.Bytes ask the socket h until the function that it returns is called.
func measure(p *atomic.Pointer[meter], h *host, sent bool, n *atomic.Uint64) (stop func()) {
	m := &meter{conn: h, sent: sent, base: n.Load()}
	if at, ok := m.read(); ok {
		// What arrived before this relay did is carried by it all the same.
		if sent {
			m.at = at
		}
		p.Store(m)
	}
	return func() { p.Store(nil) }
}
