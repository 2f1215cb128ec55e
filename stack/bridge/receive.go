package bridge

import (
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// Receive takes an inner frame from the tunnel (vxlan.Handler).
func (l *Lane) Receive(v vxlan.VNI, peer *vxlan.Peer, f *frame.Frame) {
	all := l.networks.Load()
	if l.lastVNI != v || l.lastAll != all {
		l.lastVNI, l.lastAll, l.lastNet = v, all, (*all)[v]
	}
	net := l.lastNet
	if net == nil {
		l.tunnel.Drops.Add(drop.UnknownVNI, 1)
		return
	}
	if reason := l.deliver(net, peer, f); reason != drop.None {
		net.Drops.Add(reason, wireFrames(f))
	}
}

// deliver takes a frame from the tunnel to the ports that it is for: never to another tunnel, since every sender reaches all peers itself.
func (l *Lane) deliver(net *Network, peer *vxlan.Peer, f *frame.Frame) drop.Reason {
	t := net.table.Load()
	if reason := f.Parse(); reason != drop.None {
		return reason
	}
	if f.GSO == frame.GSONone { // else the receiver has told
		if reason := f.Infer(t.mtu); reason != drop.None {
			return reason
		}
	}
	if net.Tap.Enabled() {
		l.observeTunnel(net, t, peer, false, f)
	}
	w := l.way(t, peer, f)
	if reason := w.admitRemote(f); reason != drop.None {
		return reason
	}
	switch d := w.to; {
	case d != nil && d.port != nil:
		l.toPort(d.port, f)
		return drop.None
	case d != nil:
		return drop.NoRoute
	case w.dst == t.gateway.MAC:
		return drop.NoRouter
	}
	return l.flood(t, nil, f, nil)
}
