package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/ipam"
)

// Bounds on one AskLease.
const (
	maxCount = 4096
	maxWant  = 64
)

// WishLife is how long an address stays in Network.Wanted after it was last asked for; maxWishes how many a network has.
const (
	WishLife  = time.Minute
	maxWishes = 64
)

// share is which part of what is free one node gets at once, and below which part of a range a network is Tight, once more
// addresses than that are leased.
const (
	share     = 8
	tightFrom = 8
)

// Usage is how full one subnet of a network is.
type Usage struct {
	Subnet Subnet
	ipam.Usage
}

// Usage returns the numbers of each of a network's subnets.
func (s *State) Usage(net NetworkID) (list []Usage) {
	n := s.Networks[net]
	if n == nil {
		return nil
	}
	for _, sub := range n.Subnets {
		list = append(list, Usage{sub, sub.span().Usage(lists(s.Leases[net])...)})
	}
	return list
}

// lists returns the addresses of each lease.
func lists(leases []*Lease) [][]netip.Addr {
	all := make([][]netip.Addr, 0, len(leases)+1)
	for _, l := range leases {
		all = append(all, l.Addresses)
	}
	return all
}

// askLease leases addresses to the asking node.
func (d *draft) askLease(c *AskLease) error {
	n, err := d.leasable(c)
	if err != nil {
		return err
	}
	w := n.wishes(d.at)
	var got []netip.Addr
	if len(c.Want) > 0 {
		got, err = d.want(n, c.Want, &w)
	} else if c.Count > 0 {
		got, err = d.grant(n, c.Count, w)
	}
	if err != nil {
		return err
	}
	d.take(n.ID, got)
	d.result.Lease = got
	d.mark(n, w, d.result.Pending != "" && len(c.Want) == 0)
	return nil
}

// leasable returns the network that is asked for, or why this node gets nothing of it.
func (d *draft) leasable(c *AskLease) (*Network, error) {
	n, node := d.Networks[c.Network], d.Nodes[d.by]
	switch {
	case n == nil:
		return nil, refuse(ErrNotFound, "there is no network %s; see weft network ls", c.Network)
	case n.Driver == Bridge && n.Node != d.by:
		return nil, refuse(ErrDenied, "network %s is a bridge of node %s alone; attach there, or make an overlay network", n.Name, d.nodeName(n.Node))
	case node.Availability == Drain:
		return nil, refuse(ErrDenied, "node %s is drained and takes no new containers; weft node activate %s ends that", node.Name, node.Name)
	case c.Count < 0 || c.Count > maxCount:
		return nil, refuse(ErrInvalid, "%d addresses of network %s; expected up to %d at once", c.Count, n.Name, maxCount)
	case len(c.Want) > maxWant:
		return nil, refuse(ErrInvalid, "%d certain addresses of network %s; expected up to %d at once", len(c.Want), n.Name, maxWant)
	}
	return n, nil
}

// want leases certain addresses, all or none. Those that another node leases become wishes.
func (d *draft) want(n *Network, want []netip.Addr, w *wishes) ([]netip.Addr, error) {
	var got []netip.Addr
	var taken []string
	for _, a := range want {
		if err := n.leases(a); err != nil {
			return nil, err
		}
		switch l := holder(d.Leases[n.ID], a); {
		case l == nil:
			got = append(got, a)
		case l.Node != d.by:
			taken = append(taken, fmt.Sprintf("%s is leased by node %s", a, d.nodeName(l.Node)))
			w.add(a, d.at.Add(WishLife))
		}
	}
	if len(taken) > 0 {
		d.result.Pending = strings.Join(taken, ", ") + "; it gives it back if no container there has it"
		return nil, nil
	}
	for _, a := range want {
		w.drop(a)
	}
	slices.SortFunc(got, netip.Addr.Compare)
	return slices.Compact(got), nil
}

// leases says why an address cannot be leased to anybody.
func (n *Network) leases(a netip.Addr) error {
	var prefixes []string
	for _, sub := range n.Subnets {
		if !sub.Prefix.Contains(a) {
			prefixes = append(prefixes, sub.Prefix.String())
			continue
		}
		if ipam.Unusable(sub.Prefix, a) {
			return refuse(ErrInvalid, "%s is the network or broadcast address of %s; choose another", a, sub.Prefix)
		}
		if a == sub.Gateway {
			return refuse(ErrInUse, "%s is the gateway of network %s; choose another", a, n.Name)
		}
		for name, aux := range sub.Aux {
			if a == aux {
				return refuse(ErrInUse, "%s is reserved in network %s as %q; choose another", a, n.Name, name)
			}
		}
		return nil
	}
	return refuse(ErrInvalid, "%s is not in network %s; expected an address of %s", a, n.Name, strings.Join(prefixes, ", "))
}

// holder returns the lease that has an address.
func holder(leases []*Lease, a netip.Addr) *Lease {
	for _, l := range leases {
		if _, ok := slices.BinarySearchFunc(l.Addresses, a, netip.Addr.Compare); ok {
			return l
		}
	}
	return nil
}

// grant leases the lowest free addresses of each family: an eighth of them at most, so that a small network serves many nodes.
// It is all families or none.
func (d *draft) grant(n *Network, count int, w wishes) ([]netip.Addr, error) {
	var got []netip.Addr
	for _, v4 := range []bool{true, false} {
		subs := n.family(v4)
		if len(subs) == 0 {
			continue
		}
		taken := lists(d.Leases[n.ID])
		kept := d.kept(n, w)
		taken = append(taken, kept)
		free := uint64(0)
		for _, sub := range subs {
			free += min(sub.span().Usage(taken...).Free, 1<<32)
		}
		if free == 0 {
			return nil, d.full(n, subs, len(kept))
		}
		need := int(min(uint64(count), max(1, free/share)))
		for _, sub := range subs {
			some := sub.span().Free(need, taken...)
			got, need = append(got, some...), need-len(some)
		}
	}
	return got, nil
}

// kept returns the wanted addresses that are free by now, in order. They are not given to others while the wish lasts.
func (d *draft) kept(n *Network, w wishes) (kept []netip.Addr) {
	for _, a := range w.addrs {
		if holder(d.Leases[n.ID], a) == nil {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, netip.Addr.Compare)
	return kept
}

// full makes the answer Pending where other nodes may give something back, and otherwise returns that there is nothing.
func (d *draft) full(n *Network, subs []Subnet, kept int) error {
	var holding []*Lease
	var where []string
	size, others := uint64(0), kept > 0
	for _, sub := range subs {
		size += sub.span().Size()
		where = append(where, sub.where())
	}
	count := func(l *Lease) (c int) {
		for _, sub := range subs {
			c += int(sub.span().Usage(l.Addresses).Leased)
		}
		return c
	}
	for _, l := range d.Leases[n.ID] {
		if count(l) > 0 {
			holding = append(holding, l)
			others = others || l.Node != d.by
		}
	}
	text := fmt.Sprintf("all %d addresses of %s (network %s) are leased: %s", size, strings.Join(where, ", "), n.Name, d.holders(holding, count))
	if kept > 0 {
		text += fmt.Sprintf("; %d are kept for nodes that asked for them", kept)
	}
	if !others {
		return refuse(ErrExhausted, "%s; detach containers, or make a network with a larger --subnet", text)
	}
	d.result.Pending = text
	return nil
}

// take adds addresses to the asking node's lease, and makes it take part.
func (d *draft) take(net NetworkID, got []netip.Addr) {
	leases := d.Leases[net]
	i, ok := findLease(leases, d.by)
	if ok && len(got) == 0 {
		return
	}
	l := &Lease{Node: d.by, Addresses: got}
	if ok {
		l.Addresses = append(slices.Clone(leases[i].Addresses), got...)
		slices.SortFunc(l.Addresses, netip.Addr.Compare)
		leases = slices.Clone(leases)
		leases[i] = l
	} else {
		leases = slices.Insert(slices.Clone(leases), i, l)
	}
	d.setLeases(net, leases)
}

// release takes addresses back from the asking node. What it does not have it need not give: a command may come twice.
func (d *draft) release(c *Release) error {
	n := d.Networks[c.Network]
	if n == nil {
		return refuse(ErrNotFound, "there is no network %s; see weft network ls", c.Network)
	}
	leases := d.Leases[n.ID]
	i, ok := findLease(leases, d.by)
	if !ok {
		return nil
	}
	if c.Leave {
		d.setLeases(n.ID, slices.Delete(slices.Clone(leases), i, i+1))
	} else {
		back := slices.SortedFunc(slices.Values(c.Addresses), netip.Addr.Compare)
		rest := slices.DeleteFunc(slices.Clone(leases[i].Addresses), func(a netip.Addr) bool {
			_, ok := slices.BinarySearchFunc(back, a, netip.Addr.Compare)
			return ok
		})
		if len(rest) == len(leases[i].Addresses) {
			return nil
		}
		leases = slices.Clone(leases)
		leases[i] = &Lease{Node: d.by, Addresses: rest}
		d.setLeases(n.ID, leases)
	}
	d.mark(n, n.wishes(d.at), false)
	return nil
}

func (d *draft) expire(c *Expire) error {
	gone := make(map[identity.NodeID]bool, len(c.Nodes))
	for _, id := range c.Nodes {
		gone[id] = true
	}
	d.evict(func(id identity.NodeID) bool { return gone[id] })
	return nil
}

// evict frees the leases of nodes. A bridge's are kept: nobody else can use them, and its node's containers may live.
func (d *draft) evict(gone func(identity.NodeID) bool) {
	for net, leases := range d.Leases {
		n := d.Networks[net]
		if n.Driver == Bridge || !slices.ContainsFunc(leases, func(l *Lease) bool { return gone(l.Node) }) {
			continue
		}
		d.setLeases(net, slices.DeleteFunc(slices.Clone(leases), func(l *Lease) bool { return gone(l.Node) }))
		d.mark(n, n.wishes(d.at), false)
	}
}

// mark brings a network's flags up to date: what is wanted, and whether it is tight. Tight by need lasts until something is free.
func (d *draft) mark(n *Network, w wishes, need bool) {
	tight, full := false, false
	taken := lists(d.Leases[n.ID])
	for _, v4 := range []bool{true, false} {
		size, free, leased := uint64(0), uint64(0), uint64(0)
		subs := n.family(v4)
		for _, sub := range subs {
			u := sub.span().Usage(taken...)
			size, free, leased = size+min(u.Size, 1<<32), free+min(u.Free, 1<<32), leased+u.Leased
		}
		tight = tight || free*share < size && leased > tightFrom
		full = full || len(subs) > 0 && free == 0
	}
	tight = tight || full && (need || n.Tight)
	if tight == n.Tight && slices.Equal(w.addrs, n.Wanted) && slices.EqualFunc(w.until, n.WantedUntil, time.Time.Equal) {
		return
	}
	next := *n
	next.Tight, next.Wanted, next.WantedUntil = tight, w.addrs, w.until
	d.setNetwork(&next)
}

// wishes are addresses that nodes wait for, the one that lapses next first.
type wishes struct {
	addrs []netip.Addr
	until []time.Time
}

// wishes returns those that have not lapsed.
func (n *Network) wishes(at time.Time) (w wishes) {
	for i, a := range n.Wanted {
		if n.WantedUntil[i].After(at) {
			w.addrs, w.until = append(w.addrs, a), append(w.until, n.WantedUntil[i])
		}
	}
	return w
}

// add enters a wish, or makes it last.
func (w *wishes) add(a netip.Addr, until time.Time) {
	w.drop(a)
	if len(w.addrs) == maxWishes {
		w.addrs, w.until = w.addrs[1:], w.until[1:]
	}
	w.addrs, w.until = append(w.addrs, a), append(w.until, until)
}

func (w *wishes) drop(a netip.Addr) {
	if i := slices.Index(w.addrs, a); i >= 0 {
		w.addrs, w.until = slices.Delete(w.addrs, i, i+1), slices.Delete(w.until, i, i+1)
	}
}
