package router

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/weftnet/weft/stack/drop"
)

// How many bytes of memory may hold packets that wait for netstack: what a thread of the data path reads in some milliseconds. Of one
// container's it is a third, so that others get through while it sends more than netstack can take.
const (
	maxInbox     = 24 << 20
	maxInboxFrom = 8 << 20
)

// inbox is where the data path leaves packets for netstack, which takes them on a goroutine of its own.
//
//	data path ── put ──► [ packets ] ── eventfd, if it sleeps ──► run ──► netstack's processors ──► whoever waits for the bytes
//
// A thread of the data path waits in raw system calls (package loop). What it wakes by itself stays in the run queue of its P, where other
// threads come for it only after sleeping a while (runqgrab in runtime/proc.go); through the netpoller a thread of the scheduler
// is woken at once, and runs all that follows one after the other. Requests and their answers go three times as fast by it.
type inbox struct {
	wake *os.File // eventfd(2), non-blocking: its reader waits in the netpoller
	fd   int

	mu     sync.Mutex // guards what follows, and the writes to fd
	in     []*stack.PacketBuffer
	bytes  int
	from   [256]int // bytes of the containers whose address ends in this byte; they are numbered in a row
	awake  bool
	closed bool
}

func newInbox() (*inbox, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("router: eventfd: %w", err)
	}
	return &inbox{wake: os.NewFile(uintptr(fd), "eventfd"), fd: fd}, nil
}

// put takes a packet of a container whose address ends in from, and its reference, unless there is no room.
func (i *inbox) put(pkt *stack.PacketBuffer, from uint8) drop.Reason {
	n := pkt.MemSize() // of a packet without data this is many times its length
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.closed:
		return drop.NoRouter
	case i.bytes+n > maxInbox, i.from[from]+n > maxInboxFrom:
		return drop.RouterBusy
	}
	i.in = append(i.in, pkt)
	i.bytes += n
	i.from[from] += n
	if !i.awake {
		i.awake = true
		one := [8]byte{1}
		_, _ = unix.Write(i.fd, one[:]) // never full: it is read before awake is false again
	}
	return drop.None
}

// take returns what there is in place of old, whose packets have been seen to. Of nothing, put tells by the eventfd when that changes.
func (i *inbox) take(old []*stack.PacketBuffer) []*stack.PacketBuffer {
	clear(old)
	i.mu.Lock()
	defer i.mu.Unlock()
	all := i.in
	i.in, i.bytes, i.awake = old[:0], 0, len(all) > 0
	clear(i.from[:])
	return all
}

// run hands packets to each until close.
func (i *inbox) run(each func(*stack.PacketBuffer)) error {
	var batch []*stack.PacketBuffer
	var count [8]byte
	for {
		if batch = i.take(batch); len(batch) == 0 {
			if _, err := i.wake.Read(count[:]); errors.Is(err, os.ErrClosed) {
				return nil
			} else if err != nil {
				return fmt.Errorf("router: eventfd: %w", err)
			}
			continue
		}
		for _, pkt := range batch {
			each(pkt)
		}
	}
}

// close ends run, and drops what waits.
func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, pkt := range i.in {
		pkt.DecRef()
	}
	i.in, i.bytes = nil, 0
	_ = i.wake.Close() // nobody is told but run
}
