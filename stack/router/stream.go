package router

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	copyLen  = 64 << 10  // of a buffer, where there is no faster way
	writeLen = 256 << 10 // what ReadFrom takes at a time
)

var buffers = sync.Pool{New: func() any { return new([copyLen]byte) }}

// socketOf returns the descriptor of a stream socket, nil if v is none.
func socketOf(v any) syscall.RawConn {
	sc, ok := v.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	kind := 0
	if err := raw.Control(func(fd uintptr) { kind, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE) }); err != nil || kind != unix.SOCK_STREAM {
		return nil
	}
	return raw
}

// WriteTo copies all that the container sends to w (io.WriterTo). Where w is a socket (syscall.Conn), the bytes go there from netstack's buffers
// without another copy, and nothing is held while none come.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	raw := socketOf(w)
	if raw == nil {
		return c.copyTo(w)
	}
	s := newSocketSink(raw)
	for {
		if err := c.check(&c.read); err != nil {
			return n, c.opError("read", err)
		}
		s.full, s.err = false, nil
		k, failed, err := c.receive(s)
		n += int64(k)
		switch {
		case err != nil:
			return n, c.opError("read", err)
		case s.err != nil:
			return n, s.err
		case s.full:
			if err := s.wait(); err != nil {
				return n, err
			}
		case failed == nil:
		default:
			if _, ok := failed.(*tcpip.ErrWouldBlock); ok {
				c.wait(&c.read)
				continue
			}
			if err := c.failure(failed); err != io.EOF {
				return n, c.opError("read", sysError("read", err))
			}
			return n, nil
		}
	}
}

// copyTo is WriteTo for a writer that is no socket. It takes a buffer when there is something to copy.
func (c *Conn) copyTo(w io.Writer) (n int64, err error) {
	for {
		for c.check(&c.read) == nil && !c.readable() {
			c.wait(&c.read)
		}
		b := buffers.Get().(*[copyLen]byte)
		k, err := c.readLocked(b[:])
		if k > 0 {
			var m int
			m, err = w.Write(b[:k])
			n += int64(m)
		}
		buffers.Put(b)
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// readable reports whether a Read would not wait.
func (c *Conn) readable() bool {
	defer c.router.catch()
	return c.ep.Readiness(toRead)&toRead != 0
}

// socketSink writes to a socket as much as it takes at once. It is called under the endpoint's lock.
type socketSink struct {
	raw   syscall.RawConn
	b     []byte
	n     int
	full  bool // the socket takes no more
	err   error
	write func(fd uintptr) bool // made once: a closure for each write would be garbage
}

func newSocketSink(raw syscall.RawConn) *socketSink {
	s := &socketSink{raw: raw}
	s.write = func(fd uintptr) bool {
		for s.n < len(s.b) {
			k, err := unix.Write(int(fd), s.b[s.n:])
			switch err {
			case nil:
				s.n += k
			case unix.EINTR:
			case unix.EAGAIN:
				s.full = true
				return true
			default:
				s.err = os.NewSyscallError("write", err)
				return true
			}
		}
		return true
	}
	return s
}

// Write never waits: a short one ends netstack's Read.
func (s *socketSink) Write(b []byte) (int, error) {
	s.b, s.n = b, 0
	if err := s.raw.Write(s.write); err != nil && s.err == nil {
		s.err = err
	}
	s.b = nil
	if s.n < len(b) {
		return s.n, io.ErrShortWrite
	}
	return s.n, nil
}

// wait waits until the socket takes more.
func (s *socketSink) wait() error {
	return s.raw.Write(func(fd uintptr) bool {
		// What happened since the write is not told again, so the socket is asked.
		return ready(fd, unix.POLLOUT)
	})
}

func ready(fd uintptr, events int16) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := unix.Poll(p[:], 0)
	return n > 0 && err == nil
}

// ReadFrom sends all of r to the container (io.ReaderFrom). Where r is a socket (syscall.Conn), the bytes are read straight into netstack's
// buffers, and nothing is held while none come.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	raw := socketOf(r)
	if raw == nil {
		return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, make([]byte, copyLen))
	}
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	s := newSocketSource(raw)
	for {
		pending, err := s.wait()
		if err != nil {
			return n, err
		}
		if pending == 0 {
			return n, nil
		}
		if err := c.check(&c.write); err != nil {
			return n, c.opError("write", err)
		}
		s.left = min(pending, writeLen)
		k, failed, err := c.send(s)
		n += k
		switch {
		case err != nil:
			return n, c.opError("write", err)
		case s.err != nil: // what was read is lost
			return n, s.err
		}
		if err := c.sendFailed(failed); err != nil {
			return n, err
		}
	}
}

// socketSource gives netstack what is waiting in a socket. Netstack wants to know beforehand how much that is, and asks for ever for
// what it was promised.
type socketSource struct {
	raw     syscall.RawConn
	left    int
	b       []byte
	n       int
	pending int
	err     error
	read    func(fd uintptr) bool
	look    func(fd uintptr) bool
	probe   [1]byte
}

func newSocketSource(raw syscall.RawConn) *socketSource {
	s := &socketSource{raw: raw}
	s.read = func(fd uintptr) bool {
		for {
			var err error
			s.n, err = unix.Read(int(fd), s.b)
			switch {
			case err == unix.EINTR:
				continue
			case err != nil:
				s.n, s.err = 0, os.NewSyscallError("read", err)
			case s.n == 0:
				s.err = io.ErrUnexpectedEOF
			}
			return true
		}
	}
	s.look = func(fd uintptr) bool {
		var err error
		if s.pending, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ); err != nil || s.pending > 0 {
			s.err = os.NewSyscallError("ioctl", err)
			return true
		}
		switch n, _, err := unix.Recvfrom(int(fd), s.probe[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); {
		case err == unix.EAGAIN, err == unix.EINTR:
			return false
		case err != nil:
			s.err = os.NewSyscallError("read", err)
		case n > 0: // it came this moment
			s.pending = n
		}
		return true
	}
	return s
}

// wait waits until there is something in the socket, and returns how much; 0 is its end.
func (s *socketSource) wait() (int, error) {
	s.err = nil
	if err := s.raw.Read(s.look); err != nil {
		return 0, err
	}
	return s.pending, s.err
}

// Len and Read make it a tcpip.Payloader.
func (s *socketSource) Len() int { return s.left }

func (s *socketSource) Read(b []byte) (int, error) {
	switch {
	case s.left == 0:
		return 0, io.EOF
	case len(b) == 0:
		return 0, nil
	}
	s.b, s.n = b[:min(len(b), s.left)], 0
	if err := s.raw.Read(s.read); err != nil && s.err == nil {
		s.err = err
	}
	s.b = nil
	s.left -= s.n
	if s.err != nil {
		return s.n, s.err
	}
	return s.n, nil
}
