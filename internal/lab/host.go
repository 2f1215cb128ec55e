// Package lab makes test hosts: network namespaces that are held by descriptors only, joined by veth pairs, with the
// kernel's bridges and VXLAN devices where a test compares with them. When the process ends, even by kill -9, nothing is
// left behind.
//
//	 New("a")                                              New("b")
//	┌────────────────────────┐                            ┌────────────────────────┐
//	│  br0 ── vxlan0         │           Link             │         vxlan0 ── br0  │
//	│   │       ╎       eth0 ├────────── veth ────────────┤ eth0      ╎        │   │
//	│  veth1                 │                            │                  veth1 │
//	└───┬────────────────────┘                            └────────────────────┬───┘
//	    │ Link                                                            Link │
//	┌───┴────────────────────┐                            ┌────────────────────┴───┐
//	│  eth0      New("a1")   │                            │   New("b1")      eth0  │
//	└────────────────────────┘                            └────────────────────────┘
//
// It takes CAP_SYS_ADMIN and CAP_NET_ADMIN: root, or an ordinary user after Reexec.
package lab

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/tap"
)

// Host is a network namespace. Its methods may be called from any goroutine, but not after Close.
type Host struct {
	name string
	ns   *os.File
	nl   *netlink.Handle

	work chan func()   // to the thread that starts processes
	idle chan struct{} // closed when that thread has ended

	mu      sync.Mutex
	running map[*Cmd]struct{}
	closed  bool
}

// New makes a host, whose loopback interface is up. The name is for messages.
func New(name string) (*Host, error) {
	ns, err := tap.Fresh()
	if err != nil {
		return nil, fmt.Errorf("lab: host %s: %w", name, err)
	}
	h := &Host{name: name, ns: ns, work: make(chan func()), idle: make(chan struct{}), running: make(map[*Cmd]struct{})}
	err = h.Do(func() (err error) {
		if h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		return h.up("lo")
	})
	if err != nil {
		if h.nl != nil {
			h.nl.Close()
		}
		ns.Close()
		return nil, fmt.Errorf("lab: host %s: %w", name, err)
	}
	go func() {
		defer close(h.idle)
		// It fails only if the namespace cannot be entered, which worked a moment ago; Start then reports ErrClosed.
		_ = h.Do(func() error {
			for fn := range h.work {
				fn()
			}
			return nil
		})
	}()
	return h, nil
}

// Pin binds the programs that the host starts from now on to one processor, numbered from 0, as if the host had no other.
func (h *Host) Pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	result := make(chan error, 1)
	select {
	case h.work <- func() { result <- unix.SchedSetaffinity(0, &set) }:
	case <-h.idle:
		return fmt.Errorf("lab: pin host %s: %w", h.name, ErrClosed)
	}
	if err := <-result; err != nil {
		return fmt.Errorf("lab: pin host %s to processor %d: %w", h.name, cpu, err)
	}
	return nil
}

// ErrClosed is what a host answers after Close.
var ErrClosed = errors.New("the host is closed")

// Name returns the name that the host was made with.
func (h *Host) Name() string { return h.name }

// FD returns a descriptor of the namespace, which is the host's to close.
func (h *Host) FD() int { return int(h.ns.Fd()) }

// Path returns a file that stands for the namespace, which other processes of the user can open while this one lives.
func (h *Host) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.FD()) }

// Namespace returns the namespace for tap.Open.
func (h *Host) Namespace() tap.Namespace { return tap.ByFD(h.FD()) }

// Netlink returns a handle that works inside the host.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

// Do calls fn on a thread of its own inside the host, and waits for it. Sockets that fn opens stay in the host; goroutines
// that it starts are not in it.
func (h *Host) Do(fn func() error) error { return tap.ByFD(h.FD()).Do(fn) }

// Close kills what processes of the host still run, waits for them, and gives the namespace up. It is idempotent.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		<-h.idle
		return nil
	}
	h.closed = true
	var left []*Cmd
	for c := range h.running {
		left = append(left, c)
	}
	h.mu.Unlock()
	for _, c := range left {
		c.Stop()
	}
	close(h.work)
	<-h.idle
	h.nl.Close()
	return h.ns.Close()
}

// Sysctl sets a variable of the host's network stack, such as net.ipv4.ip_forward.
func (h *Host) Sysctl(name, value string) error {
	err := h.Do(func() error { return os.WriteFile("/proc/sys/"+slashes(name), []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("lab: host %s: sysctl %s=%s: %w", h.name, name, value, err)
	}
	return nil
}

// slashes turns a sysctl's name into its path.
func slashes(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '.' {
			b[i] = '/'
		}
	}
	return string(b)
}
