package loop

import (
	"syscall"
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

// yield lets another thread of this core run, if one is waiting for it.
func yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
