package member

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/ipam"
)

type nodeID = identity.NodeID

// Usage tells how full the networks' ranges are (api.Addresses).
func (m *Member) Usage(context.Context) ([]api.Usage, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, errNoMember
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []api.Usage
	for _, n := range st.Networks {
		used := make(map[netip.Addr]bool)
		for _, e := range m.endpoints(st, n) {
			for _, a := range e.Addresses {
				used[a.Addr()] = true
			}
		}
		for _, s := range n.Subnets {
			reserved := []netip.Addr{s.Gateway}
			for _, a := range s.Aux {
				reserved = append(reserved, a)
			}
			var leased [][]netip.Addr
			for _, l := range st.Leases[n.ID] {
				leased = append(leased, l.Addresses)
			}
			of := ipam.RangeOf(s.Prefix, s.Range, reserved...).Usage(leased...)
			u := api.Usage{
				Network: n.Name, Prefix: s.Prefix, Range: s.Range, Size: of.Size, Leased: of.Leased, Free: of.Free, Reserved: of.Reserved,
			}
			for a := range used {
				if s.Prefix.Contains(a) {
					u.Used++
				}
			}
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b api.Usage) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return all, nil
}

// Audit finds addresses that are not accounted for: leased by nodes that are down, and used without a lease (api.Addresses). It sees the
// endpoints of networks that this node takes part in.
func (m *Member) Audit(context.Context) ([]api.Audit, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, errNoMember
	}
	status := m.status(st)
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []api.Audit{}
	for id, n := range st.Networks {
		for _, l := range st.Leases[id] {
			if s := status[l.Node]; s == api.NodeDown {
				for _, a := range l.Addresses {
					all = append(all, api.Audit{Network: n.Name, Address: a, Node: nodeName(st, l.Node), Finding: fmt.Sprintf(
						"leased by a node that is down; free %s after it was last seen, or with weft node rm", st.Cluster.LeaseTTL)})
				}
			}
		}
		all = append(all, m.unleased(st, n)...)
	}
	slices.SortFunc(all, func(a, b api.Audit) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Address.Compare(b.Address), cmp.Compare(a.Node, b.Node))
	})
	return all, nil
}

// unleased finds endpoints with addresses that their nodes do not lease.
func (m *Member) unleased(st *state.State, n *state.Network) (all []api.Audit) {
	find := func(owner nodeID, name string, addrs []netip.Addr) {
		if a, ok := within(st.Lease(n.ID, owner), addrs); !ok {
			all = append(all, api.Audit{Network: n.Name, Address: a, Node: nodeName(st, owner), Finding: "used by " + name + ", but not leased by its node"})
		}
	}
	for _, e := range m.store.In(n.ID) {
		find(m.cluster.ID(), e.Container.Name, e.Addresses)
	}
	if m.gossip.Load() != nil && m.entered[n.ID] {
		for _, r := range m.gossip.Load().Records(n.ID) {
			if rec, err := decode(r.Value); err == nil && r.Owner != m.cluster.ID() {
				find(r.Owner, rec.Name, rec.Addresses)
			}
		}
	}
	return all
}
