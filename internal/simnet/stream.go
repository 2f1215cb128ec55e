package simnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes of a stream may be on the way or unread, as TCP's.
const window = 256 << 10

// pipe is a connection: two ends, and a stream in each direction.
type pipe struct {
	net    *Network
	a, b   *end // a dialed
	closed int  // ends; under net.mu
	dead   bool // one end has crashed; under net.mu
}

// end is one end of a pipe. It is a net.Conn.
type end struct {
	pipe          *pipe
	local, remote netip.AddrPort
	in, out       *stream
	once          sync.Once
}

func newPipe(n *Network, from, to netip.AddrPort) *pipe {
	p := &pipe{net: n}
	ab, ba := newStream(), newStream()
	p.a = &end{pipe: p, local: from, remote: to, in: ba, out: ab}
	p.b = &end{pipe: p, local: to, remote: from, in: ab, out: ba}
	return p
}

// hold stops the pipe, or lets it go on. The network's lock is held, as in crash and reset.
func (p *pipe) hold(cut bool) {
	p.a.in.change(func(s *stream) { s.held = cut || p.dead })
	p.b.in.change(func(s *stream) { s.held = cut || p.dead })
}

// crash ends the pipe for its end at addr and leaves the other without an answer.
func (p *pipe) crash(addr netip.AddrPort) {
	for _, e := range []*end{p.a, p.b} {
		if e.local == addr {
			p.dead = true
			e.in.change(func(s *stream) { s.readErr = ErrCrashed })
			e.out.change(func(s *stream) { s.writeErr, s.held = ErrCrashed, true })
		}
	}
}

// reset ends the pipe for the node that talks to a crashed one at addr, whose next life knows nothing of it.
func (p *pipe) reset(addr netip.AddrPort) {
	if !p.dead {
		return
	}
	for _, e := range []*end{p.a, p.b} {
		if e.remote == addr {
			e.in.change(func(s *stream) { s.readErr = first(s.readErr, syscall.ECONNRESET) })
			e.out.change(func(s *stream) { s.writeErr = first(s.writeErr, syscall.ECONNRESET) })
		}
	}
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (e *end) Read(b []byte) (int, error) {
	n, err := e.in.read(b)
	if n > 0 {
		e.pipe.net.mu.Lock()
		e.pipe.net.count(e.local).StreamReceived += uint64(n)
		e.pipe.net.mu.Unlock()
	}
	return n, err
}

func (e *end) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		part := b[:min(len(b), window/4)]
		if err = e.out.write(part, e.arrival()); err == nil {
			written += len(part)
			b = b[len(part):]
			e.pipe.net.mu.Lock()
			e.pipe.net.count(e.local).StreamSent += uint64(len(part))
			e.pipe.net.mu.Unlock()
		}
	}
	return written, err
}

// arrival draws when what is sent now arrives.
func (e *end) arrival() time.Time {
	n := e.pipe.net
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.draw(e.local, e.remote)
	at := time.Now().Add(n.delay(r))
	if r.Float64() < n.link.Loss {
		at = at.Add(repetition)
	}
	return at
}

// Close ends both directions: the other end reads what is on the way, then EOF.
func (e *end) Close() error {
	e.once.Do(func() {
		at := e.arrival()
		e.out.change(func(s *stream) {
			s.push(chunk{due: at})
			s.writeErr = net.ErrClosed
		})
		e.in.change(func(s *stream) {
			s.chunks, s.size = nil, 0
			if s.readErr != ErrCrashed { // whose host tells the other end nothing
				s.writeErr = first(s.writeErr, syscall.EPIPE)
			}
			s.readErr = net.ErrClosed
		})
		n := e.pipe.net
		n.mu.Lock()
		defer n.mu.Unlock()
		if e.pipe.closed++; e.pipe.closed == 2 {
			delete(n.pipes, e.pipe)
		}
	})
	return nil
}

func (e *end) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(e.local) }
func (e *end) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(e.remote) }

func (e *end) SetDeadline(t time.Time) error {
	e.in.change(func(s *stream) { s.readBy = t })
	e.out.change(func(s *stream) { s.writeBy = t })
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.change(func(s *stream) { s.readBy = t })
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.change(func(s *stream) { s.writeBy = t })
	return nil
}

// stream is one direction: chunks on their way from one writer to one reader.
type stream struct {
	mu       sync.Mutex
	chunks   []chunk
	size     int           // bytes in chunks
	held     bool          // nothing arrives: a partition, or the writer has crashed
	readErr  error         // what reading gives from now on
	writeErr error         // what writing gives from now on
	readBy   time.Time     // deadlines; zero: none
	writeBy  time.Time     //
	changed  chan struct{} // closed at the next change of anything above
}

// chunk is what was written at once. One without data is the end.
type chunk struct {
	data []byte
	due  time.Time
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

// change does something under the lock and wakes whoever waits.
func (s *stream) change(do func(*stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s)
	s.wake()
}

func (s *stream) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// push adds a chunk, which does not overtake those before it. s.mu is held.
func (s *stream) push(c chunk) {
	if i := len(s.chunks); i > 0 && c.due.Before(s.chunks[i-1].due) {
		c.due = s.chunks[i-1].due
	}
	s.chunks = append(s.chunks, c)
	s.size += len(c.data)
}

func (s *stream) read(b []byte) (int, error) {
	for {
		s.mu.Lock()
		n, next, err := s.take(b)
		changed := s.changed
		s.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		await(changed, next)
	}
}

// take reads what has arrived. Without anything it says when to look again: zero if not before a change. s.mu is held.
func (s *stream) take(b []byte) (n int, next time.Time, err error) {
	now := time.Now()
	switch {
	case s.readErr != nil:
		return 0, next, s.readErr
	case !s.readBy.IsZero() && !now.Before(s.readBy):
		return 0, next, os.ErrDeadlineExceeded
	case s.held || len(s.chunks) == 0:
		return 0, s.readBy, nil
	}
	head := &s.chunks[0]
	if head.due.After(now) {
		return 0, sooner(head.due, s.readBy), nil
	}
	if len(head.data) == 0 {
		return 0, next, io.EOF
	}
	n = copy(b, head.data)
	s.size -= n
	if head.data = head.data[n:]; len(head.data) == 0 {
		s.chunks = s.chunks[1:]
	}
	s.wake()
	return n, next, nil
}

func (s *stream) write(b []byte, due time.Time) error {
	for {
		s.mu.Lock()
		switch {
		case s.writeErr != nil:
			defer s.mu.Unlock()
			return s.writeErr
		case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
			s.mu.Unlock()
			return os.ErrDeadlineExceeded
		case s.size+len(b) <= window:
			s.push(chunk{slices.Clone(b), due})
			s.wake()
			s.mu.Unlock()
			return nil
		}
		changed, by := s.changed, s.writeBy
		s.mu.Unlock()
		await(changed, by)
	}
}

// await returns when the channel closes or at a time, if it is not zero.
func await(changed <-chan struct{}, at time.Time) {
	if at.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// sooner returns the earlier of two times, the second of which may be zero for never.
func sooner(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}
