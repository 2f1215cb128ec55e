package bridge

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Device is one queue of the network device behind a port: non-blocking, one frame a call. Write may be called from several threads
// at once, Read from one.
type Device interface {
	// FD returns the descriptor to wait on.
	FD() int
	// Read reads a virtio_net_hdr and the frame behind it.
	Read(b []byte) (int, syscall.Errno)
	// Write writes one frame made of parts, behind the virtio_net_hdr for o.
	Write(o *frame.Offload, parts [][]byte) syscall.Errno
}

// Port is where a container, or a Linux bridge with containers on it, is attached to a network. Its counters are as the switch sees
// them, Rx from the container, and may be read at any time.
type Port struct {
	Network, Name string

	net    *Network
	joins  frame.Joins
	plain  bool
	queues []Device
	closed atomic.Bool
	gone   func(*Port)

	RxFrames, RxBytes, RxReads  atomic.Uint64 // wire frames, their bytes, and the reads that brought them
	TxFrames, TxBytes, TxWrites atomic.Uint64
	Drops                       drop.Counters
}

// PortConfig describes a port's device.
type PortConfig struct {
	Name   string
	Queues []Device
	Joins  frame.Joins // the superframes that the device takes
	Plain  bool        // the device takes neither superframes nor partial checksums
	Gone   func(*Port) // called once, on a data path thread, when the device turns out to be gone; must not block
}

// NewPort returns a port of network n. It forwards nothing before a table names it and its queues are added to loops.
func (n *Network) NewPort(c PortConfig) *Port {
	return &Port{Network: n.Name, Name: c.Name, net: n, joins: c.Joins, plain: c.Plain, queues: c.Queues, gone: c.Gone}
}

// Joins and Deliver make a port the sink of a frame.Coalescer.
func (p *Port) Joins() frame.Joins { return p.joins }

// Deliver writes one frame, joined from n, to the port's device.
func (p *Port) Deliver(o *frame.Offload, parts [][]byte, n int) {
	bytes := 0
	for _, b := range parts {
		bytes += len(b)
	}
	if n == 1 && o.GSO != frame.GSONone { // a superframe as it came, which is as many as its sender meant
		n = segments(o, parts[0], bytes)
	}
	if p.net.Tap.Enabled() {
		p.net.Tap.Frame(capture.Where{Network: p.Network, Port: p.Name, Out: true}, o, parts)
	}
	errno := p.queues[0].Write(o, parts)
	if errno != 0 {
		p.refuse(errno, n)
		return
	}
	p.TxFrames.Add(uint64(n))
	p.TxBytes.Add(uint64(bytes))
	p.TxWrites.Add(1)
}

// segments returns how many frames a superframe of n bytes is on the wire. Its headers are in b.
func segments(o *frame.Offload, b []byte, n int) int {
	header := int(o.Start) + 8
	if o.GSO != frame.GSOUDP {
		header = int(o.Start) + int(b[o.Start+12]>>4)*4
	}
	return max((n-header+int(o.Size)-1)/int(o.Size), 1)
}

// refuse counts n frames that the device did not take.
func (p *Port) refuse(errno syscall.Errno, n int) {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		p.Drops.Add(drop.QueueFull, n)
	case unix.EINVAL, unix.EMSGSIZE:
		p.Drops.Add(drop.BadOffload, n)
	case unix.EBADFD, unix.EBADF:
		p.Drops.Add(drop.PortClosed, n)
		p.lost()
	default: // EIO: the container has set its interface down
		p.Drops.Add(drop.PortClosed, n)
	}
}

// lost tells the owner, once, that the device is gone.
func (p *Port) lost() {
	if !p.closed.Swap(true) && p.gone != nil {
		p.gone(p)
	}
}

// takes reports whether the device takes f as it is.
func (p *Port) takes(f *frame.Frame) bool { return p.takesAs(&f.Offload) }

// takesAs reports whether the device takes frames in the state o.
func (p *Port) takesAs(o *frame.Offload) bool {
	switch o.GSO {
	case frame.GSONone:
		return !p.plain || o.Checksum != frame.Partial
	case frame.GSOTCP4:
		return p.joins&frame.JoinTCP4 != 0
	case frame.GSOTCP6:
		return p.joins&frame.JoinTCP6 != 0
	}
	return p.joins&frame.JoinUDP != 0
}
