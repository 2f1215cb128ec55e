package agent

import (
	"errors"
	"net/netip"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// compile makes the table of one network from the file and the ports that are up. It marks the peers that the table names in
// used. Peers that cannot be connected are left out, and reported.
func (n *node) compile(net *plan.Network, used map[*vxlan.Peer]bool) (*bridge.Table, error) {
	var errs []error
	c := bridge.Config{MTU: net.MTU, Spoof: net.AllowSpoof, Gateway: gatewayOf(net), Router: n.gateways.Router(net.VNI)}
	ports := make(map[*bridge.Port]bool)
	for i := range net.Endpoints {
		e := &net.Endpoints[i]
		a := n.attached[wantOf(net, e).key]
		if a == nil || !a.up() || e.Muted {
			continue
		}
		c.Endpoints = append(c.Endpoints, bridge.Endpoint{Name: e.Name, MAC: e.MAC, Addresses: e.Addresses, Port: a.port})
		if !ports[a.port] {
			ports[a.port] = true
			c.Ports = append(c.Ports, a.port)
		}
	}
	peer := func(addr netip.Addr) *vxlan.Peer {
		p, err := n.tunnel.Peer(addr)
		errs = append(errs, err)
		if p != nil {
			used[p] = true
		}
		return p
	}
	for _, r := range net.Remotes {
		if p := peer(r.VTEP); p != nil {
			c.Endpoints = append(c.Endpoints, bridge.Endpoint{Name: r.Name, MAC: r.MAC, Addresses: r.Addresses, Peer: p})
		}
	}
	for _, v := range net.VTEPs {
		if p := peer(v); p != nil {
			c.Statics = append(c.Statics, p)
		}
	}
	return bridge.Compile(c), errors.Join(errs...)
}

// gatewayOf returns where the network's router is: its MAC follows from its first address, so that all nodes agree on it without talking.
func gatewayOf(net *plan.Network) bridge.Gateway {
	var g bridge.Gateway
	for _, a := range net.Gateways {
		switch {
		case a.Is4() && !g.V4.IsValid():
			g.V4 = a
		case a.Is6() && !g.V6.IsValid():
			g.V6 = a
		}
	}
	last := net.Gateways[0].AsSlice()
	last = last[len(last)-4:]
	g.MAC = frame.MACFrom([]byte{0x02, 0x42, last[0], last[1], last[2], last[3]})
	return g
}
