// Package bridge is the software switch of a node's overlay networks: ports, a static forwarding table, ARP and ND answers from that
// table, flooding, and the ownership of addresses.
//
//	port ─ read ─► Lane.forward ─┬─ not the port's own MAC or address ......... drop
//	                             ├─ ARP or ND for a known address ............. answer to the port
//	                             ├─ group, or unknown ......................... ports, and tunnels that have the network
//	                             ├─ local ......... Lane.toPort ─ coalesce ──► port
//	                             └─ remote ........ Lane.toPeer ─ cut, batch ► vxlan.Sender
//
//	vxlan.Receiver ─► Lane.Receive ─ is the inner source the peer's? ─► ports only, never another tunnel
//
// A Lane is what one thread has in hand. Networks share lanes and nothing else: the same subnet, and even the same MAC, may exist in two.
package bridge

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// Endpoint is one container's interface: who may send from these addresses, and where frames for them go.
type Endpoint struct {
	Name      string
	MAC       frame.MAC
	Addresses []netip.Addr
	Port      *Port       // where it is attached here, or nil
	Peer      *vxlan.Peer // the node that has it, if not here
}

// Gateway is the router's address on the network: the same on every node, and never sent through a tunnel.
type Gateway struct {
	MAC    frame.MAC
	V4, V6 netip.Addr // zero where the network has none of that family
}

// Config is what a Table is compiled from. Endpoints must not share a MAC or an address; the caller has checked that.
type Config struct {
	MTU       int  // largest inner IP packet that may enter a tunnel, in bytes
	Spoof     bool // containers may send from any address
	Gateway   Gateway
	Router    Router // takes what is for the gateway; nil: the network has none
	Ports     []*Port
	Endpoints []Endpoint
	Statics   []*vxlan.Peer // peers that may also speak for MACs that nobody owns, and that get what is for unknown ones
}

// Table is an immutable snapshot of where everything is in one network.
type Table struct {
	mtu       int
	spoof     bool
	gateway   Gateway
	router    Router
	ports     []*Port
	peers     map[*vxlan.Peer]bool // true for static ones
	flood     []*vxlan.Peer        // all peers, in a fixed order
	statics   []*vxlan.Peer
	stations  map[frame.MAC]*station
	neighbors map[netip.Addr]*station
	names     []Endpoint
}

// station is an Endpoint in the form that the data path compares.
type station struct {
	mac  frame.MAC
	port *Port
	peer *vxlan.Peer
	v4   []uint32
	v6   [][2]uint64
}

// Compile makes the table for a configuration.
func Compile(c Config) *Table {
	t := &Table{
		mtu: c.MTU, spoof: c.Spoof, gateway: c.Gateway, router: c.Router, ports: slices.Clone(c.Ports), statics: slices.Clone(c.Statics),
		peers:     make(map[*vxlan.Peer]bool),
		stations:  make(map[frame.MAC]*station, len(c.Endpoints)),
		neighbors: make(map[netip.Addr]*station, 2*len(c.Endpoints)),
		names:     slices.Clone(c.Endpoints),
	}
	for _, e := range c.Endpoints {
		s := &station{mac: e.MAC, port: e.Port, peer: e.Peer}
		for _, a := range append([]netip.Addr{linkLocal(e.MAC)}, e.Addresses...) {
			s.own(a)
			t.neighbors[a] = s
		}
		t.stations[e.MAC] = s
		if e.Peer != nil {
			t.peers[e.Peer] = false
		}
	}
	for _, p := range c.Statics {
		t.peers[p] = true
	}
	for p := range t.peers {
		t.flood = append(t.flood, p)
	}
	slices.SortFunc(t.flood, func(a, b *vxlan.Peer) int { return a.Addr.Compare(b.Addr) })
	g := &station{mac: c.Gateway.MAC}
	for _, a := range []netip.Addr{c.Gateway.V4, c.Gateway.V6} {
		if a.IsValid() {
			t.neighbors[a] = g
		}
	}
	return t
}

// Endpoints returns what the table was compiled from, by MAC.
func (t *Table) Endpoints() []Endpoint {
	return slices.SortedFunc(slices.Values(t.names), func(a, b Endpoint) int { return cmp.Compare(a.MAC, b.MAC) })
}

// Peers returns all peers of the network, by address.
func (t *Table) Peers() []*vxlan.Peer { return t.flood }

// Static reports whether p is a static peer.
func (t *Table) Static(p *vxlan.Peer) bool { return t.peers[p] }

// MTU returns the network's MTU in bytes.
func (t *Table) MTU() int { return t.mtu }

func (s *station) own(a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		s.v4 = append(s.v4, binary.BigEndian.Uint32(b[:]))
		return
	}
	b := a.As16()
	s.v6 = append(s.v6, [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])})
}

func (s *station) owns4(b []byte) bool { return slices.Contains(s.v4, binary.BigEndian.Uint32(b)) }

func (s *station) owns6(b []byte) bool {
	return slices.Contains(s.v6, [2]uint64{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])})
}

// linkLocal returns the address that an interface with this MAC gives itself (RFC 4291 appendix A, modified EUI-64).
func linkLocal(m frame.MAC) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe}
	a[8], a[9], a[10] = byte(m>>40)^2, byte(m>>32), byte(m>>24)
	a[13], a[14], a[15] = byte(m>>16), byte(m>>8), byte(m)
	return netip.AddrFrom16(a)
}
