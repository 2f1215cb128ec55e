package state

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weftnet/weft/vxlan"
)

// FirstVNI is where VNIs that nobody asked for begin, as Docker's do.
const FirstVNI vxlan.VNI = 4096

// The bounds of a network's MTU. 65521 is the most that a TAP's superframe leaves for one packet; RFC 791 and RFC 8200 have the least.
const (
	minMTU4 = 576
	minMTU6 = 1280
	maxMTU  = 65521
)

// Bounds on what a network can carry along, so that nobody can fill the managers' memory with one request.
const (
	maxSubnets = 16
	maxAux     = 256
	maxLabels  = 128
	maxText    = 1024     // bytes of a label or of the name of an auxiliary address
	maxTexts   = 64 << 10 // of all of them in a network
	maxBridges = 256      // of one node, which may be a worker that means no good
)

// networkName is what Docker takes for a name.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

func (d *draft) createNetwork(c *CreateNetwork) error {
	if c.Spec.Ingress {
		return refuse(ErrExists, "the cluster has its ingress network already, from weft init; make an ordinary one")
	}
	return d.makeNetwork(c)
}

// makeNetwork makes a network of any kind.
func (d *draft) makeNetwork(c *CreateNetwork) error {
	if d.Networks[c.ID] != nil || c.ID.IsZero() {
		return refuse(ErrExists, "the network ID %s is taken; ask again with another random one", c.ID)
	}
	n := &Network{ID: c.ID, Created: d.at, NetworkSpec: c.Spec.clone()}
	if n.Driver == "" {
		n.Driver = Overlay
	}
	if n.Driver == Bridge {
		n.Node = d.by
	}
	if err := d.checkBridges(n); err != nil {
		return err
	}
	if err := d.checkSpec(n); err != nil {
		return err
	}
	var err error
	if n.VNI, err = d.vni(n); err != nil {
		return err
	}
	if n.Subnets, err = d.subnets(n); err != nil {
		return err
	}
	n.IPv6 = len(n.family(false)) > 0
	if err := n.checkMTU(); err != nil {
		return err
	}
	epoch := d.Cluster.Gossip.newest()
	if n.Keys, err = d.firstKey(epoch, c.Secret); err != nil {
		return err
	}
	d.setNetwork(n)
	d.result.Network = n
	return nil
}

// checkBridges refuses a bridge network of a node that has many.
func (s *State) checkBridges(n *Network) error {
	have := 0
	for _, other := range s.Networks {
		if other.Driver == Bridge && other.Node == n.Node {
			have++
		}
	}
	if n.Driver == Bridge && have >= maxBridges {
		return refuse(ErrExhausted, "node %s has %d bridge networks, as many as it may; remove some (weft network prune), or make an overlay network",
			s.nodeName(n.Node), have)
	}
	return nil
}

// checkSpec says what is wrong with what a network is to be, subnets and numbers apart.
func (s *State) checkSpec(n *Network) error {
	if err := n.checkSpec(); err != nil {
		return err
	}
	for _, other := range s.Networks {
		if other.Name == n.Name {
			return refuse(ErrExists, "the network name %q is taken by network %s; choose another, or remove that one (weft network rm %s)", n.Name, other.ID, n.Name)
		}
	}
	return nil
}

// checkSpec says what is wrong with that of a network by itself.
func (n *Network) checkSpec() error {
	if !networkName.MatchString(n.Name) {
		return refuse(ErrInvalid, "network name %q; expected up to 63 letters, digits, and _ . - after the first", n.Name)
	}
	if n.Driver != Overlay && n.Driver != Bridge {
		return refuse(ErrInvalid, "driver %q of network %s; expected %s or %s", n.Driver, n.Name, Overlay, Bridge)
	}
	if len(n.Labels) > maxLabels {
		return refuse(ErrInvalid, "network %s has %d labels; expected at most %d", n.Name, len(n.Labels), maxLabels)
	}
	texts := 0
	for _, sub := range n.Ask {
		for name := range sub.Aux {
			texts += len(name)
		}
	}
	for k, v := range n.Labels {
		texts += len(k) + len(v)
		if k == "" || len(k) > maxText || len(v) > maxText || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return refuse(ErrInvalid, "label %.64q=%.64q of network %s; expected a name, and up to %d bytes of UTF-8 on either side", k, v, n.Name, maxText)
		}
	}
	if texts > maxTexts {
		return refuse(ErrInvalid, "network %s has %d bytes of labels and names of auxiliary addresses; expected up to %d", n.Name, texts, maxTexts)
	}
	return n.checkEgress()
}

func (s *NetworkSpec) checkEgress() error {
	switch s.Egress {
	case "", EgressNone:
		return nil
	case EgressInternet, EgressFull:
		if s.Internal {
			return refuse(ErrInvalid, "network %s is internal and has egress=%s; expected one of them: an internal network has no way out", s.Name, s.Egress)
		}
		return nil
	}
	return refuse(ErrInvalid, "egress %.64q of network %s; expected %s, %s or %s", s.Egress, s.Name, EgressInternet, EgressFull, EgressNone)
}

// Reach returns what the network's containers reach beyond it: what was asked for, or else what its kind has.
func (s *NetworkSpec) Reach() Egress {
	switch {
	case s.Internal:
		return EgressNone
	case s.Egress == "":
		return EgressInternet
	}
	return s.Egress
}

func (n *Network) checkMTU() error {
	least, family := minMTU4, "IPv4"
	if n.IPv6 {
		least, family = minMTU6, "IPv6"
	}
	if n.MTU != 0 && (n.MTU < least || n.MTU > maxMTU) {
		return refuse(ErrInvalid, "MTU %d of network %s; expected %d to %d with %s, or none for what the underlay allows", n.MTU, n.Name, least, maxMTU, family)
	}
	return nil
}

// vni returns the number that a network asks for, or the lowest free one.
func (d *draft) vni(n *Network) (vxlan.VNI, error) {
	used := make(map[vxlan.VNI]*Network, len(d.Networks))
	for _, other := range d.Networks {
		used[other.VNI] = other
	}
	if ask := n.AskVNI; ask != 0 {
		if ask > vxlan.MaxVNI {
			return 0, refuse(ErrInvalid, "VNI %d of network %s; expected 1 to %d", ask, n.Name, vxlan.MaxVNI)
		}
		if other := used[ask]; other != nil {
			return 0, refuse(ErrInUse, "VNI %d is network %s's; choose another, or none for a free one", ask, other.Name)
		}
		return ask, nil
	}
	for v := FirstVNI; v <= vxlan.MaxVNI; v++ {
		if used[v] == nil {
			return v, nil
		}
	}
	return 0, refuse(ErrExhausted, "all %d VNIs from %d to %d are in use; remove networks", vxlan.MaxVNI-FirstVNI+1, FirstVNI, vxlan.MaxVNI)
}

func (d *draft) removeNetwork(c *RemoveNetwork) error {
	n := d.Networks[c.ID]
	if n == nil {
		return refuse(ErrNotFound, "there is no network %s; see weft network ls", c.ID)
	}
	if n.Ingress {
		return refuse(ErrDenied, "network %s is the ingress network, which every cluster has; it cannot be removed", n.Name)
	}
	if leases := d.Leases[c.ID]; len(leases) > 0 {
		return refuse(ErrInUse, "network %s is in use, by leased addresses: %s; detach the containers there first (weft endpoint ls)", n.Name, d.holders(leases, (*Lease).count))
	}
	d.dropNetwork(c.ID)
	return nil
}

func (d *draft) dropNetwork(id NetworkID) {
	delete(own(d, &d.Networks, &d.nets), id)
	if _, ok := d.Leases[id]; ok {
		d.setLeases(id, nil)
	}
}

func (l *Lease) count() int { return len(l.Addresses) }

// holders names nodes with how many addresses each has by count, as in "node a 100, node b 153".
func (s *State) holders(leases []*Lease, count func(*Lease) int) string {
	const most = 8
	var names []string
	for _, l := range leases {
		names = append(names, fmt.Sprintf("node %s %d", s.nodeName(l.Node), count(l)))
	}
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s, and %d more nodes", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// clone returns a copy that shares nothing.
func (s NetworkSpec) clone() NetworkSpec {
	s.Labels = maps.Clone(s.Labels)
	s.Ask = slices.Clone(s.Ask)
	for i := range s.Ask {
		s.Ask[i].Aux = maps.Clone(s.Ask[i].Aux)
	}
	return s
}
