package static

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/frame"
)

// endpoint checks one container of this node.
func (s *segment) endpoint(n *yaml.Node, i int) {
	t, ok := s.c.table(n, fmt.Sprintf("%s: endpoints[%d]", s.name, i), append([]string{"name", "netns", "pid", "bridge", "interface",
		"addresses", "mac", "routes", "queues", "persistent"}, nameKeys...)...)
	if !ok {
		return
	}
	var e plan.Endpoint
	if e.Name, ok = s.member(&t, "endpoint"); ok {
		t.name = s.name + ": endpoint " + e.Name
	}
	who := strings.TrimPrefix(t.name, s.name+": ")
	e.Addresses = s.addresses(t, who)
	e.MAC = s.station(t, who, e.Addresses)
	if len(e.Addresses) == 0 && t.get("addresses") == nil && !s.net.AllowSpoof {
		t.fault(t.at("addresses"), "%s is missing; give the endpoint an address of the network's subnets, or say spoof: allow for the network", t.path("addresses"))
	}
	e.Queues = t.number("queues", 1, 256, 1, "one per core that the container keeps busy is enough")
	e.Persistent = t.truth("persistent")
	placed := s.place(t, &e)
	e.Interface, ok = s.iface(t, &e)
	if placed && ok {
		s.claimInterface(t, &e)
	}
	e.Routes = s.routes(t, &e)
	e.Names = t.names(s.c.cfg.Node)
	s.net.Endpoints = append(s.net.Endpoints, e)
}

// remote checks one container of another node.
func (s *segment) remote(n *yaml.Node, i int) {
	t, ok := s.c.table(n, fmt.Sprintf("%s: remotes[%d]", s.name, i), append([]string{"name", "mac", "addresses", "vtep", "node"}, nameKeys...)...)
	if !ok {
		return
	}
	var r plan.Remote
	if r.Name, ok = s.member(&t, "remote"); ok {
		t.name = s.name + ": remote " + r.Name
	}
	who := strings.TrimPrefix(t.name, s.name+": ")
	r.Addresses = s.addresses(t, who)
	r.MAC = s.station(t, who, r.Addresses)
	if n := t.need("vtep", "name the underlay address of its node"); n != nil {
		r.VTEP, _ = s.peer(t, n, "vtep")
	}
	r.Names = t.names(t.word("node"))
	s.net.Remotes = append(s.net.Remotes, r)
}

// member reads a name that no other endpoint or remote of the network has.
func (s *segment) member(t *table, kind string) (string, bool) {
	name, ok := t.ident("name", "give the "+kind+" a name")
	if ok {
		first(s.reader, s.names, name, t.at("name"), "%s: %s %s is listed twice; rename or remove one", s.name, kind, name)
	}
	return name, ok
}

// addresses reads the addresses of a member and enters it as their owner.
func (s *segment) addresses(t table, who string) (addrs []netip.Addr) {
	for _, n := range t.list("addresses", "addresses") {
		a, ok := t.address(n, "addresses")
		if !ok || !s.sound {
			continue
		}
		i := s.subnetOf(a)
		prev, owned := s.owners[a]
		switch {
		case i < 0:
			t.fault(n, "%s: %s is outside the network's subnets %s; choose an address inside", t.path("addresses"), a, join(s.net.Subnets))
		case a == s.net.Gateways[i]:
			t.fault(n, "%s: %s is the gateway of %s; choose another, or move the gateway with gateways:", t.path("addresses"), a, s.net.Subnets[i])
		case !s.isHost(a, n, "addresses"):
		case owned:
			t.fault(n, "%s: %s is owned by %s already, at line %d; choose another", t.path("addresses"), a, prev.name, prev.line)
		default:
			s.owners[a] = owner{who, n.Line}
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// station reads the MAC of a member, or derives it as Docker does: 02:42 and the first IPv4 address.
func (s *segment) station(t table, who string, addrs []netip.Addr) (mac frame.MAC) {
	at := t.get("mac")
	if at != nil {
		var ok bool
		if mac, ok = t.mac(at, "mac"); !ok {
			return 0
		}
	} else {
		for i := len(addrs) - 1; i >= 0; i-- {
			if addrs[i].Is4() {
				b := addrs[i].As4()
				mac = frame.MACFrom([]byte{0x02, 0x42, b[0], b[1], b[2], b[3]})
			}
		}
		if at = t.get("addresses"); mac == 0 {
			if !t.hasIPv4() { // an IPv4 address at fault was told already
				t.fault(t.node, "%s is missing, and there is no IPv4 address to derive it from; give one such as 02:42:00:00:00:02", t.path("mac"))
			}
			return 0
		}
	}
	if prev, owned := s.macs[mac]; owned {
		t.fault(at, "%s: %s is owned by %s already, at line %d; choose another", t.path("mac"), mac, prev.name, prev.line)
		return mac
	}
	s.macs[mac] = owner{who, at.Line}
	return mac
}

// hasIPv4 reports whether something in addresses was meant to be an IPv4 address.
func (t table) hasIPv4() bool {
	n := t.get("addresses")
	if n == nil {
		return false
	}
	if n.Kind != yaml.SequenceNode {
		return true
	}
	for _, e := range n.Content {
		if !strings.Contains(e.Value, ":") {
			return true
		}
	}
	return false
}

// place reads where the endpoint is: exactly one of netns, pid and bridge.
func (s *segment) place(t table, e *plan.Endpoint) (ok bool) {
	var given []string
	var last *yaml.Node
	for _, key := range []string{"netns", "pid", "bridge"} {
		if n := t.get(key); n != nil {
			given, last = append(given, key), n
		}
	}
	switch {
	case len(given) == 0:
		t.fault(t.node, "%s: none of netns, pid and bridge is given; say where the container is, such as netns: /run/netns/c1", t.name)
		return false
	case len(given) > 1:
		t.fault(last, "%s: %s are given; expected one of them; remove the others", t.name, strings.Join(given, " and "))
		return false
	}
	switch given[0] {
	case "netns":
		e.NetNS, ok = t.absolute(last, "netns")
	case "pid":
		e.PID = t.number("pid", 1, math.MaxInt32, 0, "name a process of the container")
		ok = e.PID > 0
	case "bridge":
		e.Bridge, ok = s.bridge(t, last)
	}
	return ok
}

func (s *segment) bridge(t table, n *yaml.Node) (*plan.Bridge, bool) {
	b, ok := s.c.table(n, t.path("bridge"), "name", "netns")
	if !ok {
		return nil, false
	}
	var br plan.Bridge
	if n := b.need("name", "name the Linux bridge, such as bridge: {name: br0}"); n != nil {
		br.Name, ok = b.device(n, "name")
	} else {
		ok = false
	}
	if n := b.get("netns"); n != nil {
		var path bool
		br.NetNS, path = b.absolute(n, "netns")
		ok = ok && path
	}
	return &br, ok
}

// device reads the name of a network interface, by the kernel's rules (net/core/dev.c, dev_valid_name).
func (t table) device(n *yaml.Node, key string) (string, bool) {
	s, ok := t.scalar(n, key, "an interface name such as eth0")
	if ok && (s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r%")) {
		t.fault(n, "%s: %q is not an interface name; expected 1 to 15 bytes without '/', ':', '%%' and spaces, such as eth0", t.path(key), s)
		ok = false
	}
	return s, ok
}

func (s *segment) iface(t table, e *plan.Endpoint) (string, bool) {
	if n := t.get("interface"); n != nil {
		return t.device(n, "interface")
	}
	if e.Bridge != nil {
		return fmt.Sprintf("weft%d", s.net.VNI), s.net.VNI != 0
	}
	return "eth0", true
}

// claimInterface enters the interface that the endpoint will have. Endpoints behind one bridge share theirs.
func (s *segment) claimInterface(t table, e *plan.Endpoint) {
	at := t.at("interface")
	space := "the agent's own namespace"
	switch {
	case e.NetNS != "":
		space = e.NetNS
	case e.PID != 0:
		space = fmt.Sprintf("the namespace of process %d", e.PID)
	case e.Bridge.NetNS != "":
		space = e.Bridge.NetNS
	}
	if e.Bridge != nil {
		if p := s.c.bridges[*e.Bridge]; p != nil {
			s.share(t, e, p)
			return
		}
		s.c.bridges[*e.Bridge] = &port{s.net.Name, t.node.Line, e.Interface, e.Queues, e.Persistent}
	}
	first(s.reader, s.c.interfaces, space+"\x00"+e.Interface, at,
		"%s: %s in %s is the interface of two endpoints; give one another interface:", t.path("interface"), e.Interface, space)
}

// share checks that a further endpoint behind a bridge wants the port that the first one has.
func (s *segment) share(t table, e *plan.Endpoint, p *port) {
	switch {
	case p.network != s.net.Name:
		t.fault(t.at("bridge"), "%s: %s is the bridge of network %s already, at line %d; one bridge on two networks would join them",
			t.path("bridge"), e.Bridge.Name, p.network, p.line)
	case p.iface != e.Interface:
		t.fault(t.at("interface"), "%s: %s, but the endpoint at line %d behind the same bridge has %s; they share one port: give both the same",
			t.path("interface"), e.Interface, p.line, p.iface)
	case p.queues != e.Queues || p.persistent != e.Persistent:
		t.fault(t.node, "%s: queues and persistent differ from the endpoint at line %d behind the same bridge; they share one port: give both the same",
			t.name, p.line)
	}
}

func (s *segment) routes(t table, e *plan.Endpoint) (routes []plan.Route) {
	nodes := t.list("routes", "routes {to: ..., via: ...}")
	if len(nodes) > 0 && t.get("bridge") != nil {
		t.fault(t.at("routes"), "%s: the containers behind a bridge are not the agent's to configure; remove the routes", t.path("routes"))
		return nil
	}
	seen := make(map[netip.Prefix]int)
	for i, n := range nodes {
		rt, ok := s.c.table(n, fmt.Sprintf("%s: routes[%d]", t.name, i), "to", "via")
		if !ok {
			continue
		}
		var r plan.Route
		var toOK, viaOK bool
		if n := rt.need("to", "name a destination, such as 0.0.0.0/0"); n != nil {
			r.To, toOK = rt.prefix(n, "to")
		}
		if n := rt.need("via", "name the next hop, such as the network's gateway"); n != nil {
			r.Via, viaOK = rt.address(n, "via")
		}
		switch {
		case !toOK || !viaOK:
		case r.To.Addr().Is4() != r.Via.Is4():
			rt.fault(rt.at("via"), "%s: %s is of another address family than the destination %s", rt.path("via"), r.Via, r.To)
		case s.sound && s.subnetOf(r.Via) < 0:
			rt.fault(rt.at("via"), "%s: %s is outside the network's subnets %s; expected a next hop on the network", rt.path("via"), r.Via, join(s.net.Subnets))
		case first(s.reader, seen, r.To, rt.at("to"), "%s: %s has two routes; remove one", t.path("routes"), r.To):
			routes = append(routes, r)
		}
	}
	return routes
}
