package router

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// kind is what the router makes of an ICMP message.
type kind uint8

const (
	echoOther   kind = iota
	echoRequest      // 8 (RFC 792), 128 (RFC 4443 §4.1)
	echoError        // about a packet, which it quotes
)

// icmpKind returns what an ICMP or ICMPv6 message is.
func icmpKind(f *frame.Frame) kind {
	b := f.Bytes()[f.L4:]
	if f.Proto == frame.ProtoICMPv6 {
		switch {
		case b[0] == 128 && b[1] == 0:
			return echoRequest
		case b[0] >= 1 && b[0] <= 4:
			return echoError
		}
		return echoOther
	}
	switch {
	case b[0] == 8 && b[1] == 0:
		return echoRequest
	case b[0] == 3, b[0] == 11, b[0] == 12:
		return echoError
	}
	return echoOther
}

// echo answers an echo request to the gateway.
func (r *Router) echo(f *frame.Frame) drop.Reason {
	f.Complete()
	b := f.Bytes()[:f.End]
	m := b[f.L4:]
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	return s.writer.EchoReply(r, f.DstAddr(), f.SrcAddr(), hopLimit, binary.BigEndian.Uint16(m[4:]), binary.BigEndian.Uint16(m[6:]), m[8:], r.c.MTU)
}

const hopLimit = 64

// icmpError gives netstack what a container says about a packet of a connection with the router. What it says of others has no
// meaning outside.
func (r *Router) icmpError(f *frame.Frame) drop.Reason {
	f.Complete()
	quote := f.Bytes()[int(f.L4)+8 : f.End]
	if f.Proto == frame.ProtoICMP {
		if len(quote) < 20 || quote[0]>>4 != 4 || quote[9] != frame.ProtoTCP {
			return drop.NotForwarded
		}
	} else if len(quote) < 40 || quote[0]>>4 != 6 || quote[6] != frame.ProtoTCP {
		return drop.NotForwarded
	}
	r.inject(f)
	return drop.None
}

// unreachable tells the sender of f why it does not reach its destination.
func (r *Router) unreachable(f *frame.Frame, c packet.Code) {
	r.unreachableQuote(f.SrcAddr(), c, f.Bytes()[f.L3:f.End])
}

// unreachableQuote is unreachable for the packet quote, which came from the container src.
func (r *Router) unreachableQuote(src netip.Addr, c packet.Code, quote []byte) {
	g, ok := r.Gateway(src.Is6())
	if !ok || !r.limit.Allow(src) {
		return
	}
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	r.told(s.writer.Unreachable(r, g, c, quote))
}

// exceeded tells the sender of f that it went too far.
func (r *Router) exceeded(f *frame.Frame) {
	src := f.SrcAddr()
	g, ok := r.Gateway(src.Is6())
	if !ok || !r.limit.Allow(src) {
		return
	}
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	r.told(s.writer.TimeExceeded(r, g, f.Bytes()[f.L3:f.End]))
}

// told counts an error that did not get to its receiver.
func (r *Router) told(reason drop.Reason) {
	if reason != drop.None {
		r.drops.Add(reason, 1)
	}
}

// unclaimedUDP answers a datagram to a port of the gateway where nobody listens.
func (r *Router) unclaimedUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	s := r.scratch.Get().(*scratch)
	s.quote = quote(s.quote[:0], pkt)
	r.unreachableQuote(addrOf(id.RemoteAddress), packet.PortUnreachable, s.quote)
	r.scratch.Put(s)
	return true
}

// quote appends the packet that netstack has taken apart, from its IP header on, as far as an ICMP error would quote it.
func quote(b []byte, pkt *stack.PacketBuffer) []byte {
	const limit = 1280 // RFC 4443 §2.4 (c); over IPv4 it is less
	b = append(b, pkt.NetworkHeader().Slice()...)
	b = append(b, pkt.TransportHeader().Slice()...)
	if rest := min(limit-len(b), pkt.Data().Size()); rest > 0 {
		if data, ok := pkt.Data().PullUp(rest); ok {
			b = append(b, data...)
		}
	}
	return b
}
