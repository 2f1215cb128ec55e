package bridge

import (
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// forward takes a parsed frame from port p to where it belongs.
func (l *Lane) forward(p *Port, f *frame.Frame) drop.Reason {
	t := p.net.table.Load()
	w := l.way(t, nil, f)
	if !t.spoof {
		if w.from == nil || w.from.port != p {
			return drop.SpoofedMAC
		}
		if reason := t.admit(w.from, f); reason != drop.None {
			return reason
		}
	}
	if w.dst.IsGroup() {
		if l.proxy(t, p, f) {
			return drop.None
		}
		return l.flood(t, p, f, t.flood)
	}
	d := w.to
	switch {
	case d == nil && w.dst == t.gateway.MAC:
		return l.toRouter(t, p, f)
	case d == nil:
		return l.flood(t, p, f, t.statics)
	case d.port == p:
		return drop.SamePort
	case d.port != nil:
		l.toPort(d.port, f)
		return drop.None
	case d.peer != nil:
		return l.toPeer(t, p, d.peer, f)
	}
	return drop.NoRoute
}

// flood sends a frame to all ports but the one that it came from, and to peers (head-end replication, RFC 7348 §4.2 without an
// underlay's multicast). A copy that is refused is counted for itself.
func (l *Lane) flood(t *Table, from *Port, f *frame.Frame, peers []*vxlan.Peer) drop.Reason {
	copies := len(peers)
	for _, p := range t.ports {
		if p != from {
			copies++
		}
	}
	if copies == 0 {
		if t.router != nil && forRouters(f) {
			return drop.None // and it needs no telling
		}
		return drop.NoRoute
	}
	if copies > 1 { // of the same bytes: completed for one receiver, the checksum must be so for those that have the frame already
		f.Complete()
	}
	for _, peer := range peers {
		if reason := l.toPeer(t, from, peer, f); reason != drop.None {
			from.Drops.Add(reason, wireFrames(f))
		}
	}
	for _, p := range t.ports {
		if p != from {
			l.toPort(p, f)
		}
	}
	return drop.None
}

// toPeer sends a frame through the tunnel. If it is too big for the way there, its sender is told.
func (l *Lane) toPeer(t *Table, from *Port, peer *vxlan.Peer, f *frame.Frame) drop.Reason {
	net := from.net
	reason := l.sender.Send(peer, net.VNI, f, t.mtu)
	switch {
	case reason == drop.None && net.Tap.Enabled():
		l.observeTunnel(net, t, peer, true, f)
	case reason == drop.TooBig:
		mtu := min(t.mtu, peer.Room(f))
		g := t.gateway
		l.answerWith(from, packetTooBig(l.reply[frame.Headroom:], f, mtu, g.MAC, g.V4, g.V6))
	}
	return reason
}

// toPort hands a frame to a local port, in the form that its device takes.
func (l *Lane) toPort(p *Port, f *frame.Frame) {
	if p.takes(f) {
		l.gro.Add(f, p)
		return
	}
	if f.GSO == frame.GSONone {
		f.Complete()
		l.gro.Add(f, p)
		return
	}
	l.cutter.deliver(p, f)
}

// answerWith delivers the reply of n bytes that was just written to the lane's reply buffer.
func (l *Lane) answerWith(p *Port, n int) {
	if n == 0 {
		return
	}
	whole := frame.Offload{Checksum: frame.Verified}
	parts := [1][]byte{l.reply[frame.Headroom:][:n]}
	p.Deliver(&whole, parts[:], 1)
}

// proxy answers an ARP or ND request from the table, and reports whether it did.
func (l *Lane) proxy(t *Table, p *Port, f *frame.Frame) bool {
	reply := l.reply[frame.Headroom:]
	switch {
	case f.Ether == frame.EtherARP:
		_, sender, target, request, ok := arpRequest(f)
		if !ok || !request || sender == target {
			return false // announcements (RFC 5227 §3) are for all
		}
		if owner := t.neighbors[target]; owner != nil && owner.port != p {
			l.answerWith(p, arpReply(reply, f, owner.mac))
			return true
		}
	case f.Proto == frame.ProtoICMPv6:
		kind, _, target, _, ok := neighbor(f)
		if !ok || kind != neighborSolicitation {
			return false
		}
		if owner := t.neighbors[target]; owner != nil && owner.port != p {
			l.answerWith(p, neighborAdvert(reply, f, owner.mac, owner.mac == t.gateway.MAC))
			return true
		}
	}
	return false
}

// wireFrames returns how many frames f is on the wire.
func wireFrames(f *frame.Frame) int {
	if f.GSO == frame.GSONone || f.Size == 0 || f.Payload == 0 || f.End <= int(f.Payload) {
		return 1
	}
	return (f.End - int(f.Payload) + int(f.Size) - 1) / int(f.Size)
}
