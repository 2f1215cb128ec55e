package loop

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poll is epoll_wait by a raw system call: the thread keeps its P, so timeout (milliseconds) must stay short.
func (l *Loop) poll(timeout int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), maxEvents,
		uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// slice is the share of a core that a loop asks for at a time. The default of 3 ms and more would let two loops that share a core, or a
// loop and a container's busy process, take turns in which a whole TCP window piles up.
const slice = 100 * time.Microsecond

// shorten asks the scheduler (EEVDF) for short turns, and so for early ones, for this thread. Kernels before 6.12 do not take such wishes.
func shorten() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return // somebody has chosen for us
	}
	attr.Runtime = uint64(slice)
	_ = unix.SchedSetAttr(0, attr, 0)
}

// yield lets another thread of this core run, if one is waiting for it.
func yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
