package state

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weftnet/weft/ipam"
)

// subnets returns what becomes of the subnets that a network asks for: those, completed, and defaults for what it leaves open.
func (d *draft) subnets(n *Network) ([]Subnet, error) {
	if len(n.Ask) > maxSubnets {
		return nil, refuse(ErrInvalid, "network %s has %d subnets; expected at most %d", n.Name, len(n.Ask), maxSubnets)
	}
	var list []Subnet
	six := false
	for _, ask := range n.Ask {
		sub, err := ask.complete()
		if err != nil {
			return nil, refuse(ErrInvalid, "network %s: %v", n.Name, err)
		}
		list = append(list, sub)
		six = six || sub.Prefix.Addr().Is6()
	}
	if err := apart(n.Name, list); err != nil {
		return nil, err
	}
	var defaults []netip.Prefix
	if len(n.Ask) == 0 {
		p, err := d.defaultSubnet(n.Name)
		if err != nil {
			return nil, err
		}
		defaults = append(defaults, p)
	}
	if n.IPv6 && !six {
		p, err := d.uniqueLocal(n)
		if err != nil {
			return nil, err
		}
		defaults = append(defaults, p)
	}
	for _, p := range defaults {
		sub, err := Subnet{Prefix: p}.complete()
		if err != nil {
			return nil, refuse(ErrInvalid, "network %s: %v", n.Name, err)
		}
		list = append(list, sub)
	}
	return list, nil
}

// apart refuses subnets of one network that overlap.
func apart(name string, list []Subnet) error {
	for i, a := range list {
		for _, b := range list[:i] {
			if a.Prefix.Overlaps(b.Prefix) {
				return refuse(ErrInvalid, "network %s: its subnets %s and %s overlap; expected each address in one", name, b.Prefix, a.Prefix)
			}
		}
	}
	return nil
}

// complete returns the subnet with its gateway, or what is wrong with it.
func (sub Subnet) complete() (Subnet, error) {
	if !sub.Prefix.IsValid() {
		return sub, fmt.Errorf("a range, gateway or auxiliary address without its subnet; give --subnet too")
	}
	if err := ipam.Check(sub.Prefix); err != nil {
		return sub, err
	}
	if r := sub.Range; r != (netip.Prefix{}) {
		if !r.IsValid() || r != r.Masked() {
			return sub, fmt.Errorf("range %s has bits beyond its length; use %s", r, r.Masked())
		}
		if r.Bits() < sub.Prefix.Bits() || !sub.Prefix.Contains(r.Addr()) {
			return sub, fmt.Errorf("range %s is not inside its subnet %s", r, sub.Prefix)
		}
	}
	sub.Aux = maps.Clone(sub.Aux)
	if len(sub.Aux) > maxAux {
		return sub, fmt.Errorf("subnet %s has %d auxiliary addresses; expected at most %d", sub.Prefix, len(sub.Aux), maxAux)
	}
	seen := map[netip.Addr]string{}
	for _, name := range slices.Sorted(maps.Keys(sub.Aux)) {
		if name == "" || len(name) > maxText || !utf8.ValidString(name) {
			return sub, fmt.Errorf("auxiliary address %s has the name %.64q; expected NAME=ADDRESS", sub.Aux[name], name)
		}
		if err := sub.reserve(seen, fmt.Sprintf("auxiliary address %.64q", name), sub.Aux[name]); err != nil {
			return sub, err
		}
	}
	if sub.Gateway == (netip.Addr{}) {
		free := ipam.RangeOf(sub.Prefix, netip.Prefix{}, slices.Collect(maps.Keys(seen))...).Free(1)
		if len(free) == 0 {
			return sub, fmt.Errorf("subnet %s has no address left for its gateway; expected fewer auxiliary ones or a larger subnet", sub.Prefix)
		}
		sub.Gateway = free[0]
	} else if err := sub.reserve(seen, "gateway", sub.Gateway); err != nil {
		return sub, err
	}
	if sub.span().Size() == 0 {
		return sub, fmt.Errorf("%s has no address left for containers; expected a larger one", sub.where())
	}
	return sub, nil
}

// reserve enters an address that has a purpose among those seen, if it can have it.
func (sub Subnet) reserve(seen map[netip.Addr]string, what string, a netip.Addr) error {
	if !sub.Prefix.Contains(a) {
		return fmt.Errorf("%s %s is not in the subnet %s", what, a, sub.Prefix)
	}
	if ipam.Unusable(sub.Prefix, a) {
		return fmt.Errorf("%s %s is the network or broadcast address of %s; choose another", what, a, sub.Prefix)
	}
	if other, ok := seen[a]; ok {
		return fmt.Errorf("%s %s is %s as well; choose another", what, a, other)
	}
	seen[a] = what
	return nil
}

// span returns the addresses that are handed out.
func (sub Subnet) span() ipam.Range {
	reserved := make([]netip.Addr, 1, 1+len(sub.Aux))
	reserved[0] = sub.Gateway
	for _, a := range sub.Aux {
		reserved = append(reserved, a)
	}
	return ipam.RangeOf(sub.Prefix, sub.Range, reserved...)
}

// where names the addresses that are handed out.
func (sub Subnet) where() string {
	if sub.Range.IsValid() {
		return fmt.Sprintf("range %s of subnet %s", sub.Range, sub.Prefix)
	}
	return "subnet " + sub.Prefix.String()
}

// family returns the subnets of IPv4 or of IPv6.
func (n *Network) family(v4 bool) (list []Subnet) {
	for _, sub := range n.Subnets {
		if sub.Prefix.Addr().Is4() == v4 {
			list = append(list, sub)
		}
	}
	return list
}

// inUse returns what default subnets stay away from: the subnets of all networks, and what any node has a route to or is
// reached at. A route that has half of all addresses or more is a default route in disguise, as VPNs set them, and does not count.
func (s *State) inUse() (avoid []netip.Prefix) {
	for _, n := range s.Networks {
		for _, sub := range n.Subnets {
			avoid = append(avoid, sub.Prefix)
		}
	}
	for _, n := range s.Nodes {
		for _, r := range n.Routes {
			if r.Bits() > 1 {
				avoid = append(avoid, r)
			}
		}
		for _, a := range []netip.AddrPort{n.API, n.Gossip, n.VTEP} {
			if at := a.Addr().Unmap(); at.IsValid() {
				avoid = append(avoid, netip.PrefixFrom(at, at.BitLen()))
			}
		}
	}
	return avoid
}

// defaultSubnet returns the first subnet of the pools that overlaps nothing.
func (d *draft) defaultSubnet(name string) (netip.Prefix, error) {
	var pools []ipam.Pool
	for _, p := range d.Cluster.Pools {
		pools = append(pools, ipam.Pool(p))
	}
	avoid := d.inUse()
	if p, ok := ipam.Subnet(pools, avoid); ok {
		return p, nil
	}
	return netip.Prefix{}, refuse(ErrExhausted, "network %s: no default subnet is free: %s; give one with --subnet, or the cluster larger pools (weft init --default-addr-pool)",
		name, d.poolsTaken(pools))
}

// poolsTaken says what fills the pools, in numbers and with the widest route.
func (d *draft) poolsTaken(pools []ipam.Pool) string {
	var parts []string
	for _, pool := range pools {
		networks, routes, widest, at := 0, 0, netip.Prefix{}, (*Node)(nil)
		for _, n := range d.Networks {
			if slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Overlaps(pool.Base) }) {
				networks++
			}
		}
		for _, n := range d.Nodes {
			for _, r := range n.Routes {
				if r.Bits() <= 1 || !r.Overlaps(pool.Base) {
					continue
				}
				routes++
				if at == nil || r.Bits() < widest.Bits() || r.Bits() == widest.Bits() && bytes.Compare(n.ID[:], at.ID[:]) < 0 {
					widest, at = r, n
				}
			}
		}
		text := fmt.Sprintf("all %d subnets of size %s overlap %d networks or %d routes of nodes", pool.Count(), pool, networks, routes)
		if at != nil {
			text += fmt.Sprintf(" (the widest: %s on node %s)", widest, at.Name)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// uniqueLocal returns a default IPv6 subnet (RFC 4193), made of the cluster's ID and the network's VNI: its lower 16 bits are
// the subnet ID.
func (d *draft) uniqueLocal(n *Network) (netip.Prefix, error) {
	const tries = 16
	avoid := d.inUse()
	for try := range tries {
		p := ipam.ULA(fmt.Appendf(nil, "%s/%d/%d", d.Cluster.ID, n.VNI>>16, try), uint16(n.VNI))
		if !slices.ContainsFunc(avoid, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, refuse(ErrExhausted, "network %s: %d unique local prefixes overlap networks or routes of nodes; give one with --subnet", n.Name, tries)
}
