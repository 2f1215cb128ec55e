// Package plan holds what one node shall have: its networks, the containers on it, and those elsewhere. Whoever decides that, a file
// (agent/static) or the cluster (package agent), writes a plan; the node compiles it into the tables that the data path reads.
//
//	Config ─┬─ Underlay                 where this node's tunnel ends
//	        └─ Networks ─┬─ Subnets, Gateways, MTU
//	                     ├─ Endpoints   containers of this node: namespace, interface, MAC, addresses
//	                     ├─ Remotes     containers of other nodes: MAC, addresses, VTEP
//	                     └─ VTEPs       kernel VTEPs and others that nobody describes further
package plan

import (
	"net/netip"

	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// Config is a node's plan.
type Config struct {
	Node     string
	Underlay Underlay
	Threads  int // forwarding threads; 0 = by cores
	Networks []Network
	Foreign  []netip.Prefix // subnets of the cluster's networks, also of those that this node takes no part in: no way out leads there
}

// Underlay is where this node's tunnel ends.
type Underlay struct {
	Address  netip.Addr
	Port     uint16
	Checksum vxlan.Checksum
}

// Network is one layer-2 segment.
type Network struct {
	Name       string
	VNI        vxlan.VNI
	Subnets    []netip.Prefix
	Gateways   []netip.Addr // Gateways[i] is that of Subnets[i]
	MTU        int          // 0 = computed from the underlay
	AllowSpoof bool         // containers may send from MACs and addresses that are not theirs
	Egress     Egress       // what containers reach outside of it
	Endpoints  []Endpoint
	Remotes    []Remote
	VTEPs      []netip.Addr
}

// Prefix returns addr with the length of its subnet in n, the form in which an interface gets it. It is the zero Prefix
// for an address outside.
func (n *Network) Prefix(addr netip.Addr) netip.Prefix {
	for _, s := range n.Subnets {
		if s.Contains(addr) {
			return netip.PrefixFrom(addr, s.Bits())
		}
	}
	return netip.Prefix{}
}

// Egress says what the containers of a network reach outside of it.
type Egress string

// The kinds of egress. The subnets of other networks and the agent's own sockets are reached with none of them.
const (
	EgressInternet Egress = "internet" // all that the host reaches, and the host itself, but no link-local addresses; the default
	EgressFull     Egress = "full"     // link-local addresses too, such as a cloud's metadata service
	EgressNone     Egress = "none"     // nothing; that of an internal network
)

// Endpoint is a container of this node. Exactly one of NetNS, PID and Bridge is set. Endpoints behind the same bridge are
// on one network and share one port; what concerns the port (Interface, Queues, Persistent) is the same in all of them.
type Endpoint struct {
	Name       string
	NetNS      string // path of its network namespace
	PID        int    // a process in its network namespace
	Bridge     *Bridge
	Interface  string
	Addresses  []netip.Addr
	MAC        frame.MAC
	Routes     []Route
	Queues     int
	Persistent bool
	Names      dns.Names
	Muted      bool // its interface is kept as it is, but it owns nothing: what it sends is dropped, and it gets nothing
}

// Bridge is a Linux bridge that already holds the containers.
type Bridge struct {
	Name  string
	NetNS string // path of the bridge's network namespace; empty: the agent's own
}

// Route is a route that the container gets.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr
	Metric int // as the kernel's; 0 is its default
}

// Remote is a container of another node.
type Remote struct {
	Name      string
	MAC       frame.MAC
	Addresses []netip.Addr
	VTEP      netip.Addr
	Names     dns.Names
	Hidden    bool // its node does not answer: it keeps its address, and no name leads to it
}
