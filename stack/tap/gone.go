package tap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// How often the watcher looks. The threads that read and write a device learn of its end at once.
const (
	goneInterval   = 250 * time.Millisecond
	originInterval = time.Second
)

// origin is how a namespace that the process itself pins was reached. When it leads elsewhere, the container has ended.
type origin struct {
	file string
	id   nsID
}

// nsID tells namespaces apart.
type nsID struct{ dev, ino uint64 }

// originOf returns what to watch for a device that was taken up inside the namespace ns: nothing if ns is held anyhow, by
// the process itself or by the caller's descriptor.
func originOf(n Namespace, ns int) (*origin, error) {
	if n.kind == own || n.kind == byFD {
		return nil, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(ns, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", n, err)
	}
	return &origin{file: n.file(), id: nsID{st.Dev, st.Ino}}, nil
}

// ended reports whether the file no longer leads to the namespace.
func (o *origin) ended() bool {
	fi, err := os.Stat(o.file)
	if err != nil {
		return errors.Is(err, os.ErrNotExist) && Vanished(o.file)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && nsID{st.Dev, st.Ino} != o.id
}

// watcher looks after all open devices of the process with one goroutine, which runs while there are any.
type watcher struct {
	mu      sync.Mutex
	devices map[*Device]struct{}
	quit    chan struct{} // closed when the last device goes
	idle    chan struct{} // closed when the goroutine has ended
}

var devices = watcher{devices: make(map[*Device]struct{})}

func (w *watcher) add(d *Device) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.devices[d] = struct{}{}
	if len(w.devices) == 1 {
		w.quit, w.idle = make(chan struct{}), make(chan struct{})
		go w.run(w.quit, w.idle)
	}
}

// remove forgets d. When it returns, the watcher uses d no more, and has ended if d was the last.
func (w *watcher) remove(d *Device) {
	w.mu.Lock()
	if _, ok := w.devices[d]; !ok {
		w.mu.Unlock()
		return
	}
	delete(w.devices, d)
	last, idle := len(w.devices) == 0, w.idle
	if last {
		close(w.quit)
	}
	w.mu.Unlock()
	if last {
		<-idle
	}
}

func (w *watcher) run(quit <-chan struct{}, idle chan<- struct{}) {
	defer close(idle)
	tick := time.NewTicker(goneInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-quit:
			return
		case <-tick.C:
			w.look(n%int(originInterval/goneInterval) == 0)
		}
	}
}

// look marks the devices that are gone. With origins it first ends those whose container has ended.
func (w *watcher) look(origins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	polls := make([]unix.PollFd, 0, len(w.devices))
	polled := make([]*Device, 0, len(w.devices))
	for d := range w.devices {
		if origins && d.origin != nil && d.origin.ended() {
			d.mu.Lock()
			_ = d.delete() // if it fails, the next look tries again
			d.mu.Unlock()
		}
		// No events asked: arriving frames are the readers' business, and must not wake this thread.
		polls = append(polls, unix.PollFd{Fd: int32(d.queues[0].fd)})
		polled = append(polled, d)
	}
	if n, err := unix.Poll(polls, 0); err != nil || n == 0 {
		return // interrupted, or all is well
	}
	for i, p := range polls {
		if p.Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
			polled[i].markGone()
		}
	}
}

// Statistics are the kernel's counters of the interface, from the container's point of view: Rx is what came from the
// switch, Tx what the switch has read. TxDropped counts frames of the container for which the queue had no room, RxDropped
// those that its stack refused.
type Statistics struct {
	RxPackets, RxBytes, RxErrors, RxDropped uint64
	TxPackets, TxBytes, TxErrors, TxDropped uint64
}

// Statistics reads the counters. Each call costs a thread: it is for people and their monitoring.
func (d *Device) Statistics() (Statistics, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Statistics{}, fmt.Errorf("tap: statistics of %s: %w", d.name, ErrClosed)
	}
	var s Statistics
	err := d.inside(func(link netlink.Link) error {
		k := link.Attrs().Statistics
		if k == nil {
			return errors.New("the kernel returned none")
		}
		s = Statistics{
			RxPackets: k.RxPackets, RxBytes: k.RxBytes, RxErrors: k.RxErrors, RxDropped: k.RxDropped,
			TxPackets: k.TxPackets, TxBytes: k.TxBytes, TxErrors: k.TxErrors, TxDropped: k.TxDropped,
		}
		return nil
	})
	if err != nil {
		return Statistics{}, fmt.Errorf("tap: statistics of %s: %w", d.name, err)
	}
	return s, nil
}

// delete removes the interface, persistent or not.
func (d *Device) delete() error {
	if err := d.inside(netlink.LinkDel); err != nil {
		return fmt.Errorf("tap: remove %s: %w", d.name, err)
	}
	return nil
}

// inside calls fn with the interface on a thread in its namespace. It asks the driver for both, since the interface may
// have been renamed, and a descriptor of the namespace kept here would pin it.
func (d *Device) inside(fn func(netlink.Link) error) error {
	fd := d.queues[0].fd
	ns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if err != nil {
		return ended(err)
	}
	defer unix.Close(ns)
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return ended(err)
	}
	return doAt(ns, func() error {
		link, err := netlink.LinkByName(ifr.Name())
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return ErrGone
		}
		if err != nil {
			return err
		}
		return fn(link)
	})
}

// ended turns the driver's answer for a device without an interface into ErrGone.
func ended(err error) error {
	if errors.Is(err, unix.EBADFD) {
		return ErrGone
	}
	return err
}
