package member

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/cluster/state"
)

const (
	spare      = 8               // addresses that a node asks for at once, so that the next containers need no manager
	patience   = 3 * time.Second // how long a node waits for addresses that others were asked to give back
	again      = 100 * time.Millisecond
	givingTime = 3 * time.Second
	asking     = 5 * time.Second // between two questions for an address that another node has
	batch      = 64              // addresses that one question may be about
)

// reserve takes addresses of a network for an attachment: those wanted, or a free one of each family that the network has and
// want leaves out. What it takes is this attachment's until unreserve.
func (m *Member) reserve(ctx context.Context, id state.NetworkID, want []netip.Addr) ([]netip.Addr, error) {
	deadline := time.Now().Add(patience)
	for {
		if err := m.given(ctx, id); err != nil {
			return nil, err
		}
		st := m.cluster.State()
		if st == nil {
			return nil, errNoMember
		}
		n := st.Networks[id]
		if n == nil {
			return nil, deny(state.ErrNotFound, "the network was removed meanwhile")
		}
		got, ask, err := m.take(st, n, want)
		if err != nil || got != nil {
			return got, err
		}
		if ask == nil {
			continue // addresses are being given back
		}
		res, err := m.cluster.Propose(ctx, state.Command{Lease: ask})
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		}
		m.mu.Lock()
		delete(m.doubtful, id) // what was asked before has been done, or never will be
		m.mu.Unlock()
		if res.Pending == "" {
			continue
		}
		if time.Now().After(deadline) {
			return nil, deny(state.ErrExhausted, "network %s: %s", n.Name, res.Pending)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(again):
		}
	}
}

// given waits until no address of the network is being given back.
func (m *Member) given(ctx context.Context, id state.NetworkID) error {
	m.mu.Lock()
	giving := m.giving[id]
	m.mu.Unlock()
	if giving == nil {
		return nil
	}
	select {
	case <-giving:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take takes addresses out of the lease that this node has, or says what to ask the managers for. It does neither while addresses are
// being given back.
func (m *Member) take(st *state.State, n *state.Network, want []netip.Addr) (got []netip.Addr, ask *state.AskLease, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.giving[n.ID] != nil {
		return nil, nil, nil
	}
	used := m.used(n.ID)
	var held []netip.Addr
	if l := st.Lease(n.ID, m.cluster.ID()); l != nil {
		held = slices.DeleteFunc(slices.Clone(l.Addresses), func(a netip.Addr) bool { return slices.Contains(m.doubtful[n.ID], a) })
	}
	var missing []netip.Addr
	for _, a := range want {
		if holder, ok := used[a]; ok {
			return nil, nil, deny(state.ErrInUse, "network %s: address %s is that of %s on this node; ask for another", n.Name, a, holder)
		}
		if _, ok := slices.BinarySearchFunc(held, a, netip.Addr.Compare); !ok {
			missing = append(missing, a)
		}
	}
	if len(missing) > 0 {
		return nil, &state.AskLease{Network: n.ID, Want: missing}, nil
	}
	got = slices.Clone(want)
	for _, v4 := range []bool{true, false} {
		has := func(a netip.Addr) bool { return a.Is4() == v4 }
		if !slices.ContainsFunc(n.Subnets, func(s state.Subnet) bool { return s.Prefix.Addr().Is4() == v4 }) || slices.ContainsFunc(want, has) {
			continue
		}
		i := slices.IndexFunc(held, func(a netip.Addr) bool { _, taken := used[a]; return has(a) && !taken })
		if i < 0 {
			count := spare
			if n.Tight {
				count = 1
			}
			return nil, &state.AskLease{Network: n.ID, Count: count}, nil
		}
		got = append(got, held[i])
	}
	for _, a := range got {
		m.reserved[reservation{n.ID, a}] = true
	}
	return got, nil, nil
}

// used returns the addresses of a network that are not free, with what has them.
func (m *Member) used(id state.NetworkID) map[netip.Addr]string {
	used := make(map[netip.Addr]string)
	for r := range m.reserved {
		if r.network == id {
			used[r.addr] = "a container that is being attached"
		}
	}
	for _, e := range m.store.In(id) {
		for _, a := range e.Addresses {
			used[a] = "container " + e.Container.Name
		}
	}
	return used
}

func (m *Member) unreserve(id state.NetworkID, addrs []netip.Addr) {
	for _, a := range addrs {
		delete(m.reserved, reservation{id, a})
	}
}

// giveBack returns to the managers what this node does not use: all of a network's addresses with its last endpoint, the spare ones when
// the network is nearly full, and those that another node asks for. It also asks again for addresses in use that were lost.
func (m *Member) giveBack(st *state.State) {
	for id, n := range st.Networks {
		lease := st.Lease(id, m.cluster.ID())
		used := m.used(id)
		if m.giving[id] != nil || m.busy[id] > 0 {
			continue
		}
		var c state.Command
		lost := missing(lease, used)
		if len(lost) == 0 {
			delete(m.single, id)
		}
		switch {
		case len(lost) > 0:
			if lost = m.due(id, lost); len(lost) == 0 {
				continue
			}
			c.Lease = &state.AskLease{Network: id, Want: lost}
		case lease == nil:
			continue
		case len(used) == 0:
			c.Release = &state.Release{Network: id, Addresses: lease.Addresses, Leave: true}
		default:
			back := slices.DeleteFunc(slices.Clone(lease.Addresses), func(a netip.Addr) bool {
				_, taken := used[a]
				return taken || !n.Tight && !slices.Contains(n.Wanted, a)
			})
			if len(back) == 0 {
				continue
			}
			c.Release = &state.Release{Network: id, Addresses: back}
		}
		m.give(id, n.Name, c)
	}
}

// due returns those of the lost addresses to ask for now: all at once, until it turns out that another node has some.
func (m *Member) due(id state.NetworkID, lost []netip.Addr) []netip.Addr {
	lost = slices.DeleteFunc(lost, func(a netip.Addr) bool { return time.Since(m.asked[reservation{id, a}]) < asking })
	if m.single[id] {
		return lost[:min(len(lost), 1)]
	}
	return lost[:min(len(lost), batch)]
}

// missing returns the addresses in use that the lease does not have.
func missing(l *state.Lease, used map[netip.Addr]string) (lost []netip.Addr) {
	for a := range used {
		if _, ok := within(l, []netip.Addr{a}); !ok {
			lost = append(lost, a)
		}
	}
	slices.SortFunc(lost, netip.Addr.Compare)
	return lost
}

// give sends one command about a lease. Until it is answered, nothing of that network is handed out.
func (m *Member) give(id state.NetworkID, name string, c state.Command) {
	done := make(chan struct{})
	m.giving[id] = done
	m.working.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, givingTime)
		defer cancel()
		var res state.Result
		_, err := m.cluster.Quorum() // without one nothing is asked for: it could be done much later
		sent := err == nil
		if sent {
			res, err = m.cluster.Propose(ctx, c)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			m.log.Debug("a lease could not be changed; trying again", "network", name, "error", err)
		}
		if res.Pending != "" && len(c.Lease.Want) == 1 {
			m.log.Warn("an address in use is leased by another node", "network", name, "why", res.Pending)
		}
		m.mu.Lock()
		delete(m.giving, id)
		switch {
		case res.Pending != "" && len(c.Lease.Want) == 1:
			m.asked[reservation{id, c.Lease.Want[0]}] = time.Now()
		case res.Pending != "":
			m.single[id] = true
		case err == nil:
			delete(m.doubtful, id)
			if c.Lease != nil {
				for _, a := range c.Lease.Want {
					delete(m.asked, reservation{id, a})
				}
			}
		case sent && c.Release != nil:
			m.doubtful[id] = c.Release.Addresses
		}
		m.mu.Unlock()
		close(done)
		if err == nil {
			m.Wake()
		}
	})
}

// parted describes addresses for a message.
func parted(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}
