package state

import (
	"bytes"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/vxlan"
)

// clusterID is what a cluster's ID looks like.
var clusterID = regexp.MustCompile(`^[0-9a-z]{25}$`)

// check says what in a state, or a view, no Apply could have made.
func (s *State) check() error {
	if err := s.Cluster.check(); err != nil {
		return err
	}
	if err := s.Cluster.Gossip.check(); err != nil {
		return err
	}
	if err := s.checkNodes(); err != nil {
		return err
	}
	if err := s.checkNetworks(); err != nil {
		return err
	}
	for id, leases := range s.Leases {
		n := s.Networks[id]
		if n == nil {
			return refuse(ErrInvalid, "leases of network %s, which there is not", id)
		}
		if err := s.checkLeases(n, leases); err != nil {
			return err
		}
	}
	return nil
}

// check says what is wrong with a cluster, its keyring apart.
func (c *Cluster) check() error {
	if !clusterID.MatchString(c.ID) {
		return refuse(ErrInvalid, "cluster ID %.64q; expected 25 digits and small letters", c.ID)
	}
	if len(c.Pools) == 0 {
		return refuse(ErrInvalid, "the cluster has no address pools; expected one or more (weft init --default-addr-pool)")
	}
	for i, p := range c.Pools {
		if err := ipam.Pool(p).Check(); err != nil {
			return refuse(ErrInvalid, "%v", err)
		}
		if !p.Base.Addr().Is4() {
			return refuse(ErrInvalid, "address pool %s; expected IPv4: default IPv6 subnets are unique local ones", p.Base)
		}
		for _, q := range c.Pools[:i] {
			if p.Base.Overlaps(q.Base) {
				return refuse(ErrInvalid, "the address pools %s and %s overlap; expected them apart", q.Base, p.Base)
			}
		}
	}
	for role, secret := range c.Tokens {
		if role != Worker && role != Manager || !secretText.MatchString(secret) {
			return refuse(ErrInvalid, "a join token for role %q with a secret of %d characters; expected %s or %s, and 16 to 64 digits and small letters", role, len(secret), Worker, Manager)
		}
	}
	if c.LeaseTTL <= 0 || c.CertLife <= 0 {
		return refuse(ErrInvalid, "a lease lives for %s and a certificate for %s; expected some time", c.LeaseTTL, c.CertLife)
	}
	return nil
}

// check says what is wrong with a keyring. An empty one is that of a view.
func (k Keyring) check() error {
	if len(k.Keys) == 0 {
		if k.Primary != 0 {
			return refuse(ErrInvalid, "a keyring without keys seals with that of epoch %d", k.Primary)
		}
		return nil
	}
	primary, last := false, uint64(0)
	for _, key := range k.Keys {
		if key.Epoch <= last || len(key.Secret) != keySize {
			return refuse(ErrInvalid, "a key of epoch %d and %d bytes after one of epoch %d; expected rising epochs and %d bytes", key.Epoch, len(key.Secret), last, keySize)
		}
		last, primary = key.Epoch, primary || key.Epoch == k.Primary
	}
	if !primary || len(k.Keys) > 2 {
		return refuse(ErrInvalid, "a keyring of %d keys up to epoch %d seals with that of epoch %d; expected one of two at most", len(k.Keys), last, k.Primary)
	}
	return nil
}

func (s *State) checkNodes() error {
	names, managers := map[string]identity.NodeID{}, 0
	for id, n := range s.Nodes {
		if n == nil || n.ID != id {
			return refuse(ErrInvalid, "the node at ID %s is another or none", id)
		}
		if err := n.check(); err != nil {
			return err
		}
		if _, ok := s.Removed[id]; ok {
			return refuse(ErrInvalid, "node %s is a member and removed", n.Name)
		}
		name := strings.ToLower(n.Name)
		if _, ok := names[name]; ok {
			return refuse(ErrInvalid, "two nodes have the name %q", n.Name)
		}
		names[name] = id
		if n.Role == Manager {
			managers++
		}
	}
	if managers == 0 || managers > MaxManagers {
		return refuse(ErrInvalid, "the cluster has %d managers; expected 1 to %d", managers, MaxManagers)
	}
	return nil
}

func (s *State) checkNetworks() error {
	names, vnis, ingress := map[string]bool{}, map[vxlan.VNI]bool{}, 0
	for id, n := range s.Networks {
		if n == nil || n.ID != id || id.IsZero() {
			return refuse(ErrInvalid, "the network at ID %s is another or none", id)
		}
		if err := n.check(); err != nil {
			return err
		}
		if n.Driver == Bridge && s.Nodes[n.Node] == nil {
			return refuse(ErrInvalid, "network %s is a bridge of node %s, which is no member", n.Name, n.Node)
		}
		if names[n.Name] || vnis[n.VNI] {
			return refuse(ErrInvalid, "two networks have the name %q or the VNI %d", n.Name, n.VNI)
		}
		// A rotation takes the networks' keyrings along with gossip's; one made in between has the newer key only.
		if k, g := n.Keys, s.Cluster.Gossip; len(k.Keys) > 0 &&
			(k.newest() != g.newest() || len(k.Keys) > len(g.Keys) || g.Primary == g.newest() && k.Primary != g.Primary) {
			return refuse(ErrInvalid, "network %s has %d keys up to epoch %d; expected %d up to epoch %d as gossip", n.Name, len(k.Keys), k.newest(), len(g.Keys), g.newest())
		}
		names[n.Name], vnis[n.VNI] = true, true
		if n.Ingress {
			ingress++
		}
	}
	if ingress != 1 {
		return refuse(ErrInvalid, "the cluster has %d ingress networks; expected one", ingress)
	}
	return nil
}

// check says what is wrong with a network by itself.
func (n *Network) check() error {
	if err := n.checkSpec(); err != nil {
		return err
	}
	if n.VNI == 0 || n.VNI > vxlan.MaxVNI {
		return refuse(ErrInvalid, "VNI %d of network %s; expected 1 to %d", n.VNI, n.Name, vxlan.MaxVNI)
	}
	if (n.Driver == Bridge) == n.Node.IsZero() {
		return refuse(ErrInvalid, "network %s is a %s of node %s; expected a node for a bridge only", n.Name, n.Driver, n.Node)
	}
	if len(n.Subnets) == 0 || len(n.Subnets) > maxSubnets+1 || len(n.Ask) > maxSubnets {
		return refuse(ErrInvalid, "network %s has %d subnets; expected 1 to %d", n.Name, len(n.Subnets), maxSubnets+1)
	}
	for _, sub := range n.Subnets {
		if whole, err := sub.complete(); err != nil || whole.Gateway != sub.Gateway {
			return refuse(ErrInvalid, "network %s: subnet %s with gateway %s: %v", n.Name, sub.Prefix, sub.Gateway, err)
		}
	}
	if err := apart(n.Name, n.Subnets); err != nil {
		return err
	}
	if n.IPv6 != (len(n.family(false)) > 0) {
		return refuse(ErrInvalid, "network %s has IPv6 subnets or is meant to; expected both", n.Name)
	}
	if len(n.Wanted) != len(n.WantedUntil) || len(n.Wanted) > maxWishes {
		return refuse(ErrInvalid, "network %s has %d wanted addresses and %d times; expected as many, up to %d", n.Name, len(n.Wanted), len(n.WantedUntil), maxWishes)
	}
	for i, a := range n.Wanted {
		if err := n.leases(a); err != nil || slices.Contains(n.Wanted[:i], a) {
			return refuse(ErrInvalid, "network %s: wanted address %s twice, or wrong: %v", n.Name, a, err)
		}
	}
	if err := n.Keys.check(); err != nil {
		return err
	}
	return n.checkMTU()
}

// checkLeases says what is wrong with the leases of a network.
func (s *State) checkLeases(n *Network, leases []*Lease) error {
	if len(leases) == 0 {
		return refuse(ErrInvalid, "an empty list of leases of network %s", n.Name)
	}
	seen := map[netip.Addr]bool{}
	for i, l := range leases {
		switch {
		case l == nil || s.Nodes[l.Node] == nil:
			return refuse(ErrInvalid, "a lease of network %s is no member's", n.Name)
		case i > 0 && bytes.Compare(leases[i-1].Node[:], l.Node[:]) >= 0:
			return refuse(ErrInvalid, "the leases of network %s are not in order", n.Name)
		case n.Driver == Bridge && n.Node != l.Node:
			return refuse(ErrInvalid, "node %s leases of network %s, a bridge of another", s.nodeName(l.Node), n.Name)
		case !slices.IsSortedFunc(l.Addresses, netip.Addr.Compare):
			return refuse(ErrInvalid, "the addresses that node %s leases of network %s are not in order", s.nodeName(l.Node), n.Name)
		}
		for _, a := range l.Addresses {
			if err := n.leases(a); err != nil || seen[a] {
				return refuse(ErrInvalid, "%s of network %s is leased twice, or cannot be: %v", a, n.Name, err)
			}
			seen[a] = true
		}
	}
	return nil
}
