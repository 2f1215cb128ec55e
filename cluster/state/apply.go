package state

import (
	"maps"
	"strings"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// Apply returns the state after a command, its Index larger by one. s is nil for Init, and only then. It is pure: the same state
// and command give the same result everywhere. A command that is refused gives s itself, and an error that wraps one of the
// sentinels; one that changes nothing gives s itself too. What the node By may ask is judged here once more (Authorize).
func (s *State) Apply(c *Command) (*State, Result, error) {
	if err := c.check(s == nil); err != nil {
		return s, Result{}, err
	}
	d := &draft{at: c.At.UTC().Round(0), by: c.By}
	if s != nil {
		if err := s.Authorize(c); err != nil {
			return s, Result{}, err
		}
		d.State = *s
	}
	if err := d.apply(c); err != nil {
		return s, Result{}, err
	}
	if !d.changed {
		return s, d.result, nil
	}
	next := d.State
	next.Index++
	return &next, d.result, nil
}

// check refuses a command that is none.
func (c *Command) check(first bool) error {
	set := 0
	for _, is := range []bool{c.Init != nil, c.AddNode != nil, c.UpdateNode != nil, c.RemoveNode != nil, c.Report != nil,
		c.CreateNetwork != nil, c.RemoveNetwork != nil, c.Lease != nil, c.Release != nil, c.Expire != nil,
		c.RotateToken != nil, c.RotateKeys != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return refuse(ErrInvalid, "the command has %d changes; expected exactly one", set)
	case c.At.UTC().Year() < 1970 || c.At.UTC().Year() > 9998:
		return refuse(ErrInvalid, "the command's time is %s; expected the leader's clock; set it right", c.At)
	case first && c.Init == nil:
		return refuse(ErrNotFound, "there is no cluster yet; make one with weft init, or join one with weft join")
	case !first && c.Init != nil:
		return refuse(ErrExists, "this node is in a cluster already; weft leave comes before another weft init")
	}
	return nil
}

// Authorize says what is wrong with the node By asking for this, as things stand. Managers may ask for anything; workers may
// report, lease and release, make and remove bridge networks of their own, and remove themselves.
func (s *State) Authorize(c *Command) error {
	node := s.Nodes[c.By]
	if node == nil {
		if at, ok := s.Removed[c.By]; ok {
			return refuse(ErrDenied, "node %s was removed from the cluster on %s; weft leave --force there, then join again", c.By, at.Format(time.RFC3339))
		}
		return refuse(ErrDenied, "node %s is no member of the cluster; join it with weft join", c.By)
	}
	if node.Role == Manager {
		return nil
	}
	what := ""
	switch {
	case c.Report != nil, c.Lease != nil, c.Release != nil:
	case c.RemoveNode != nil:
		if c.RemoveNode.ID != c.By {
			what = "remove other nodes"
		}
	case c.CreateNetwork != nil:
		if c.CreateNetwork.Spec.Driver != Bridge {
			what = "make networks that other nodes have too (a bridge network is allowed)"
		}
	case c.RemoveNetwork != nil:
		if n := s.Networks[c.RemoveNetwork.ID]; n != nil && (n.Driver != Bridge || n.Node != c.By) {
			what = "remove networks that other nodes have"
		}
	default:
		what = "change the cluster"
	}
	if what == "" {
		return nil
	}
	var names []string
	for _, m := range s.Managers() {
		names = append(names, m.Name)
	}
	return refuse(ErrDenied, "node %s is a worker, which may not %s; ask on a manager: %s", node.Name, what, strings.Join(names, ", "))
}

// View returns what a node may know: a manager everything; a worker neither the CA's key nor the join tokens, and the keys of
// those networks only that it takes part in; who is no member, no keys at all.
func (s *State) View(id identity.NodeID) *State {
	node := s.Nodes[id]
	if node != nil && node.Role == Manager {
		return s
	}
	v := *s
	v.Cluster.CAKey, v.Cluster.Tokens = nil, nil
	if node == nil {
		v.Cluster.Gossip = Keyring{}
	}
	v.Networks = maps.Clone(s.Networks)
	for nid, n := range s.Networks {
		if node == nil || s.Lease(nid, id) == nil {
			redacted := *n
			redacted.Keys = Keyring{}
			v.Networks[nid] = &redacted
		}
	}
	return &v
}

// draft is the next state in the making. It shares its maps with the state before until it first writes to one.
type draft struct {
	State
	at     time.Time
	by     identity.NodeID
	result Result

	changed               bool
	nodes, nets, leaseMap bool // which maps are its own
}

func (d *draft) apply(c *Command) error {
	switch {
	case c.Init != nil:
		return d.begin(c.Init)
	case c.AddNode != nil:
		return d.addNode(c.AddNode)
	case c.UpdateNode != nil:
		return d.updateNode(c.UpdateNode)
	case c.RemoveNode != nil:
		return d.removeNode(c.RemoveNode)
	case c.Report != nil:
		return d.report(c.Report)
	case c.CreateNetwork != nil:
		return d.createNetwork(c.CreateNetwork)
	case c.RemoveNetwork != nil:
		return d.removeNetwork(c.RemoveNetwork)
	case c.Lease != nil:
		return d.askLease(c.Lease)
	case c.Release != nil:
		return d.release(c.Release)
	case c.Expire != nil:
		return d.expire(c.Expire)
	case c.RotateToken != nil:
		return d.rotateToken(c.RotateToken)
	}
	return d.rotateKeys(c.RotateKeys)
}

// own returns a map to write to: a copy, the first time.
func own[M ~map[K]V, K comparable, V any](d *draft, m *M, owned *bool) M {
	d.changed = true
	if !*owned {
		*m, *owned = maps.Clone(*m), true
		if *m == nil {
			*m = M{}
		}
	}
	return *m
}

func (d *draft) setNode(n *Node)       { own(d, &d.Nodes, &d.nodes)[n.ID] = n }
func (d *draft) setNetwork(n *Network) { own(d, &d.Networks, &d.nets)[n.ID] = n }

// setLeases replaces the leases of a network; none means that nobody takes part.
func (d *draft) setLeases(net NetworkID, leases []*Lease) {
	m := own(d, &d.Leases, &d.leaseMap)
	if len(leases) == 0 {
		delete(m, net)
		return
	}
	m[net] = leases
}
