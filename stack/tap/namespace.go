package tap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Namespace says which network namespace is meant; it holds none. The zero value is the process's own.
type Namespace struct {
	path string
	pid  int
	fd   int
	kind kind
}

type kind uint8

const (
	own kind = iota
	byPath
	byPID
	byFD
)

// ByPath is the namespace that a file stands for: /run/netns/<name>, /run/docker/netns/<id>, /proc/<pid>/ns/net.
func ByPath(path string) Namespace { return Namespace{kind: byPath, path: path} }

// ByPID is the namespace that a process lives in.
func ByPID(pid int) Namespace { return Namespace{kind: byPID, pid: pid} }

// ByFD is the namespace of an open descriptor, which stays the caller's and must stay open while Namespace is in use.
func ByFD(fd int) Namespace { return Namespace{kind: byFD, fd: fd} }

// Own is the namespace of the process.
func Own() Namespace { return Namespace{} }

// String names the namespace for messages.
func (n Namespace) String() string {
	switch n.kind {
	case byPath:
		return n.path
	case byPID:
		return fmt.Sprintf("the namespace of process %d", n.pid)
	case byFD:
		return fmt.Sprintf("the namespace of descriptor %d", n.fd)
	default:
		return "the process's own namespace"
	}
}

// file returns the path that leads to the namespace.
func (n Namespace) file() string {
	switch n.kind {
	case byPath:
		return n.path
	case byPID:
		return fmt.Sprintf("/proc/%d/ns/net", n.pid)
	case byFD:
		return fmt.Sprintf("/proc/self/fd/%d", n.fd)
	default:
		// Not /proc/self: that is the main thread, which another package may have locked into another namespace.
		return "/proc/thread-self/ns/net"
	}
}

// open returns a descriptor of the namespace. It pins the namespace until it is closed.
func (n Namespace) open() (int, error) {
	fd, err := unix.Open(n.file(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return -1, fmt.Errorf("%w: %s: %w; the container has ended or the path is wrong", ErrNamespace, n, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("%s: %w: %w; it belongs to another user: run as that user, or inside the container engine's user namespace", n, ErrNotPermitted, err)
	case err != nil:
		return -1, fmt.Errorf("%s: %w", n, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.NSFS_MAGIC {
		unix.Close(fd)
		return -1, fmt.Errorf("%w: %s is an ordinary file; expected a network namespace mounted there: the container has ended or the path is wrong", ErrNamespace, n)
	}
	return fd, nil
}

// Do calls fn on a thread that is in the namespace, and waits for it. The thread ends with fn: as an ordinary user there is
// no way back from a container's namespace into the host's.
func (n Namespace) Do(fn func() error) error {
	if n.kind == own {
		return thread(fn)
	}
	fd, err := n.open()
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	defer unix.Close(fd)
	return doAt(fd, fn)
}

// Fresh makes an empty network namespace, which lives as long as the file or anything inside is open.
func Fresh() (*os.File, error) {
	var f *os.File
	err := thread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("tap: make a network namespace: %w", hint(err))
		}
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return f, err
}

// hint says what a refused system call on namespaces and devices takes.
func hint(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: %w; it takes CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root, or inside the container engine's user namespace (podman unshare weft ...)", ErrNotPermitted, err)
	}
	return err
}

// doAt calls fn on a thread in the namespace of the descriptor ns.
func doAt(ns int, fn func() error) error {
	return thread(func() error {
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			if errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("%w: enter it: %w; the file is not a network namespace", ErrNamespace, err)
			}
			return fmt.Errorf("enter the network namespace: %w", hint(err))
		}
		return fn()
	})
}

var errExit = errors.New("tap: the function ended its goroutine instead of returning")

// thread calls fn on a thread of its own, which ends with it.
func thread(fn func() error) error {
	done := make(chan error, 1)
	go spare(func() {
		err := errExit // what remains if fn ends by runtime.Goexit
		defer func() { done <- err }()
		err = fn()
	}, nil)
	return <-done
}

// spare locks a thread other than the process's main one and calls fn on it. The main thread cannot end: it would stay in
// the namespace, pin it for ever, and show it to the world as /proc/<pid>/ns/net.
func spare(fn func(), locked chan<- struct{}) {
	runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		other := make(chan struct{})
		go spare(fn, other)
		<-other
		runtime.UnlockOSThread()
		return
	}
	if locked != nil {
		close(locked)
	}
	fn()
}

// nursery is where the process's devices are born: one namespace, made on first use and kept.
var nursery struct {
	sync.Mutex
	ns   *os.File
	dead int // a descriptor of /dev/net/tun without a device: all that it answers is EBADFD
}

// nursery returns the descriptors of the nursery and of the driver without a device, after making them on first use.
func (k kernel) nursery() (ns, dead int, err error) {
	nursery.Lock()
	defer nursery.Unlock()
	if nursery.ns == nil {
		f, err := Fresh()
		if err != nil {
			return -1, -1, err
		}
		err = doAt(int(f.Fd()), func() error {
			nursery.dead, err = k.open()
			return err
		})
		if err != nil {
			f.Close()
			return -1, -1, err
		}
		nursery.ns = f
	}
	return int(nursery.ns.Fd()), nursery.dead, nil
}
