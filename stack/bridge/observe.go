package bridge

import (
	"net/netip"

	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// observe shows a frame from a port to those who capture. Callers ask Tap.Enabled first.
func (l *Lane) observe(p *Port, f *frame.Frame) {
	parts := [1][]byte{f.Bytes()}
	p.net.Tap.Frame(capture.Where{Network: p.Network, Port: p.Name}, &f.Offload, parts[:])
}

// observeTunnel shows a frame to or from a peer to those who capture.
func (l *Lane) observeTunnel(n *Network, t *Table, peer *vxlan.Peer, out bool, f *frame.Frame) {
	local := l.tunnel.Local()
	if out {
		local = netip.AddrPortFrom(local.Addr(), 0)
	}
	parts := [1][]byte{f.Bytes()}
	n.Tap.Frame(capture.Where{
		Network: n.Name, Out: out, VNI: uint32(n.VNI), MTU: min(t.mtu, peer.Room(f)),
		Local: local, Remote: netip.AddrPortFrom(peer.Addr, l.tunnel.Local().Port()),
	}, &f.Offload, parts[:])
}
