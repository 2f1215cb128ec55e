package gateway

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/dns"
)

// zone says what names a plan has.
func zone(p *plan.Config, ttl time.Duration, host []netip.Addr) dns.Config {
	c := dns.Config{TTL: ttl, Host: host, Foreign: p.Foreign}
	members := make(map[string][]member)
	for i := range p.Networks {
		n := &p.Networks[i]
		net := dns.Network{Name: n.Name, Internal: reach(n) == plan.EgressNone, Subnets: n.Subnets, Gateways: n.Gateways}
		for _, e := range n.Endpoints {
			if e.Muted {
				continue
			}
			net.Records = append(net.Records, dns.Record{Name: e.Name, Names: e.Names, Addresses: e.Addresses})
			members[e.Name] = append(members[e.Name], member{e.Interface, dns.Membership{Network: n.Name, Addresses: e.Addresses}})
		}
		for _, r := range n.Remotes {
			net.Records = append(net.Records, dns.Record{Name: r.Name, Names: r.Names, Addresses: r.Addresses, Hidden: r.Hidden})
		}
		c.Networks = append(c.Networks, net)
	}
	for name, all := range members {
		slices.SortStableFunc(all, func(a, b member) int {
			return cmp.Or(cmp.Compare(len(a.device), len(b.device)), cmp.Compare(a.device, b.device))
		})
		container := dns.Container{Name: name}
		for _, m := range all {
			container.Networks = append(container.Networks, m.Membership)
		}
		c.Containers = append(c.Containers, container)
	}
	slices.SortFunc(c.Containers, func(a, b dns.Container) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

// member is a container's place on a network, by the name of its interface: eth0 is the first that it was attached to.
type member struct {
	device string
	dns.Membership
}
