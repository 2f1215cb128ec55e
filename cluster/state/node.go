package state

import (
	"bytes"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/ipam"
)

// MaxManagers is how many managers there can be. 1, 3 or 5 are advised: an even number tolerates no more failures than the odd
// one below it, and each one makes every change slower.
const MaxManagers = 7

// Defaults of a cluster.
const (
	DefaultLeaseTTL = 24 * time.Hour
	DefaultCertLife = 90 * 24 * time.Hour
)

// maxRoutes bounds what one node's report takes of every manager's memory.
const maxRoutes = 16384

// label is one label of a host name (RFC 1123 section 2.1), which a node's name is.
var label = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// DefaultPools is where default subnets come from unless weft init says otherwise.
func DefaultPools() []Pool {
	return []Pool{{Base: netip.MustParsePrefix("10.0.0.0/8"), Size: 24}}
}

// begin makes the cluster.
func (d *draft) begin(c *Init) error {
	cl := c.Cluster
	cl.Created, cl.CACert, cl.CAKey = d.at, bytes.Clone(cl.CACert), bytes.Clone(cl.CAKey)
	cl.Tokens = maps.Clone(cl.Tokens)
	cl.Pools = slices.Clone(cl.Pools)
	if len(cl.Pools) == 0 {
		cl.Pools = DefaultPools()
	}
	if cl.LeaseTTL == 0 {
		cl.LeaseTTL = DefaultLeaseTTL
	}
	if cl.CertLife == 0 {
		cl.CertLife = DefaultCertLife
	}
	if len(cl.Gossip.Keys) != 1 {
		return refuse(ErrInvalid, "the new cluster has %d gossip keys; expected one", len(cl.Gossip.Keys))
	}
	key, err := d.firstKey(1, cl.Gossip.Keys[0].Secret)
	if err != nil {
		return err
	}
	cl.Gossip = key
	if err := cl.check(); err != nil {
		return err
	}
	d.Cluster = cl
	n := c.Node
	n.Role, n.Availability, n.Joined = Manager, Active, d.at
	if err := d.checkNode(&n); err != nil {
		return err
	}
	d.setNode(n.clone())
	d.by = n.ID
	return d.makeNetwork(&CreateNetwork{ID: c.IngressID, Secret: c.Secret, Spec: NetworkSpec{
		Name: "ingress", Driver: Overlay, Ingress: true, Ask: []Subnet{{Prefix: d.ingressSubnet()}},
	}})
}

// ingressSubnet returns Docker's choice for the ingress network, or what is free if the first node has a route there or a pool
// would be lost to it. Larger pools just skip it.
func (d *draft) ingressSubnet() netip.Prefix {
	usual := netip.MustParsePrefix("10.255.0.0/16")
	avoid := d.inUse()
	for _, p := range d.Cluster.Pools {
		if p.Base.Bits() >= usual.Bits() {
			avoid = append(avoid, p.Base)
		}
	}
	free, ok := ipam.Subnet([]ipam.Pool{
		{Base: usual, Size: 16},
		{Base: netip.MustParsePrefix("10.0.0.0/8"), Size: 16},
		{Base: netip.MustParsePrefix("172.16.0.0/12"), Size: 16},
		{Base: netip.MustParsePrefix("192.168.0.0/16"), Size: 16},
	}, avoid)
	if !ok {
		return usual
	}
	return free
}

// addNode makes a node a member, or takes the same one back.
func (d *draft) addNode(c *AddNode) error {
	n := c.Node
	if at, ok := d.Removed[n.ID]; ok {
		return refuse(ErrDenied, "node %s was removed from the cluster on %s and is refused for ever; weft leave --force there makes a new identity, then join again", n.ID, at.Format(time.RFC3339))
	}
	n.Availability, n.Joined = Active, d.at
	if n.Role == "" {
		n.Role = Worker
	}
	if old := d.Nodes[n.ID]; old != nil {
		n.Availability, n.Joined = old.Availability, old.Joined
		if n.Role == Worker {
			n.Role = old.Role
		}
		if n.Name == "" {
			n.Name = old.Name
		}
		if n.Report.equal(Report{}) {
			n.Report = old.Report
		}
	}
	if err := d.checkNode(&n); err != nil {
		return err
	}
	return d.replaceNode(&n)
}

// replaceNode puts a node's new form in place, if it differs and there are not too many managers then.
func (d *draft) replaceNode(n *Node) error {
	old := d.Nodes[n.ID]
	if old != nil && old.Name == n.Name && old.Role == n.Role && old.Availability == n.Availability && old.Report.equal(n.Report) {
		return nil
	}
	if n.Role == Manager && (old == nil || old.Role != Manager) && len(d.Managers()) >= MaxManagers {
		return refuse(ErrInvalid, "node %s would be manager number %d; expected at most %d, and 3 or 5 are advised; demote one first (weft node demote), or join as a worker",
			n.Name, MaxManagers+1, MaxManagers)
	}
	d.setNode(n.clone())
	return nil
}

// lastManager refuses what would leave the cluster without managers.
func (d *draft) lastManager(n *Node, what string) error {
	if n.Role != Manager || len(d.Managers()) > 1 {
		return nil
	}
	return refuse(ErrDenied, "node %s is the only manager and cannot be %s; first make another one (weft node promote NODE)", n.Name, what)
}

func (d *draft) updateNode(c *UpdateNode) error {
	old := d.Nodes[c.ID]
	if old == nil {
		return refuse(ErrNotFound, "node %s is no member of the cluster; see weft node ls", c.ID)
	}
	n := *old
	if c.Role != "" {
		n.Role = c.Role
	}
	if c.Availability != "" {
		n.Availability = c.Availability
	}
	if err := d.checkNode(&n); err != nil {
		return err
	}
	if n.Role != Manager {
		if err := d.lastManager(old, "demoted"); err != nil {
			return err
		}
	}
	return d.replaceNode(&n)
}

func (d *draft) removeNode(c *RemoveNode) error {
	n := d.Nodes[c.ID]
	if n == nil {
		return refuse(ErrNotFound, "node %s is no member of the cluster; see weft node ls", c.ID)
	}
	if err := d.lastManager(n, "removed"); err != nil {
		return err
	}
	d.evict(func(id identity.NodeID) bool { return id == c.ID })
	for id, net := range d.Networks {
		if net.Driver == Bridge && net.Node == c.ID {
			d.dropNetwork(id)
		}
	}
	delete(own(d, &d.Nodes, &d.nodes), c.ID)
	d.Removed = maps.Clone(d.Removed)
	if d.Removed == nil {
		d.Removed = map[identity.NodeID]time.Time{}
	}
	d.Removed[c.ID] = d.at
	return nil
}

func (d *draft) report(r *Report) error {
	n := *d.Nodes[d.by]
	n.Report = *r
	if err := r.check(n.Name); err != nil {
		return err
	}
	return d.replaceNode(&n)
}

// checkNode says what is wrong with a node that is to be a member.
func (s *State) checkNode(n *Node) error {
	if err := n.check(); err != nil {
		return err
	}
	for _, other := range s.Nodes {
		if other.ID != n.ID && strings.EqualFold(other.Name, n.Name) {
			return refuse(ErrExists, "the node name %q is taken by node %s since %s; if that one is gone, remove it (weft node rm %s), otherwise choose another --name",
				n.Name, other.ID, other.Joined.Format(time.RFC3339), other.Name)
		}
	}
	return nil
}

// check says what is wrong with a node by itself.
func (n *Node) check() error {
	if len(n.Key) != 32 || identity.IDOf(n.Key) != n.ID {
		return refuse(ErrInvalid, "node %s (%q) comes with a key that is not its own; expected an ed25519 key whose hash is the ID", n.ID, n.Name)
	}
	if !label.MatchString(n.Name) {
		return refuse(ErrInvalid, "node name %q; expected up to 63 letters, digits and hyphens, no hyphen at either end; choose one with --name", n.Name)
	}
	if n.Role != Worker && n.Role != Manager {
		return refuse(ErrInvalid, "role %q of node %s; expected %s or %s", n.Role, n.Name, Worker, Manager)
	}
	if n.Availability != Active && n.Availability != Drain {
		return refuse(ErrInvalid, "availability %q of node %s; expected %s or %s", n.Availability, n.Name, Active, Drain)
	}
	return n.Report.check(n.Name)
}

// check says what is wrong with the report of a node of that name.
func (r *Report) check(name string) error {
	for what, a := range map[string]netip.AddrPort{"API": r.API, "gossip": r.Gossip, "VTEP": r.VTEP} {
		if a != (netip.AddrPort{}) && (!a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().Zone() != "") {
			return refuse(ErrInvalid, "node %s reports %s address %q; expected ADDRESS:PORT that others can reach; set --advertise", name, what, a)
		}
	}
	if r.MTU < 0 || r.MTU > 1<<16 {
		return refuse(ErrInvalid, "node %s reports an underlay MTU of %d; expected up to %d", name, r.MTU, 1<<16)
	}
	if len(r.Routes) > maxRoutes {
		return refuse(ErrInvalid, "node %s reports %d routes; expected at most %d", name, len(r.Routes), maxRoutes)
	}
	for _, p := range r.Routes {
		if !p.IsValid() {
			return refuse(ErrInvalid, "node %s reports a route that is no prefix: %q", name, p)
		}
	}
	if len(r.Version) > 128 || !utf8.ValidString(r.Version) || strings.ContainsFunc(r.Version, unprintable) {
		return refuse(ErrInvalid, "node %s reports the version %.128q; expected up to 128 bytes of printable UTF-8", name, r.Version)
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func (r Report) equal(o Report) bool {
	return r.API == o.API && r.Gossip == o.Gossip && r.VTEP == o.VTEP && r.MTU == o.MTU &&
		r.Version == o.Version && r.KeyEpoch == o.KeyEpoch && slices.Equal(r.Routes, o.Routes)
}

// clone returns a copy that shares nothing.
func (n *Node) clone() *Node {
	m := *n
	m.Key, m.Routes = bytes.Clone(n.Key), slices.Clone(n.Routes)
	return &m
}
