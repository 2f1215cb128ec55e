package member

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/cluster/state"
)

// compile makes the node's plan from all that is known. The views tell which records of other nodes are in it.
func (m *Member) compile(st *state.State) (p *plan.Config, views map[state.NetworkID]view) {
	p, views = &plan.Config{}, make(map[state.NetworkID]view)
	if self := st.Nodes[m.cluster.ID()]; self != nil {
		p.Node = self.Name
	}
	for _, n := range st.Networks {
		for _, s := range n.Subnets {
			p.Foreign = append(p.Foreign, s.Prefix)
		}
		if net, v, ok := m.segment(st, n); ok {
			p.Networks = append(p.Networks, net)
			views[n.ID] = v
		}
	}
	for _, e := range m.store.All() {
		if st.Networks[e.Network] == nil {
			m.problem("endpoint %s is on a network that the cluster has no more (%s); weft detach %s", e.Container.Name, e.Network, e.Container.Name)
		}
	}
	slices.SortFunc(p.Networks, func(a, b plan.Network) int { return cmp.Compare(a.VNI, b.VNI) })
	slices.SortFunc(p.Foreign, netip.Prefix.Compare)
	return p, views
}

// segment makes the plan of one network; ok is false if nothing of it is on this node.
func (m *Member) segment(st *state.State, n *state.Network) (net plan.Network, v view, ok bool) {
	here := m.store.In(n.ID)
	if len(here) == 0 || n.Encrypted {
		return net, nil, false
	}
	net, v = plan.Network{Name: n.Name, VNI: n.VNI, MTU: n.MTU, AllowSpoof: n.AllowSpoof, Egress: plan.Egress(n.Reach())}, make(view)
	if fits := m.mtu(); fits > 0 && n.MTU > fits {
		m.problem("network %s: its MTU of %d is more than the %d that this node's underlay carries; longer packets between nodes are refused as too big", n.Name, n.MTU, fits)
	}
	for _, s := range n.Subnets {
		net.Subnets = append(net.Subnets, s.Prefix)
		net.Gateways = append(net.Gateways, s.Gateway)
	}
	mine := st.Lease(n.ID, m.cluster.ID())
	for _, e := range here {
		if a, ok := within(mine, e.Addresses); !ok {
			m.problem("network %s: endpoint %s has %s, which this node leases no longer; it is cut off until the address can be leased again", n.Name, e.Container.Name, a)
			if n.AllowSpoof {
				continue // there it could send all the same
			}
			port := m.local(st, n, e)
			port.Muted = true
			net.Endpoints = append(net.Endpoints, port)
			continue
		}
		net.Endpoints = append(net.Endpoints, m.local(st, n, e))
	}
	// Hidden ones too: their node does not answer gossip, but the addresses are still its own, and its data plane may well be
	// there. Names and services are what must not lead to them.
	for _, r := range m.remotes(st, n) {
		if r.owner.VTEP.Port() != m.cfg.VXLAN {
			v[r.source()] = fmt.Sprintf("this node has its VXLAN port at %d, and that one at %d", m.cfg.VXLAN, r.owner.VTEP.Port())
			m.problem("node %s has its VXLAN port at %d and this node at %d: they cannot talk; run both agents with the same --vxlan-port", r.owner.Name, r.owner.VTEP.Port(), m.cfg.VXLAN)
			continue
		}
		net.Remotes = append(net.Remotes, plan.Remote{
			Name: r.Name, MAC: r.MAC, Addresses: r.Addresses, VTEP: r.owner.VTEP.Addr(), Names: r.names(r.owner.Name), Hidden: r.hidden,
		})
		v[r.source()] = ""
	}
	return net, v, true
}

// local is the plan of an endpoint here.
func (m *Member) local(st *state.State, n *state.Network, e *endpoint.Endpoint) plan.Endpoint {
	r := recordOf(e)
	p := plan.Endpoint{
		Name: e.Container.Name, PID: e.Container.PID, NetNS: e.Container.NetNS, Interface: e.Interface,
		Addresses: e.Addresses, MAC: e.MAC, Routes: wayOut(n, e), Queues: 1, Persistent: true, Names: r.names(nodeName(st, m.cluster.ID())),
	}
	if e.Container.Bridge != "" {
		p.Bridge = &plan.Bridge{Name: e.Container.Bridge}
	}
	return p
}

// prefixed returns addresses with the lengths of their subnets, and the gateways of those subnets.
func prefixed(n *state.Network, addrs []netip.Addr) (all []netip.Prefix, gateways []netip.Addr) {
	for _, a := range addrs {
		for _, s := range n.Subnets {
			if s.Prefix.Contains(a) {
				all = append(all, netip.PrefixFrom(a, s.Prefix.Bits()))
				gateways = append(gateways, s.Gateway)
			}
		}
	}
	return all, gateways
}
