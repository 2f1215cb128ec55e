package mux

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/weftnet/weft/cluster/identity"
)

// How many accepted connections there are at a time. The nodes of a large cluster behind one address come back all at once.
const (
	maxStrangers = 1024 // that did not say yet who they are, or join
	perSource    = 64   // of them
	perNode      = 128  // of one member
)

// Source returns what counts as one host: an IPv4 address, or the /64 of an IPv6 address, all of which its host may use.
func Source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address is a source, too
	}
	return p
}

// remote returns the address at the other end.
func remote(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}

// room counts accepted connections: of strangers by source, of members by node.
type room struct {
	strangers int
	sources   map[netip.Prefix]int
	nodes     map[identity.NodeID]int
}

func newRoom() room {
	return room{sources: make(map[netip.Prefix]int), nodes: make(map[identity.NodeID]int)}
}

// stranger counts one more of a source, if there is room.
func (r *room) stranger(source netip.Prefix) error {
	switch {
	case r.strangers >= maxStrangers:
		return fmt.Errorf("mux: %d connections of strangers, as many as there may be", r.strangers)
	case r.sources[source] >= perSource:
		return fmt.Errorf("mux: %d connections of strangers from %s, as many as there may be", r.sources[source], source)
	}
	r.strangers++
	r.sources[source]++
	return nil
}

// member counts a stranger as a node's, if there is room.
func (r *room) member(source netip.Prefix, id identity.NodeID) error {
	if r.nodes[id] >= perNode {
		return fmt.Errorf("mux: %d connections of node %s, as many as there may be", r.nodes[id], id)
	}
	r.leave(source, identity.NodeID{})
	r.nodes[id]++
	return nil
}

// leave counts one less, of a node, or if it is zero of a stranger.
func (r *room) leave(source netip.Prefix, id identity.NodeID) {
	if !id.IsZero() {
		less(r.nodes, id)
		return
	}
	r.strangers--
	less(r.sources, source)
}

// less counts one less, and forgets who has none.
func less[K comparable](counts map[K]int, k K) {
	if counts[k]--; counts[k] == 0 {
		delete(counts, k)
	}
}
