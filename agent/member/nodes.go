package member

import (
	"cmp"
	"context"
	"slices"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip"
)

// Members lists the nodes of the cluster (api.Nodes).
func (m *Member) Members(context.Context) ([]api.Member, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, errNoMember
	}
	status := m.status(st)
	leader, _ := m.cluster.Quorum() // without one, none is marked
	var all []api.Member
	for _, n := range st.Nodes {
		all = append(all, m.member(st, n, status[n.ID], leader))
	}
	slices.SortFunc(all, func(a, b api.Member) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Member describes one node (api.Nodes).
func (m *Member) Member(_ context.Context, ref string) (api.Member, error) {
	st, n, err := m.node(ref)
	if err != nil {
		return api.Member{}, err
	}
	leader, _ := m.cluster.Quorum()
	return m.member(st, n, m.status(st)[n.ID], leader), nil
}

func (m *Member) node(ref string) (*state.State, *state.Node, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, nil, errNoMember
	}
	n, err := st.NodeByRef(ref)
	return st, n, refuse(err)
}

func (m *Member) member(st *state.State, n *state.Node, status string, leader identity.NodeID) api.Member {
	all := api.Member{
		ID: n.ID.String(), Name: n.Name, Self: n.ID == m.cluster.ID(), Status: status, Availability: string(n.Availability), Role: string(n.Role),
		Leader: n.ID == leader, Version: n.Version, Joined: n.Joined, API: n.API, Gossip: n.Gossip, VTEP: n.VTEP, MTU: n.MTU,
		Routes: slices.Clone(n.Routes), Networks: []string{},
	}
	for id, net := range st.Networks {
		if st.Lease(id, n.ID) != nil {
			all.Networks = append(all.Networks, net.Name)
		}
	}
	slices.Sort(all.Networks)
	return all
}

// status tells how gossip sees each node.
func (m *Member) status(st *state.State) map[identity.NodeID]string {
	all := make(map[identity.NodeID]string, len(st.Nodes))
	for id := range st.Nodes {
		all[id] = api.NodeDown
	}
	g := m.gossip.Load()
	if g != nil {
		for _, other := range g.Members() {
			switch other.State {
			case gossip.Alive:
				all[other.ID] = api.NodeReady
			case gossip.Suspect:
				all[other.ID] = api.NodeSuspect
			}
		}
		all[m.cluster.ID()] = api.NodeReady
	}
	return all
}

// ChangeMember changes a node's role or availability (api.Nodes).
func (m *Member) ChangeMember(ctx context.Context, ref string, change api.MemberChange) (api.Member, error) {
	_, n, err := m.node(ref)
	if err != nil {
		return api.Member{}, err
	}
	if _, err := m.propose(ctx, state.Command{UpdateNode: &state.UpdateNode{
		ID: n.ID, Role: state.Role(change.Role), Availability: state.Availability(change.Availability),
	}}); err != nil {
		return api.Member{}, err
	}
	return m.Member(ctx, n.ID.String())
}

// RemoveMember removes a node for ever (api.Nodes).
func (m *Member) RemoveMember(ctx context.Context, ref string, force bool) error {
	st, n, err := m.node(ref)
	if err != nil {
		return err
	}
	if n.ID == m.cluster.ID() {
		return refuse(deny(state.ErrDenied, "%s is this node; weft leave ends its membership", n.Name))
	}
	if status := m.status(st)[n.ID]; status != api.NodeDown && !force {
		return refuse(deny(state.ErrInUse, "node %s is %s; run weft leave there, or remove it with --force", n.Name, status))
	}
	_, err = m.propose(ctx, state.Command{RemoveNode: &state.RemoveNode{ID: n.ID}})
	return err
}

func nodeName(st *state.State, id identity.NodeID) string {
	if n := st.Nodes[id]; n != nil {
		return n.Name
	}
	return id.String()
}
