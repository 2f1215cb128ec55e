package router

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Conn is a TCP connection with a container. It is a net.Conn, and a relay.Conn; its methods may be called from any goroutine.
type Conn struct {
	router        *Router
	ep            tcpip.Endpoint
	wq            *waiter.Queue
	local, remote netip.AddrPort

	read, write side
	src         source // under write's lock
	dst         sink   // under read's lock
	in, out     atomic.Uint64
	closed      atomic.Bool
	broken      atomic.Pointer[error] // why the connection broke: netstack tells the first who asks
}

// side is what one direction of a connection waits by.
type side struct {
	mu    sync.Mutex // held by whoever reads, or writes
	wake  chan struct{}
	entry waiter.Entry

	timing sync.Mutex
	timer  *time.Timer
	until  atomic.Int64 // deadline in Unix nanoseconds; 0 is none
}

// What happens to a connection, or a listener, that may end a wait.
const (
	toRead  = waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr
	toWrite = waiter.WritableEvents | waiter.EventHUp | waiter.EventErr
)

// listen has events of wq wake whoever waits.
func (s *side) listen(wq *waiter.Queue, mask waiter.EventMask) {
	s.wake = make(chan struct{}, 1)
	s.entry.Init(waiter.ChannelNotifier(s.wake), mask)
	wq.EventRegister(&s.entry)
}

// poke has whoever waits look again.
func (s *side) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// setDeadline sets the deadline of who waits, and of who will.
func (s *side) setDeadline(t time.Time) {
	s.timing.Lock()
	defer s.timing.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if t.IsZero() {
		s.until.Store(0)
		return
	}
	s.until.Store(max(t.UnixNano(), 1))
	if left := time.Until(t); left > 0 {
		s.timer = time.AfterFunc(left, s.poke)
		return
	}
	s.poke()
}

func (s *side) expired() bool {
	t := s.until.Load()
	return t != 0 && time.Now().UnixNano() >= t
}

// newConn returns the connection of an endpoint that is established.
func newConn(r *Router, ep tcpip.Endpoint, wq *waiter.Queue, local, remote netip.AddrPort) *Conn {
	c := &Conn{router: r, ep: ep, wq: wq, local: local, remote: remote}
	c.read.listen(wq, toRead)
	c.write.listen(wq, toWrite)
	if size := fixedSize(r.lingering.enter(remote.Addr())); size > 0 {
		ep.SocketOptions().SetSendBufferSize(size, true)
		ep.SocketOptions().SetReceiveBufferSize(size, true)
	}
	ep.SocketOptions().SetKeepAlive(true) // after two hours, as Linux: the bridge knows sooner that a container is gone
	return c
}

// check returns why a side does nothing any more.
func (c *Conn) check(s *side) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	if err := c.router.ended(); err != nil {
		return err
	}
	if s.expired() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wait waits for something to have happened to a side.
func (c *Conn) wait(s *side) {
	select {
	case <-s.wake:
	case <-c.router.done:
	}
}

// opError wraps an error as package net does.
func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// failure makes an error of what netstack said. io.EOF is the end of the stream.
func (c *Conn) failure(failed tcpip.Error) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	if err := c.router.ended(); err != nil {
		return err
	}
	if _, ok := failed.(*tcpip.ErrClosedForReceive); ok && tcp.EndpointState(c.ep.State()) != tcp.StateError {
		return io.EOF
	}
	switch failed.(type) {
	case *tcpip.ErrClosedForReceive, *tcpip.ErrClosedForSend, *tcpip.ErrNotConnected:
		if err := c.broken.Load(); err != nil {
			return *err
		}
		if tcp.EndpointState(c.ep.State()) == tcp.StateError {
			return syscall.ECONNRESET // whoever was told why is about to say so
		}
		return errno(failed)
	}
	err := errno(failed)
	c.broken.CompareAndSwap(nil, &err)
	return err
}

// receive has netstack write what has come to w, once. It returns would-block if nothing has.
func (c *Conn) receive(w io.Writer) (n int, failed tcpip.Error, err error) {
	defer c.router.catchError(&err)
	res, failed := c.ep.Read(w, tcpip.ReadOptions{})
	if res.Count > 0 {
		c.in.Add(uint64(res.Count))
		if e, ok := c.ep.(*tcp.Endpoint); ok {
			e.ModerateRecvBuf(res.Count)
		}
	}
	return res.Count, failed, nil
}

// send has netstack read from p, once. It returns would-block if its buffer is full.
func (c *Conn) send(p tcpip.Payloader) (n int64, failed tcpip.Error, err error) {
	defer c.router.catchError(&err)
	n, failed = c.ep.Write(p, tcpip.WriteOptions{})
	c.out.Add(uint64(n))
	return n, failed, nil
}

// Read reads what the container has sent.
func (c *Conn) Read(b []byte) (int, error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	return c.readLocked(b)
}

func (c *Conn) readLocked(b []byte) (int, error) {
	for {
		if err := c.check(&c.read); err != nil {
			return 0, c.opError("read", err)
		}
		c.dst.b = b
		n, failed, err := c.receive(&c.dst)
		c.dst.b = nil
		switch {
		case err != nil:
			return 0, c.opError("read", err)
		case failed == nil:
			return n, nil
		}
		if _, ok := failed.(*tcpip.ErrWouldBlock); ok {
			c.wait(&c.read)
			continue
		}
		if err := c.failure(failed); err != io.EOF {
			return 0, c.opError("read", sysError("read", err))
		}
		return 0, io.EOF
	}
}

// sink is the buffer of a Read.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	n := copy(s.b, p)
	s.b = s.b[n:]
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// Write sends b to the container.
func (c *Conn) Write(b []byte) (int, error) {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	n := 0
	for n < len(b) {
		if err := c.check(&c.write); err != nil {
			return n, c.opError("write", err)
		}
		c.src.b = b[n:]
		k, failed, err := c.send(&c.src)
		c.src.b = nil
		n += int(k)
		if err != nil {
			return n, c.opError("write", err)
		}
		if err := c.sendFailed(failed); err != nil {
			return n, err
		}
	}
	return n, nil
}

// sendFailed waits if the send buffer is full, and returns other failures.
func (c *Conn) sendFailed(failed tcpip.Error) error {
	switch failed.(type) {
	case nil:
		return nil
	case *tcpip.ErrWouldBlock:
		c.wait(&c.write)
		return nil
	}
	return c.opError("write", sysError("write", c.failure(failed)))
}

// source is the buffer of a Write.
type source struct{ b []byte }

func (s *source) Len() int { return len(s.b) }

func (s *source) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

// Watch waits, after the stream has been read to its end, for the connection to break, and returns why. It returns another error when the
// read deadline passes, and net.ErrClosed when the connection ends in order.
func (c *Conn) Watch() (err error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	defer c.router.catchError(&err)
	for {
		if err := c.check(&c.read); err != nil {
			return c.opError("read", err)
		}
		switch tcp.EndpointState(c.ep.State()) {
		case tcp.StateError:
			return c.opError("read", sysError("read", c.failure(&tcpip.ErrClosedForReceive{})))
		case tcp.StateClose:
			// After a FIN netstack takes a reset for an end, and says so only here.
			if c.ep.LastError() != nil {
				return c.opError("read", sysError("read", syscall.ECONNRESET))
			}
			return c.opError("read", net.ErrClosed)
		case tcp.StateTimeWait:
			return c.opError("read", net.ErrClosed)
		}
		c.wait(&c.read)
	}
}

// CloseWrite sends a FIN: the container reads to its end, and may still send.
func (c *Conn) CloseWrite() (err error) {
	defer c.router.catchError(&err)
	if err := c.check(&c.write); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return c.opError("close", err)
	}
	if failed := c.ep.Shutdown(tcpip.ShutdownWrite); failed != nil {
		return c.opError("close", sysError("shutdown", c.failure(failed)))
	}
	return nil
}

// Close ends the connection: with a FIN, or with a reset if there is something that nobody has read. A container that takes nothing is
// waited for in the background, for a minute.
func (c *Conn) Close() error { return c.end(func() {}) }

// Reset ends the connection with a reset.
func (c *Conn) Reset() error {
	return c.end(func() { c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true}) })
}

// end closes the connection, once.
func (c *Conn) end(how func()) (err error) {
	if c.closed.Swap(true) {
		return nil
	}
	defer c.router.lingering.leave(c.remote.Addr())
	c.read.setDeadline(time.Time{})
	c.write.setDeadline(time.Time{})
	c.read.poke()
	c.write.poke()
	if c.router.state.Load() == dead {
		return nil // nobody knows what locks are held in there
	}
	defer c.router.catchError(&err)
	patience := tcpip.TCPUserTimeoutOption(takeAll)
	_ = c.ep.SetSockOpt(&patience)
	how()
	c.router.lingering.add(c)
	c.ep.Close()
	c.router.lingering.trim(c.remote.Addr())
	return nil
}

// LocalAddr returns the address that the container speaks to.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns the container's address.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline, SetReadDeadline and SetWriteDeadline are as net.Conn wants them.
func (c *Conn) SetDeadline(t time.Time) error {
	c.read.setDeadline(t)
	c.write.setDeadline(t)
	return nil
}

// SetReadDeadline sets the deadline of Read, WriteTo and Watch.
func (c *Conn) SetReadDeadline(t time.Time) error { c.read.setDeadline(t); return nil }

// SetWriteDeadline sets the deadline of Write and ReadFrom.
func (c *Conn) SetWriteDeadline(t time.Time) error { c.write.setDeadline(t); return nil }
