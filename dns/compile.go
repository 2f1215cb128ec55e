package dns

import (
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// Compile makes a zone of c, whose slices it keeps: they must not change any more. Networks, containers and services are found by their names
// in the order given; what is said twice, the first holds.
func Compile(c Config) *Zone {
	if c.Domain = strings.ToLower(strings.Trim(c.Domain, ".")); c.Domain == "" {
		c.Domain = DefaultDomain
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	z := &Zone{
		domain:     c.Domain,
		authority:  authority(c.Domain),
		ttl:        uint32(min(max(c.TTL, 0), maxTTL) / time.Second),
		networks:   make(map[string]*network, len(c.Networks)),
		containers: make(map[string]*asker, len(c.Containers)),
		claims:     make(map[string]struct{}),
		private:    make(map[string]struct{}),
	}
	z.host = single(&member{name: asHost}, asHost, c.Host)
	for _, p := range c.Foreign {
		z.subnets.add(p)
	}
	for i := range c.Networks {
		if n := &c.Networks[i]; z.networks[n.Name] == nil {
			z.networks[n.Name] = z.compile(n)
		}
	}
	for i := range c.Containers {
		z.admit(&c.Containers[i])
	}
	return z
}

// maxTTL is what RFC 2181 §8 allows.
const maxTTL = (1<<31 - 1) * time.Second

// authority returns the two names of our SOA in wire form. Nothing can be asked under a domain that has none; the root stands in for it.
func authority(domain string) (b []byte) {
	for _, name := range []string{domain, "hostmaster." + domain} {
		ok := false
		if b, ok = appendName(b, name); !ok {
			b = append(b, 0)
		}
	}
	return b
}

// public reports whether a name ends in a top-level domain of the Internet.
func public(name string) bool {
	_, icann := publicsuffix.PublicSuffix(name[strings.LastIndexByte(name, '.')+1:])
	return icann
}

// compile makes a network's tables.
func (z *Zone) compile(c *Network) *network {
	n := &network{
		name:     c.Name,
		folded:   strings.ToLower(c.Name),
		internal: c.Internal,
		names:    make(map[string]*entry, 2*len(c.Records)+2*len(c.Services)),
		reverse:  make(map[netip.Addr]*member, len(c.Records)+len(c.Services)+len(c.Gateways)),
		askers:   make(map[netip.Addr]*asker),
	}
	if n.public = public(n.folded); !n.public {
		z.claims[n.folded] = struct{}{}
	}
	n.stranger = &asker{quota: "network " + n.name, networks: []*network{n}, internal: n.internal}
	for _, p := range c.Subnets {
		z.subnets.add(p)
		n.subnets.add(p)
	}
	n.addRecords(c.Records, n.addServices(c.Services))
	n.gateway = single(&member{name: asGateway, network: n}, asGateway, c.Gateways)
	n.addReverse(n.gateway.sources[0].member)
	for name, e := range n.names {
		e.merge()
		if strings.Contains(name, ".") && !public(name) {
			z.private[name] = struct{}{}
		}
	}
	return n
}

// addServices enters services, and returns those that have VIPs by name.
func (n *network) addServices(services []Service) map[string]*member {
	vips := make(map[string]*member, len(services))
	for i := range services {
		s := &services[i]
		name := strings.ToLower(s.Name)
		if len(s.VIPs) == 0 {
			n.entry(name) // it exists, also while it has no tasks
			n.entry("tasks." + name)
			continue
		}
		if vips[name] != nil {
			continue
		}
		m := &member{name: s.Name, network: n}
		m.v4, m.v6 = split(s.VIPs)
		vips[name] = m
		n.add(name, asVIP, m)
		n.entry("tasks." + name)
		n.addReverse(m)
	}
	return vips
}

// addRecords enters containers under all their names.
func (n *network) addRecords(records []Record, vips map[string]*member) {
	members := make([]member, len(records))
	for i := range records {
		r, m := &records[i], &members[i]
		*m = member{name: r.Name, network: n, record: r, ports: r.Ports}
		m.v4, m.v6 = split(r.Addresses)
		n.add(r.Name, asName, m)
		n.add(r.Hostname, asHostname, m)
		for _, alias := range r.Aliases {
			n.add(alias, asAlias, m)
		}
		if r.Service != "" {
			if vip := vips[strings.ToLower(r.Service)]; vip != nil {
				vip.expose(r)
			} else {
				n.add(r.Service, asService, m)
			}
			n.add("tasks."+r.Service, asTask, m)
		}
		n.addReverse(m)
	}
}

// expose gives a service the ports of one of its tasks.
func (m *member) expose(r *Record) {
next:
	for _, p := range r.Ports {
		for _, q := range m.ports {
			if p == q {
				continue next
			}
		}
		m.ports = append(m.ports, p)
	}
}

func (n *network) entry(name string) *entry {
	e := n.names[name]
	if e == nil {
		e = &entry{}
		n.names[name] = e
	}
	return e
}

// add has name lead to m, unless it does already.
func (n *network) add(name, as string, m *member) {
	if name == "" {
		return
	}
	e := n.entry(strings.ToLower(name))
	// A member's names are added one after the other: if it is there already, it is the last.
	if l := len(e.sources); l > 0 && e.sources[l-1].member == m {
		return
	}
	e.sources = append(e.sources, source{m, as})
}

// addReverse enters a member's addresses. One that two have is that of the first that is not hidden.
func (n *network) addReverse(m *member) {
	for _, s := range [][]netip.Addr{m.v4, m.v6} {
		for _, a := range s {
			if o := n.reverse[a]; o == nil || o.hidden() {
				n.reverse[a] = m
			}
		}
	}
}

// single returns the entry of a member that is alone under its name.
func single(m *member, as string, addresses []netip.Addr) *entry {
	m.v4, m.v6 = split(addresses)
	return &entry{sources: []source{{m, as}}, v4: m.v4, v6: m.v6}
}

// merge gathers the addresses of an entry's members.
func (e *entry) merge() {
	if len(e.sources) == 1 { // as most
		if m := e.sources[0]; !m.hidden() {
			e.v4, e.v6 = m.v4, m.v6
		}
		return
	}
	seen := make(map[netip.Addr]struct{}, len(e.sources))
	gather := func(to, from []netip.Addr) []netip.Addr {
		for _, a := range from {
			if _, again := seen[a]; !again {
				seen[a] = struct{}{}
				to = append(to, a)
			}
		}
		return to
	}
	for _, m := range e.sources {
		if !m.hidden() {
			e.v4, e.v6 = gather(e.v4, m.v4), gather(e.v6, m.v6)
		}
	}
}

// split sorts addresses by family, without a copy where they are sorted already.
func split(addresses []netip.Addr) (v4, v6 []netip.Addr) {
	k := 0
	for k < len(addresses) && addresses[k].Is4() {
		k++
	}
	for _, a := range addresses[k:] {
		if !a.Is6() || a.Is4In6() || a.Zone() != "" {
			return partition(addresses)
		}
	}
	return addresses[:k:k], addresses[k:len(addresses):len(addresses)]
}

func partition(addresses []netip.Addr) (v4, v6 []netip.Addr) {
	for _, a := range addresses {
		switch a = a.Unmap().WithZone(""); {
		case a.Is4():
			v4 = append(v4, a)
		case a.Is6():
			v6 = append(v6, a)
		}
	}
	return v4, v6
}

// admit enters a container of this node as one who may ask: at each of its networks, with that one first.
func (z *Zone) admit(c *Container) {
	var all []*network
	for _, m := range c.Networks {
		if n := z.networks[m.Network]; n != nil {
			all = append(all, n)
		}
	}
	if z.containers[c.Name] == nil {
		z.containers[c.Name] = newAsker(c.Name, all)
	}
	for _, m := range c.Networks {
		n := z.networks[m.Network]
		if n == nil {
			continue
		}
		order := make([]*network, 1, len(all))
		order[0] = n
		for _, o := range all {
			if o != n {
				order = append(order, o)
			}
		}
		a := newAsker(c.Name, order)
		for _, addr := range m.Addresses {
			if addr = addr.Unmap().WithZone(""); n.askers[addr] == nil {
				n.askers[addr] = a
			}
		}
	}
}

func newAsker(container string, networks []*network) *asker {
	a := &asker{container: container, quota: "container " + container, networks: networks, internal: len(networks) > 0}
	for _, n := range networks {
		a.internal = a.internal && n.internal
	}
	return a
}
