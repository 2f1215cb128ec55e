package load

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are raw: they block their thread without telling Go's scheduler, which then has nothing to hand over
// and nobody to wake. Every thread that makes them is locked and has a processor (GOMAXPROCS) of its own.

func rawRead(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func rawWrite(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func rawAccept(fd int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}

func rawClose(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// full reads or writes all of b, and goes on after signals.
func full(call func(int, []byte) (int, unix.Errno), fd int, b []byte) error {
	for len(b) > 0 {
		n, errno := call(fd, b)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return errno
		case n == 0:
			return errClosed
		default:
			b = b[n:]
		}
	}
	return nil
}

var errClosed = errors.New("the other end closed the connection")

// address is a socket address in the form that the kernel takes, ready for raw calls.
type address struct {
	raw  unix.RawSockaddrInet6 // large enough for IPv4 as well
	size uintptr
}

func newAddress(ap netip.AddrPort) *address {
	a := &address{}
	port := ap.Port()<<8 | ap.Port()>>8
	if ap.Addr().Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, port, ap.Addr().As4()
		a.size = unix.SizeofSockaddrInet4
		return a
	}
	a.raw.Family, a.raw.Port, a.raw.Addr = unix.AF_INET6, port, ap.Addr().As16()
	a.size = unix.SizeofSockaddrInet6
	return a
}

func (a *address) connect(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), a.size)
	return errno
}

func (a *address) socket(kind int) (int, unix.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(a.raw.Family), uintptr(kind|unix.SOCK_CLOEXEC), 0)
	return int(fd), errno
}

// congest sets the congestion control of a TCP socket, unless name is empty; connections that it accepts have it too.
func congest(fd int, name string) error {
	if name == "" {
		return nil
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); err != nil {
		return fmt.Errorf("set congestion control %s: %w; sysctl net.ipv4.tcp_available_congestion_control lists what there is", name, err)
	}
	return nil
}

// listen opens a TCP or UDP server socket on every address of the family of the spec's server.
func listen(kind int, spec Spec) (int, error) {
	var local unix.Sockaddr = &unix.SockaddrInet6{Port: Port}
	family := unix.AF_INET6
	if spec.Server.Is4() {
		local, family = &unix.SockaddrInet4{Port: Port}, unix.AF_INET
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	if err := unix.Bind(fd, local); err != nil {
		return 0, fmt.Errorf("bind to port %d: %w", Port, err)
	}
	if kind == unix.SOCK_STREAM {
		if err := congest(fd, spec.Congestion); err != nil {
			return 0, err
		}
		if err := unix.Listen(fd, 4096); err != nil {
			return 0, os.NewSyscallError("listen", err)
		}
	}
	return fd, nil
}

// patience is how long a client tries to reach its server: a path may have been built this instant.
const patience = 10 * time.Second

// dial connects, and tries again while the way there is only coming up.
func dial(kind int, spec Spec) (int, error) {
	port := uint16(Port)
	if spec.Kind == Query {
		port = resolverPort
	}
	to := newAddress(netip.AddrPortFrom(spec.Server, port))
	deadline := time.Now().Add(patience)
	for {
		fd, errno := to.socket(kind)
		if errno != 0 {
			return 0, os.NewSyscallError("socket", errno)
		}
		if kind == unix.SOCK_STREAM {
			if err := congest(fd, spec.Congestion); err != nil {
				rawClose(fd)
				return 0, err
			}
		}
		// A lost SYN is sent again after a second: two of them bound each attempt.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 2)
		if errno = to.connect(fd); errno == 0 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			return fd, nil
		}
		rawClose(fd)
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("connect to %s port %d for %v: %w", spec.Server, port, patience, errno)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
