package bridge

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// Router is what stands at the gateway's address. It is the same on every node, and no tunnel leads to it.
type Router interface {
	// Receive takes a frame that a container sent to the gateway's MAC, on a thread of the data path: it must not block. The frame is
	// parsed, its source is its sender's own (unless the network allows spoofing), and its bytes are that thread's
	// again when Receive returns. A reason other than None is counted at the port.
	Receive(from *Port, f *frame.Frame) drop.Reason
}

// EthernetLen is the room for an Ethernet header that a router leaves in front of what it sends.
const EthernetLen = packet.Room

// toRouter takes a frame for the gateway's MAC. A station that knows the gateway asks it now and then whether it is still there.
func (l *Lane) toRouter(t *Table, p *Port, f *frame.Frame) drop.Reason {
	if l.proxy(t, p, f) {
		return drop.None
	}
	if t.router == nil {
		return drop.NoRouter
	}
	return t.router.Receive(p, f)
}

// Send delivers an IP packet of the network's router to the container of this node that has the address to. The packet lies in parts
// behind EthernetLen bytes, which Send fills in; all its headers are in the first part. Start in o counts from the first of those
// bytes, as everywhere. What the port refuses it counts itself; other reasons are the caller's. Send may be called
// from any goroutine, and keeps nothing.
func (n *Network) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	t := n.table.Load()
	s := t.neighbors[to]
	if s == nil || s.port == nil {
		return drop.NoRoute
	}
	header := parts[0]
	s.mac.Put(header)
	t.gateway.MAC.Put(header[6:])
	kind := uint16(frame.EtherIPv4)
	if !to.Is4() {
		kind = frame.EtherIPv6
	}
	binary.BigEndian.PutUint16(header[12:], kind)
	if s.port.takesAs(o) {
		s.port.Deliver(o, parts, 1)
		return drop.None
	}
	h := whole.Get().(*holder)
	defer whole.Put(h)
	return h.deliver(s.port, o, parts)
}

// holder has the room to make one frame of parts.
type holder struct {
	cutter cutter
	frame  frame.Frame
	buf    [roomLen]byte
}

var whole = sync.Pool{New: func() any { return new(holder) }}

// deliver hands a port what it does not take as it is.
func (h *holder) deliver(p *Port, o *frame.Offload, parts [][]byte) drop.Reason {
	n := 0
	for _, b := range parts {
		if frame.Headroom+n+len(b) > len(h.buf) {
			return drop.TooLarge
		}
		n += copy(h.buf[frame.Headroom+n:], b)
	}
	f := &h.frame
	f.Set(h.buf[:], frame.Headroom, n)
	f.Offload = *o
	if reason := f.Parse(); reason != drop.None {
		return reason
	}
	if f.GSO != frame.GSONone {
		h.cutter.deliver(p, f)
		return drop.None
	}
	f.Complete()
	one := [1][]byte{f.Bytes()}
	p.Deliver(&frame.Offload{Checksum: frame.Verified}, one[:], 1)
	return drop.None
}

// Message types that hosts send to routers alone (RFC 2236 §2, RFC 3376 §4, RFC 2710 §3, RFC 3810 §5, RFC 4861 §4.1).
const (
	protoIGMP          = 2
	mldReport          = 131
	mldDone            = 132
	routerSolicitation = 133
	mldReport2         = 143
)

// forRouters reports whether a group frame is a host's word to routers, which means nothing to other hosts.
func forRouters(f *frame.Frame) bool {
	b := f.Bytes()[f.L3:f.End]
	switch f.Ether {
	case frame.EtherIPv4:
		return b[9] == protoIGMP
	case frame.EtherIPv6:
		if f.Proto != frame.ProtoICMPv6 || f.L4 == 0 {
			return false
		}
		switch f.Bytes()[f.L4] {
		case mldReport, mldDone, mldReport2, routerSolicitation:
			return true
		}
	}
	return false
}
