package router

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// scratch is what one thread needs to answer, and to cut superframes of datagrams.
type scratch struct {
	writer packet.Writer
	parts  [1][]byte
	quote  []byte
	heads  []byte
	segs   []frame.Segment
	whole  []byte
}

// Receive takes a frame that a container sent to the gateway's MAC (bridge.Router).
func (r *Router) Receive(_ *bridge.Port, f *frame.Frame) (reason drop.Reason) {
	if s := r.state.Load(); s != up {
		if s == dead {
			return drop.RouterFault
		}
		return drop.NoRouter
	}
	defer r.catchFrame(&reason)
	return r.receive(f)
}

// receive takes a frame, or what fragments have become.
func (r *Router) receive(f *frame.Frame) drop.Reason {
	switch {
	case f.Tagged:
		return drop.NotForwarded
	case f.Ether != frame.EtherIPv4 && f.Ether != frame.EtherIPv6:
		return drop.NoRoute
	}
	ip := f.Bytes()[f.L3:f.End]
	if f.Ether == frame.EtherIPv4 && frame.Sum(ip[:int(ip[0]&15)*4], 0) != 0xffff {
		return drop.BadChecksum // also of frames whose transport checksum is vouched for
	}
	src, dst := f.SrcAddr(), f.DstAddr()
	if !sender(src) || r.own(src) {
		return drop.SpoofedAddress
	}
	if r.own(dst) {
		return r.toGateway(f)
	}
	if reason := r.admit(f, dst); reason != drop.None {
		return reason
	}
	if r.inside(dst) {
		return r.toNeighbor(f, dst)
	}
	return r.elsewhere(f)
}

// admit checks that a packet may be forwarded at all (RFC 1812 §5.3.7, §5.3.1).
func (r *Router) admit(f *frame.Frame, dst netip.Addr) drop.Reason {
	if martian(dst) || r.broadcast(dst) {
		r.unreachable(f, packet.Prohibited)
		return drop.Forbidden
	}
	at := ttl(f)
	if *at <= 1 {
		r.exceeded(f)
		return drop.TTLExpired
	}
	if f.SrcAddr().IsLinkLocalUnicast() { // RFC 4291 §2.5.6, RFC 3927 §2.7
		return drop.NotForwarded
	}
	return drop.None
}

// ttl returns where the TTL or hop limit stands.
func ttl(f *frame.Frame) *byte {
	if f.Ether == frame.EtherIPv4 {
		return &f.Bytes()[int(f.L3)+8]
	}
	return &f.Bytes()[int(f.L3)+7]
}

// sender reports whether a can be a packet's source.
func sender(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !(a.Is4() && reserved4(a)) && !a.Is4In6()
}

// martian reports whether no packet may be forwarded to a (RFC 1812 §5.3.7, RFC 6890).
func martian(a netip.Addr) bool {
	if a.Is4() {
		return reserved4(a) || a.IsLoopback() || a.IsMulticast()
	}
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Is4In6()
}

// reserved4 reports whether a is in 0.0.0.0/8 or 240.0.0.0/4, which has the broadcast address.
func reserved4(a netip.Addr) bool {
	b := a.As4()
	return b[0] == 0 || b[0] >= 240
}

// inside reports whether a belongs to the network itself.
func (r *Router) inside(a netip.Addr) bool {
	for _, s := range r.c.Subnets {
		if s.Contains(a) {
			return true
		}
	}
	return false
}

// broadcast reports whether a is the first or last address of one of the network's IPv4 subnets, which nobody has (RFC 1812 §5.3.5).
func (r *Router) broadcast(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	for _, s := range r.c.Subnets {
		if host := 32 - s.Bits(); s.Addr().Is4() && host >= 2 && s.Contains(a) {
			mask := uint32(1)<<host - 1
			if n := binary.BigEndian.Uint32(b[:]) & mask; n == 0 || n == mask {
				return true
			}
		}
	}
	return false
}

// toNeighbor forwards a packet to a container of the same network, whose sender has not noticed that it could reach it directly.
func (r *Router) toNeighbor(f *frame.Frame, dst netip.Addr) drop.Reason {
	b := f.Bytes()
	hops := ttl(f)
	if f.Ether == frame.EtherIPv4 {
		ip := b[f.L3:]
		old := binary.BigEndian.Uint16(ip[8:])
		binary.BigEndian.PutUint16(ip[10:], frame.Update(binary.BigEndian.Uint16(ip[10:]), old, old-1<<8))
	}
	*hops--
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	s.parts[0] = b[:f.End]
	reason := r.c.Link.Send(dst, &f.Offload, s.parts[:])
	s.parts[0] = nil
	if reason == drop.NoRoute {
		r.unreachable(f, packet.HostUnreachable)
	}
	return reason
}

// toGateway takes a packet for the gateway itself.
func (r *Router) toGateway(f *frame.Frame) drop.Reason {
	if f.Fragment {
		return r.gather(f)
	}
	if !f.Verify() {
		return drop.BadChecksum
	}
	switch f.Proto {
	case frame.ProtoTCP:
		return r.inject(f)
	case frame.ProtoUDP:
		return r.datagram(f)
	case frame.ProtoICMP, frame.ProtoICMPv6:
		switch icmpKind(f) {
		case echoRequest:
			return r.echo(f)
		case echoError:
			return r.icmpError(f)
		}
		return drop.NotForwarded
	}
	r.unreachable(f, packet.ProtocolUnreachable)
	return drop.NotForwarded
}

// elsewhere takes a packet for outside of the network.
func (r *Router) elsewhere(f *frame.Frame) drop.Reason {
	if f.Fragment {
		return r.gather(f)
	}
	if !f.Verify() {
		return drop.BadChecksum
	}
	switch f.Proto {
	case frame.ProtoTCP:
		r.renew(f)
		return r.inject(f)
	case frame.ProtoUDP:
		return r.c.Forward.Datagram(f)
	case frame.ProtoICMP, frame.ProtoICMPv6:
		switch icmpKind(f) {
		case echoRequest:
			return r.c.Forward.Datagram(f)
		case echoError:
			return r.icmpError(f)
		}
		return drop.NotForwarded
	}
	r.unreachable(f, packet.Prohibited)
	return drop.NotForwarded
}

// gather puts a fragment to the others, and takes the packet that they make.
func (r *Router) gather(f *frame.Frame) drop.Reason {
	whole, reason := r.fragments.Add(f)
	if whole == nil {
		return reason
	}
	defer r.fragments.Release(whole)
	return r.receive(&whole.Frame)
}

// inject gives netstack a packet.
func (r *Router) inject(f *frame.Frame) drop.Reason {
	return r.link.deliver(f.Ether, f.Bytes()[f.L3:f.End])
}

// datagram gives netstack a UDP datagram, or those of a superframe one by one.
func (r *Router) datagram(f *frame.Frame) drop.Reason {
	if f.GSO == frame.GSONone {
		return r.inject(f)
	}
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	size := f.End - int(f.L3)
	if need := frame.CutSpace(f, size, 0); need > len(s.heads) {
		if need > 64<<10 {
			return drop.TooLarge // datagrams of a few bytes each
		}
		s.heads = make([]byte, need)
	}
	segs, _, reason := frame.Cut(f, size, nil, s.heads, s.segs[:0])
	s.segs = segs[:0]
	if reason != drop.None {
		return reason
	}
	for i, g := range segs {
		s.whole = append(append(s.whole[:0], g.Header[f.L3:]...), g.Payload...)
		if reason := r.link.deliver(f.Ether, s.whole); reason != drop.None {
			r.drops.Add(reason, len(segs)-i)
			break
		}
	}
	return drop.None
}

// renew makes way for a SYN whose ports are those of a connection that netstack keeps in TIME-WAIT. Linux's clients use a port again as soon as
// the other side was the first to close; netstack would do it for listeners alone (RFC 9293 §3.10.7.4, RFC 6191). No old SYN can
// have come late from a TAP.
func (r *Router) renew(f *frame.Frame) {
	b := f.Bytes()
	if flags := b[f.L4+13]; flags&(flagSYN|flagACK|flagRST) != flagSYN {
		return
	}
	id := stack.TransportEndpointID{
		LocalAddress: address(f.DstAddr()), LocalPort: binary.BigEndian.Uint16(b[f.L4+2:]),
		RemoteAddress: address(f.SrcAddr()), RemotePort: binary.BigEndian.Uint16(b[f.L4:]),
	}
	if e, ok := r.stack.FindTransportEndpoint(network(f.DstAddr()), header.TCPProtocolNumber, id, nic).(*tcp.Endpoint); ok && e.EndpointState() == tcp.StateTimeWait {
		e.Abort()
	}
}

// TCP flags (RFC 9293 §3.1).
const (
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagACK = 1 << 4
)
