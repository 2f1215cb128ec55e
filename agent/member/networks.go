package member

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/vxlan"
)

// Segments lists the cluster's networks (api.Segments).
func (m *Member) Segments(context.Context) ([]api.NetworkDetail, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, errNoMember
	}
	status := m.status(st)
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []api.NetworkDetail
	for _, n := range st.Networks {
		all = append(all, m.network(st, n, status))
	}
	slices.SortFunc(all, func(a, b api.NetworkDetail) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Segment describes one network (api.Segments).
func (m *Member) Segment(_ context.Context, ref string) (api.NetworkDetail, error) {
	st, n, err := m.segmentOf(ref)
	if err != nil {
		return api.NetworkDetail{}, err
	}
	status := m.status(st)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.network(st, n, status), nil
}

func (m *Member) segmentOf(ref string) (*state.State, *state.Network, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, nil, errNoMember
	}
	n, err := st.Network(ref)
	return st, n, refuse(err)
}

// network describes a network. The caller holds the lock.
func (m *Member) network(st *state.State, n *state.Network, status map[nodeID]string) api.NetworkDetail {
	d := api.NetworkDetail{
		ID: n.ID.String(), Name: n.Name, Created: n.Created, Driver: string(n.Driver), Scope: "swarm", VNI: n.VNI, IPv6: n.IPv6, Internal: n.Internal,
		Attachable: n.Attachable, Ingress: n.Ingress, Encrypted: n.Encrypted, Spoof: "deny", Egress: string(n.Reach()), MTU: n.MTU, Labels: make(map[string]string),
		Subnets: []api.Subnet{}, Peers: []api.NetworkPeer{}, Endpoints: m.endpoints(st, n),
	}
	for k, v := range n.Labels {
		d.Labels[k] = v
	}
	if n.Driver == state.Bridge {
		d.Scope, d.Node = "local", nodeName(st, n.Node)
	}
	if n.AllowSpoof {
		d.Spoof = "allow"
	}
	if d.MTU == 0 {
		d.MTU = m.mtu()
	}
	for _, s := range n.Subnets {
		d.Subnets = append(d.Subnets, api.Subnet{Prefix: s.Prefix, Range: s.Range, Gateway: s.Gateway, Aux: s.Aux})
	}
	count := make(map[string]int)
	for _, e := range d.Endpoints {
		count[e.Node]++
	}
	for _, id := range st.Participants(n.ID) {
		p := api.NetworkPeer{Node: nodeName(st, id), Leased: len(st.Lease(n.ID, id).Addresses), Status: status[id]}
		if node := st.Nodes[id]; node != nil {
			p.VTEP = node.VTEP.Addr()
		}
		p.Endpoints = count[p.Node]
		d.Peers = append(d.Peers, p)
	}
	slices.SortFunc(d.Peers, func(a, b api.NetworkPeer) int { return cmp.Compare(a.Node, b.Node) })
	return d
}

// mtu is that of a network on this node: the underlay's less the encapsulation; 0 if it is not known.
func (m *Member) mtu() int {
	device, err := m.cfg.Plane.MTU()
	if err != nil {
		return 0
	}
	return device - vxlan.Overhead(m.cfg.Advertise)
}

// CreateNetwork makes a network (api.Segments).
func (m *Member) CreateNetwork(ctx context.Context, r api.NetworkRequest) (api.NetworkDetail, error) {
	c := &state.CreateNetwork{Secret: newKey(), Spec: state.NetworkSpec{
		Name: r.Name, Driver: state.Driver(r.Driver), IPv6: r.IPv6, Internal: r.Internal, Attachable: r.Attachable, Labels: r.Labels, MTU: r.MTU,
		AskVNI: r.VNI, Encrypted: r.Encrypted, AllowSpoof: r.Spoof, Egress: state.Egress(r.Egress),
	}}
	_, _ = rand.Read(c.ID[:]) // never fails
	for _, s := range r.Subnets {
		c.Spec.Ask = append(c.Spec.Ask, state.Subnet{Prefix: s.Prefix, Range: s.Range, Gateway: s.Gateway, Aux: s.Aux})
	}
	if _, err := m.propose(ctx, state.Command{CreateNetwork: c}); err != nil {
		return api.NetworkDetail{}, err
	}
	return m.Segment(ctx, c.ID.String())
}

// removal is how long the removal of a network waits for nodes that are giving its addresses back.
const removal = 2 * time.Second

// RemoveNetwork removes a network that nobody uses (api.Segments).
func (m *Member) RemoveNetwork(ctx context.Context, ref string) error {
	st, n, err := m.segmentOf(ref)
	if err != nil {
		return err
	}
	m.mu.Lock()
	using := m.users(st, n)
	m.mu.Unlock()
	if len(using) > 0 {
		return refuse(deny(state.ErrInUse, "network %s is in use by %s; detach them first", n.Name, strings.Join(using, ", ")))
	}
	deadline := time.Now().Add(removal)
	for {
		_, err := m.propose(ctx, state.Command{RemoveNetwork: &state.RemoveNetwork{ID: n.ID}})
		if !errors.Is(err, state.ErrInUse) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(again):
		}
	}
}

// users names the endpoints in a network, as far as this node knows them.
func (m *Member) users(st *state.State, n *state.Network) (names []string) {
	for _, e := range m.endpoints(st, n) {
		names = append(names, e.Name+" on node "+e.Node)
	}
	return names
}

// PruneNetworks removes all networks that nobody uses (api.Segments).
func (m *Member) PruneNetworks(ctx context.Context) ([]string, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, errNoMember
	}
	names := []string{}
	for id, n := range st.Networks {
		if n.Ingress || len(st.Participants(id)) > 0 {
			continue
		}
		switch _, err := m.propose(ctx, state.Command{RemoveNetwork: &state.RemoveNetwork{ID: id}}); {
		case err == nil:
			names = append(names, n.Name)
		case !errors.Is(err, state.ErrInUse) && !errors.Is(err, state.ErrNotFound): // else taken into use, or removed, meanwhile
			return names, err
		}
	}
	slices.Sort(names)
	return names, nil
}

// Endpoints lists the endpoints of the networks that this node takes part in (api.Endpoints).
func (m *Member) Endpoints(_ context.Context, network string) ([]api.Endpoint, error) {
	st := m.cluster.State()
	if st == nil {
		return nil, errNoMember
	}
	var only *state.Network
	if network != "" {
		var err error
		if only, err = st.Network(network); err != nil {
			return nil, refuse(err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []api.Endpoint
	for _, n := range st.Networks {
		if only == nil || n.ID == only.ID {
			all = append(all, m.endpoints(st, n)...)
		}
	}
	slices.SortFunc(all, func(a, b api.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Endpoint describes the endpoints of a container, or the one with an ID (api.Endpoints).
func (m *Member) Endpoint(ctx context.Context, ref string) ([]api.Endpoint, error) {
	all, err := m.Endpoints(ctx, "")
	if err != nil {
		return nil, err
	}
	named := slices.DeleteFunc(slices.Clone(all), func(e api.Endpoint) bool { return e.Name != ref })
	if len(named) == 0 {
		named = slices.DeleteFunc(all, func(e api.Endpoint) bool { return !strings.HasPrefix(e.ID, ref) })
	}
	if len(named) == 0 {
		return nil, refuse(deny(state.ErrNotFound, "no endpoint %q in the networks of this node; see weft endpoint ls", ref))
	}
	return named, nil
}

// endpoints lists those of one network. The caller holds the lock.
func (m *Member) endpoints(st *state.State, n *state.Network) []api.Endpoint {
	all := []api.Endpoint{}
	for _, e := range m.store.In(n.ID) {
		all = append(all, m.describe(st, n, e))
	}
	problems := m.problems // told by follow already
	for _, r := range m.remotes(st, n) {
		e := api.Endpoint{
			ID: r.id, Name: r.Name, Hostname: r.Hostname, Service: r.Service, Network: n.Name, NetworkID: n.ID.String(), Node: r.owner.Name,
			MAC: r.MAC, Aliases: append([]string{}, r.Aliases...), State: api.StateUp, Created: r.Created,
			Ports: append([]dns.Port{}, r.Ports...),
		}
		e.Addresses, e.Gateways = prefixed(n, r.Addresses)
		if r.hidden {
			e.State = api.StateHidden
		}
		all = append(all, e)
	}
	m.problems = problems
	return all
}

// describe describes an endpoint of this node. The caller holds the lock.
func (m *Member) describe(st *state.State, n *state.Network, e *endpoint.Endpoint) api.Endpoint {
	d := api.Endpoint{
		ID: e.ID, Name: e.Container.Name, Hostname: e.Container.Hostname, Service: e.Container.Service, Network: n.Name, NetworkID: n.ID.String(),
		Interface: e.Interface, Namespace: e.Container.String(), MAC: e.MAC, Aliases: append([]string{}, e.Aliases...), State: api.StateUp,
		Ports:   append([]dns.Port{}, e.Container.Ports...),
		Created: e.Created, Local: true,
	}
	if st != nil {
		d.Node = nodeName(st, m.cluster.ID())
	}
	d.Addresses, d.Gateways = prefixed(n, e.Addresses)
	if err := m.cfg.Plane.Fault(n.VNI, e.Container.Name); err != nil {
		d.State, d.Error = api.StateGone, err.Error()
	}
	return d
}
