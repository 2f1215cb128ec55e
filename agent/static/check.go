package static

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// checker builds the Config and remembers, for what must be unique in the whole file, the line where it was first seen.
type checker struct {
	*reader
	cfg        plan.Config
	networks   map[string]int
	vnis       map[vxlan.VNI]int
	interfaces map[string]int // by namespace and name
	bridges    map[plan.Bridge]*port
}

// port is what endpoints behind one bridge share.
type port struct {
	network    string
	line       int
	iface      string
	queues     int
	persistent bool
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// checksums are the words of the file for the tunnel's ways to send checksums.
var checksums = []string{vxlan.ChecksumAuto: "auto", vxlan.ChecksumOn: "on", vxlan.ChecksumOff: "off"}

func (c *checker) config(root *yaml.Node) {
	c.networks, c.vnis = make(map[string]int), make(map[vxlan.VNI]int)
	c.interfaces, c.bridges = make(map[string]int), make(map[plan.Bridge]*port)
	t, ok := c.table(root, "file", "node", "underlay", "threads", "networks")
	if !ok {
		return
	}
	c.cfg.Node, _ = t.ident("node", "give this node a name, such as node: a")
	c.cfg.Threads = t.number("threads", 0, 1024, 0, "0 chooses by the number of cores")
	if n := t.need("underlay", "give this node's tunnel an address, such as underlay: {address: 192.0.2.1}"); n != nil {
		c.underlay(n)
	}
	for i, n := range t.list("networks", "networks") {
		c.network(n, i)
	}
	for _, net := range c.cfg.Networks {
		for _, p := range net.Subnets {
			if !slices.Contains(c.cfg.Foreign, p) { // networks may have the same ones
				c.cfg.Foreign = append(c.cfg.Foreign, p)
			}
		}
	}
}

func (c *checker) underlay(n *yaml.Node) {
	t, ok := c.table(n, "underlay", "address", "port", "udp-checksum")
	if !ok {
		return
	}
	u := &c.cfg.Underlay
	if n := t.need("address", "name an address of this host that the other nodes reach"); n != nil {
		u.Address, _ = t.address(n, "address")
	}
	u.Port = uint16(t.number("port", 1, 65535, vxlan.Port, "4789 is VXLAN's own"))
	u.Checksum = vxlan.Checksum(t.choice("udp-checksum", checksums))
}

// ident reads the name at key.
func (t table) ident(key, remedy string) (string, bool) {
	n := t.need(key, remedy)
	if n == nil {
		return "", false
	}
	s, ok := t.scalar(n, key, "a name")
	if ok && !nameForm.MatchString(s) {
		t.fault(n, "%s: %q is not a name; expected up to 63 letters, digits, '_', '.' and '-', the first a letter or digit", t.path(key), s)
		ok = false
	}
	return s, ok
}

// first reports whether what is at at is the first of its kind, and otherwise where that is.
func first[K comparable](c *reader, seen map[K]int, k K, at *yaml.Node, format string, args ...any) bool {
	if line, dup := seen[k]; dup {
		c.fault(at, "%s, first at line %d", fmt.Sprintf(format, args...), line)
		return false
	}
	seen[k] = at.Line
	return true
}

// segment checks one network.
type segment struct {
	table
	c      *checker
	net    plan.Network
	sound  bool // the subnets and gateways were read without fault, so that addresses may be held against them
	names  map[string]int
	macs   map[frame.MAC]owner
	owners map[netip.Addr]owner
}

// owner says who has a MAC or address, for the message to the second one.
type owner struct {
	name string
	line int
}

func (c *checker) network(n *yaml.Node, i int) {
	t, ok := c.table(n, fmt.Sprintf("networks[%d]", i),
		"name", "vni", "subnets", "gateways", "mtu", "spoof", "egress", "internal", "endpoints", "remotes", "vteps")
	if !ok {
		return
	}
	s := &segment{table: t, c: c, names: make(map[string]int), macs: make(map[frame.MAC]owner), owners: make(map[netip.Addr]owner)}
	if s.net.Name, ok = t.ident("name", "give the network a name"); ok {
		first(c.reader, c.networks, s.net.Name, t.at("name"), "network %s is listed twice; rename or merge one of them", s.net.Name)
		s.name = "network " + s.net.Name
	}
	if t.need("vni", "choose a number from 1 to 16777215 that all nodes use for this network") != nil {
		s.net.VNI = vxlan.VNI(s.number("vni", 1, int(vxlan.MaxVNI), 0, "a VXLAN network identifier has 24 bits"))
		if s.net.VNI != 0 {
			first(c.reader, c.vnis, s.net.VNI, t.at("vni"), "%s: VNI %d is used twice; each network needs its own", s.name, s.net.VNI)
		}
	}
	s.subnets()
	s.gateways()
	s.mtu()
	s.egress()
	s.net.AllowSpoof = s.choice("spoof", []string{"deny", "allow"}) == 1
	for i, n := range s.list("endpoints", "endpoints") {
		s.endpoint(n, i)
	}
	for i, n := range s.list("remotes", "remotes") {
		s.remote(n, i)
	}
	s.vteps()
	c.cfg.Networks = append(c.cfg.Networks, s.net)
}

func (s *segment) subnets() {
	before := len(s.faults)
	if s.need("subnets", "give the network its subnets, such as subnets: [10.77.0.0/24]") == nil {
		return
	}
	nodes := s.list("subnets", "subnets")
	if len(nodes) == 0 && len(s.faults) == before {
		s.fault(s.at("subnets"), "%s: subnets: the list is empty; expected at least one, such as 10.77.0.0/24", s.name)
	}
	for _, n := range nodes {
		p, ok := s.prefix(n, "subnets")
		if !ok {
			continue
		}
		a := p.Addr()
		switch {
		case a.IsMulticast() || a.IsLoopback() || p.Bits() == 0:
			s.fault(n, "%s: subnets: %s is no subnet for hosts; choose one such as 10.77.0.0/24", s.name, p)
		case a.BitLen()-p.Bits() < 2:
			s.fault(n, "%s: subnets: %s has no room; expected a gateway and at least one endpoint to fit; use a /%d or larger", s.name, p, a.BitLen()-2)
		case s.overlaps(p, n):
		default:
			s.net.Subnets = append(s.net.Subnets, p)
			s.net.Gateways = append(s.net.Gateways, netip.Addr{})
		}
	}
	s.sound = len(s.faults) == before
}

func (s *segment) overlaps(p netip.Prefix, n *yaml.Node) bool {
	for _, q := range s.net.Subnets {
		if p.Overlaps(q) {
			s.fault(n, "%s: subnets: %s overlaps %s of the same network; remove one, or make them disjoint", s.name, p, q)
			return true
		}
	}
	return false
}

func (s *segment) gateways() {
	before := len(s.faults)
	for _, n := range s.list("gateways", "addresses") {
		a, ok := s.address(n, "gateways")
		if !ok || !s.sound {
			continue
		}
		i := s.subnetOf(a)
		switch {
		case i < 0:
			s.fault(n, "%s: gateways: %s is outside the subnets %s; choose an address inside", s.name, a, join(s.net.Subnets))
		case s.net.Gateways[i].IsValid():
			s.fault(n, "%s: gateways: %s is the second one in %s; expected one per subnet; remove one", s.name, a, s.net.Subnets[i])
		case !s.isHost(a, n, "gateways"):
		default:
			s.net.Gateways[i] = a
		}
	}
	for i, p := range s.net.Subnets {
		if !s.net.Gateways[i].IsValid() {
			s.net.Gateways[i] = p.Addr().Next()
		}
	}
	s.sound = s.sound && len(s.faults) == before
}

func (s *segment) mtu() {
	least, why := 576, "IPv4 needs that"
	for _, p := range s.net.Subnets {
		if p.Addr().Is6() {
			least, why = 1280, "IPv6 needs that"
		}
	}
	s.net.MTU = s.number("mtu", least, 65535, 0, fmt.Sprintf("%s; leave mtu out to have it computed from the underlay", why))
}

func (s *segment) subnetOf(a netip.Addr) int {
	for i, p := range s.net.Subnets {
		if p.Contains(a) {
			return i
		}
	}
	return -1
}

// isHost refuses the first and last address of an IPv4 subnet, and the first of an IPv6 one (RFC 4291 §2.6.1).
func (s *segment) isHost(a netip.Addr, n *yaml.Node, key string) bool {
	p := s.net.Subnets[s.subnetOf(a)]
	if a == p.Addr() || a.Is4() && !p.Contains(a.Next()) {
		s.fault(n, "%s: %s: %s stands for the whole subnet %s, not for one host; choose an address between its first and last", s.name, key, a, p)
		return false
	}
	return true
}

// peer reads the address of another node's tunnel.
func (s *segment) peer(t table, n *yaml.Node, key string) (netip.Addr, bool) {
	a, ok := t.address(n, key)
	own := s.c.cfg.Underlay.Address
	switch {
	case !ok:
	case own.IsValid() && a == own:
		t.fault(n, "%s: %s is this node's own address (underlay: address); expected that of another node", t.path(key), a)
	case own.IsValid() && a.Is4() != own.Is4():
		t.fault(n, "%s: %s is of another address family than the underlay's %s; expected one that is reached from there", t.path(key), a, own)
	default:
		return a, true
	}
	return a, false
}

func (s *segment) vteps() {
	seen := make(map[netip.Addr]int)
	for _, n := range s.list("vteps", "addresses") {
		a, ok := s.peer(s.table, n, "vteps")
		if ok && first(s.reader, seen, a, n, "%s: vteps: %s is listed twice; remove one", s.name, a) {
			s.net.VTEPs = append(s.net.VTEPs, a)
		}
	}
}

func join[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return strings.Join(words, ", ")
}

// absolute reads a path at key.
func (t table) absolute(n *yaml.Node, key string) (string, bool) {
	s, ok := t.scalar(n, key, "a path such as /run/netns/c1")
	if ok && !filepath.IsAbs(s) {
		t.fault(n, "%s: %q is not an absolute path; expected one such as /run/netns/c1", t.path(key), s)
		ok = false
	}
	return filepath.Clean(s), ok
}
