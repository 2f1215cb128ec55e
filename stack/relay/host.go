package relay

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host makes a side of a relay of a socket of this host's.
func Host(c *net.TCPConn) Conn { return &host{c} }

// host is a kernel's TCP socket.
type host struct{ *net.TCPConn }

// Reset has the kernel send a RST when the socket is closed, and closes it.
func (h *host) Reset() error {
	_ = h.SetLinger(0) // fails only on a socket that is closed
	return h.Close()
}

// Info is what the kernel knows of a TCP connection (struct tcp_info).
type Info struct {
	State          string // as RFC 9293 §3.3.2 names it
	Received, Sent uint64 // bytes, of the stream
	Retransmits    uint64 // segments
	RTT            time.Duration
	Window         int           // congestion window, in segments
	Idle           time.Duration // since data was sent or received
	Broken         bool          // it was reset, or timed out; a reader may still find what came before
}

// The kernel's numbers for states (include/net/tcp_states.h).
var states = [...]string{
	1: "ESTABLISHED", 2: "SYN-SENT", 3: "SYN-RECEIVED", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT", 7: "CLOSED",
	8: "CLOSE-WAIT", 9: "LAST-ACK", 10: "LISTEN", 11: "CLOSING",
}

// Info asks the kernel. It may be called at any time; it fails once the socket is closed.
func (h *host) Info() (Info, error) { return Inspect(h.TCPConn) }

// Inspect asks the kernel about a connection. It fails once that is closed.
func Inspect(c *net.TCPConn) (Info, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Info{}, fmt.Errorf("relay: inspect: %w", err)
	}
	var t *unix.TCPInfo
	var broken bool
	e := raw.Control(func(fd uintptr) {
		t, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		look := [1]unix.PollFd{{Fd: int32(fd)}}
		n, _ := unix.Poll(look[:], 0) // interrupted, it will do the next time
		broken = n == 1 && look[0].Revents&unix.POLLERR != 0
	})
	if e != nil {
		err = e
	}
	if err != nil {
		return Info{}, fmt.Errorf("relay: inspect %s: %w", c.RemoteAddr(), err)
	}
	i := Info{
		Received:    t.Bytes_received,
		Sent:        t.Bytes_sent - t.Bytes_retrans,
		Retransmits: uint64(t.Total_retrans),
		RTT:         time.Duration(t.Rtt) * time.Microsecond,
		Window:      int(t.Snd_cwnd),
		Idle:        time.Duration(min(t.Last_data_sent, t.Last_data_recv)) * time.Millisecond,
		Broken:      broken,
	}
	if int(t.State) < len(states) {
		i.State = states[t.State]
	}
	return i, nil
}

// Watch waits for a reset.
func (h *host) Watch() error {
	raw, err := h.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = os.NewSyscallError("getsockopt", err)
		case errno == int(unix.EPIPE): // what Linux makes of a RST where the FIN came before
			failed = unix.ECONNRESET
		case errno != 0:
			failed = syscall.Errno(errno)
		}
		return failed != nil
	})
	if err != nil {
		return err
	}
	return failed
}

// bufferLen is as much as one read takes at most.
const bufferLen = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferLen]byte) }}

// reader takes from a socket what there is, with a buffer that it holds only while there is something.
type reader struct {
	raw  syscall.RawConn
	take func(fd uintptr) bool // made once: a closure for each read would be garbage

	buf   *[bufferLen]byte
	n     int
	errno error
}

func newReader(c *net.TCPConn) (*reader, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &reader{raw: raw}
	r.take = func(fd uintptr) bool {
		r.buf = buffers.Get().(*[bufferLen]byte)
		for {
			if r.n, r.errno = unix.Read(int(fd), r.buf[:]); r.errno != unix.EINTR {
				break
			}
		}
		if r.n > 0 {
			return true
		}
		r.release()
		return r.errno != unix.EAGAIN
	}
	return r, nil
}

// next waits for bytes, which are the caller's until release.
func (r *reader) next() ([]byte, error) {
	if err := r.raw.Read(r.take); err != nil {
		return nil, err
	}
	switch {
	case r.errno != nil:
		return nil, os.NewSyscallError("read", r.errno)
	case r.n == 0:
		return nil, io.EOF
	}
	return r.buf[:r.n], nil
}

func (r *reader) release() {
	buffers.Put(r.buf)
	r.buf = nil
}

// copyTo copies all that h receives to dst.
func (h *host) copyTo(dst io.Writer, n *atomic.Uint64) error {
	r, err := newReader(h.TCPConn)
	if err != nil {
		return err
	}
	for {
		b, err := r.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		k, err := dst.Write(b)
		r.release()
		n.Add(uint64(k))
		if err != nil {
			return err
		}
	}
}

// splice moves all that h receives to another socket, inside the kernel where it can (splice(2)). It asks first how much there is, and moves
// that: a transfer without a bound would hold a pipe while it waits.
func (h *host) splice(to *host, n *atomic.Uint64) error {
	raw, err := h.SyscallConn()
	if err != nil {
		return err
	}
	var there int
	var failed error
	look := func(fd uintptr) bool {
		there, failed = pending(int(fd))
		return failed != unix.EAGAIN
	}
	for {
		if err := raw.Read(look); err != nil {
			return err
		}
		if failed != nil {
			return os.NewSyscallError("recv", failed)
		}
		if there == 0 {
			return nil
		}
		k, err := to.ReadFrom(&io.LimitedReader{R: h.TCPConn, N: int64(there)})
		n.Add(uint64(max(k, 0)))
		if err != nil {
			return err
		}
	}
}

// pending returns how many bytes can be read at once: 0 at the end, and EAGAIN before the next come.
func pending(fd int) (int, error) {
	var b [1]byte
	for {
		k, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
		case err != nil || k == 0:
			return 0, err
		default:
			return unix.IoctlGetInt(fd, unix.TIOCINQ)
		}
	}
}

// copyAll copies all of src to dst where neither is a socket that could be waited for: it holds a buffer all the time.
func copyAll(src, dst Conn, n *atomic.Uint64) error {
	buf := buffers.Get().(*[bufferLen]byte)
	defer buffers.Put(buf)
	for {
		k, err := src.Read(buf[:])
		if k > 0 {
			w, e := dst.Write(buf[:k])
			n.Add(uint64(w))
			if e != nil {
				return e
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
