package member

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/cluster/state"
)

// compile makes the node's plan from all that is known.
func (m *Member) compile(st *state.State) *plan.Config {
	p := &plan.Config{}
	if self := st.Nodes[m.cluster.ID()]; self != nil {
		p.Node = self.Name
	}
	for _, n := range st.Networks {
		if net, ok := m.segment(st, n); ok {
			p.Networks = append(p.Networks, net)
		}
	}
	for _, e := range m.store.All() {
		if st.Networks[e.Network] == nil {
			m.problem("endpoint %s is on a network that the cluster has no more (%s); weft detach %s", e.Container.Name, e.Network, e.Container.Name)
		}
	}
	slices.SortFunc(p.Networks, func(a, b plan.Network) int { return cmp.Compare(a.VNI, b.VNI) })
	return p
}

// segment makes the plan of one network; ok is false if nothing of it is on this node.
func (m *Member) segment(st *state.State, n *state.Network) (net plan.Network, ok bool) {
	here := m.store.In(n.ID)
	if len(here) == 0 || n.Encrypted {
		return net, false
	}
	net = plan.Network{Name: n.Name, VNI: n.VNI, MTU: n.MTU, AllowSpoof: n.AllowSpoof}
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
			port := local(e)
			port.Muted = true
			net.Endpoints = append(net.Endpoints, port)
			continue
		}
		net.Endpoints = append(net.Endpoints, local(e))
	}
	// Hidden ones too: their node does not answer gossip, but the addresses are still its own, and its data plane may well be
	// there. Names and services are what must not lead to them.
	for _, r := range m.remotes(st, n) {
		if r.owner.VTEP.Port() != m.cfg.VXLAN {
			m.problem("node %s has its VXLAN port at %d and this node at %d: they cannot talk; run both agents with the same --vxlan-port", r.owner.Name, r.owner.VTEP.Port(), m.cfg.VXLAN)
			continue
		}
		net.Remotes = append(net.Remotes, plan.Remote{Name: r.Name, MAC: r.MAC, Addresses: r.Addresses, VTEP: r.owner.VTEP.Addr()})
	}
	return net, true
}

// local is the plan of an endpoint here.
func local(e *endpoint.Endpoint) plan.Endpoint {
	p := plan.Endpoint{
		Name: e.Container.Name, PID: e.Container.PID, NetNS: e.Container.NetNS, Interface: e.Interface,
		Addresses: e.Addresses, MAC: e.MAC, Queues: 1, Persistent: true,
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
