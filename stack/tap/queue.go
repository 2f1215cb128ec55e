package tap

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// MaxParts is how many parts a frame to Write may have: a superframe of 64 segments, its header, and some to spare.
const MaxParts = 72

// Queue is one queue of a device. Its calls are raw, non-blocking system calls that the Go scheduler does not see: they are
// meant for locked threads, which wait by poll(2) on FD.
type Queue struct {
	fd   int
	dead int // what fd becomes when the device is closed
	mode Mode
	dev  *Device
}

func newQueue(d *Device, fd int, mode Mode) *Queue {
	q := &Queue{fd: fd, dead: d.dead, mode: mode, dev: d}
	// A retired descriptor keeps its number until nobody can call q any more; see retire.
	runtime.AddCleanup(q, func(fd int) { unix.Close(fd) }, fd)
	return q
}

// FD returns the descriptor, for poll(2). It is valid while q is reachable, even after the device was closed: it then
// reports POLLERR.
func (q *Queue) FD() int { return q.fd }

// Read reads one virtio_net_hdr, of frame.OffloadLen bytes, and the frame behind it into b, and returns the length of
// both. A frame longer than b is cut off; frame.OffloadLen+frame.MaxLen bytes hold every one. In Plain mode the header is
// zero, which says the same. EAGAIN: nothing to read; EBADFD: the device is gone. One thread at a time reads a buffer, any
// number may read a queue.
func (q *Queue) Read(b []byte) (n int, err syscall.Errno) {
	if len(b) <= frame.OffloadLen {
		return 0, syscall.EINVAL
	}
	skip := 0
	if q.mode == Plain {
		clear(b[:frame.OffloadLen])
		skip = frame.OffloadLen
	}
	r, _, err := syscall.RawSyscall(syscall.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(&b[skip])), uintptr(len(b)-skip))
	runtime.KeepAlive(q)
	if err != 0 {
		if err == syscall.EBADFD {
			q.dev.markGone()
		}
		return 0, err
	}
	return int(r) + skip, 0
}

// Write writes the frame that parts make up, of which o tells the offloads. Any number of threads may call it at once.
// EMSGSIZE: more than MaxParts parts; EINVAL: a header that contradicts the frame, or offloads in Plain mode; EIO: the
// interface is down; EBADFD: the device is gone.
func (q *Queue) Write(o *frame.Offload, parts [][]byte) syscall.Errno {
	if len(parts) > MaxParts {
		return syscall.EMSGSIZE
	}
	// Both stay on the stack, also of threads that call at once: clearing the array costs little beside a system call.
	var hdr [frame.OffloadLen]byte
	var iov [MaxParts + 1]unix.Iovec
	n := 0
	if q.mode == Offloaded {
		o.Marshal(hdr[:])
		iov[0].Base = &hdr[0]
		iov[0].SetLen(len(hdr))
		n = 1
	} else if o.GSO != frame.GSONone || o.Checksum == frame.Partial {
		return syscall.EINVAL
	}
	for _, p := range parts {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	_, _, err := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&iov)), uintptr(n))
	runtime.KeepAlive(q)
	if err == syscall.EBADFD {
		q.dev.markGone()
	}
	return err
}

// retire gives the device up but keeps the descriptor's number: it becomes one of /dev/net/tun without a device, so that a
// thread that still uses it gets EBADFD, and never somebody else's file.
func (q *Queue) retire() { _ = unix.Dup3(q.dead, q.fd, unix.O_CLOEXEC) }
