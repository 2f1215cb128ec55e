package bridge

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

const (
	readBatch = 64 // frames read from a queue before others have their turn
	roomLen   = frame.Headroom + frame.MaxLen
	flushAt   = 48 << 10 // bytes in hand at which a lane sends before it reads on
	arenaLen  = flushAt + roomLen
	cutSpace  = 64 << 10  // headers of a superframe cut for a port, as in a vxlan.Sender
	replyLen  = 1280 + 14 // the largest ICMP error (RFC 4443 §2.4)
)

// Network is one overlay network on this node.
type Network struct {
	Name  string
	VNI   vxlan.VNI
	Tap   *capture.Tap
	Drops drop.Counters // frames from the underlay that the network refused

	table atomic.Pointer[Table]
}

// NewNetwork returns a network that knows nobody; SetTable tells it.
func NewNetwork(name string, v vxlan.VNI, tap *capture.Tap) *Network {
	n := &Network{Name: name, VNI: v, Tap: tap}
	n.table.Store(Compile(Config{}))
	return n
}

// Table returns the table in force.
func (n *Network) Table() *Table { return n.table.Load() }

// SetTable puts t in force, for the next frame of every lane.
func (n *Network) SetTable(t *Table) { n.table.Store(t) }

// Networks are the networks of a node by VNI: a snapshot that all lanes read.
type Networks = atomic.Pointer[map[vxlan.VNI]*Network]

// Lane is what one thread has in hand between two flushes. All its methods are for that thread only.
type Lane struct {
	networks *Networks
	tunnel   *vxlan.Tunnel
	sender   *vxlan.Sender
	gro      frame.Coalescer
	arena    []byte
	used     int
	frame    frame.Frame
	reply    [frame.Headroom + replyLen]byte
	cutter   cutter

	// What the last frame led to: frames come in runs.
	last    way
	lastVNI vxlan.VNI
	lastAll *map[vxlan.VNI]*Network
	lastNet *Network
}

// NewLane returns the lane of one thread. Its flush belongs at the end of the thread's loop round.
func NewLane(networks *Networks, tunnel *vxlan.Tunnel) *Lane {
	return &Lane{networks: networks, tunnel: tunnel, sender: vxlan.NewSender(&tunnel.Drops), arena: make([]byte, arenaLen)}
}

// Flush sends and delivers all that the lane has in hand.
func (l *Lane) Flush() {
	l.sender.Flush()
	l.gro.Flush()
	l.used = 0
}

// Queue is one queue of a port, served by one lane's thread (it is a loop.Source).
type Queue struct {
	lane *Lane
	port *Port
	dev  Device
}

// Queue returns the loop source that reads the port's queue i for lane l.
func (p *Port) Queue(i int, l *Lane) *Queue { return &Queue{lane: l, port: p, dev: p.queues[i]} }

// Queues returns how many queues the port's device has.
func (p *Port) Queues() int { return len(p.queues) }

// FD returns the queue's descriptor.
func (q *Queue) FD() int { return q.dev.FD() }

// Ready reads and forwards one batch.
func (q *Queue) Ready() (frames int, open bool) {
	l := q.lane
	for frames < readBatch {
		b := l.arena[l.used:]
		n, errno := q.dev.Read(b[frame.Headroom-frame.OffloadLen : roomLen])
		if errno != 0 {
			if errno == unix.EAGAIN || errno == unix.EINTR {
				return frames, true
			}
			q.port.lost()
			return frames, false
		}
		frames++
		l.take(q.port, b, n)
		if l.used > flushAt {
			l.Flush()
		}
	}
	return frames, true
}

// take forwards the n bytes, virtio_net_hdr and frame, that were read into b.
func (l *Lane) take(p *Port, b []byte, n int) {
	f := &l.frame
	if n < frame.OffloadLen {
		p.Drops.Add(drop.BadOffload, 1)
		return
	}
	f.Set(b, frame.Headroom, n-frame.OffloadLen)
	reason := f.Offload.Unmarshal(b[frame.Headroom-frame.OffloadLen:])
	if reason == drop.None {
		reason = f.Parse()
	}
	wire := 1
	if reason == drop.None {
		wire = wireFrames(f) // of what is malformed the offload may claim anything
	}
	p.RxFrames.Add(uint64(wire))
	p.RxBytes.Add(uint64(f.Len()))
	p.RxReads.Add(1)
	if p.net.Tap.Enabled() {
		l.observe(p, f)
	}
	if reason == drop.None {
		reason = l.forward(p, f)
	}
	if reason != drop.None {
		p.Drops.Add(reason, wire)
		return
	}
	l.used += (frame.Headroom + f.Len() + 63) &^ 63
}
