// Package router is what stands at the gateway's address of one network.
package router

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Link is where a router sends: a bridge.Network.
type Link interface {
	// Send delivers an IP packet to the container of this node that has the address to; see bridge.Network.Send.
	Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason
}

// Forward takes what containers send beyond their network.
type Forward interface {
	// TCP is called on a goroutine of its own for each connection that a container asks for. It must end in exactly one of the
	// request's Accept, Refuse, Unreachable and Ignore; one that it leaves open is ignored. ctx ends with the router.
	TCP(ctx context.Context, q *Request)
	// Datagram takes a parsed frame: a UDP datagram, a USO superframe, or an ICMP or ICMPv6 echo request, whole, for elsewhere, with a
	// TTL or hop limit above 1. It is called on a thread of the data path: it must not block, and must not keep f.
	Datagram(f *frame.Frame) drop.Reason
}

// Config describes a router.
type Config struct {
	Network  string // its name, in errors and in goroutine labels
	Subnets  []netip.Prefix
	Gateways []netip.Addr // Gateways[i] is that of Subnets[i]
	MTU      int
	Link     Link
	Forward  Forward
	Log      *slog.Logger
	// Fault is called once, on a goroutine of its own, when a panic was caught. The router is dead from then on: its owner makes another.
	Fault func(network string, cause any, stack []byte)
}

// ErrInUse says that the pair of addresses and ports is taken, by a connection that is open or was closed seconds ago. Another source port is free.
var ErrInUse = errors.New("the address pair is in use")

// Router is the router of one network. All its methods may be called from any goroutine.
type Router struct{ c Config }

// New returns a router that is up.
func New(c Config) (*Router, error) { return &Router{c: c}, nil }

// Receive takes a frame that a container sent to the gateway's MAC (bridge.Router).
func (r *Router) Receive(from *bridge.Port, f *frame.Frame) drop.Reason { return drop.RouterBusy }

// Close ends all connections, listeners and requests, and waits for everything that the router runs.
func (r *Router) Close() error { return nil }

// ListenTCP listens at a gateway's address.
func (r *Router) ListenTCP(at netip.AddrPort) (net.Listener, error) { return nil, net.ErrClosed }

// ListenUDP listens at a gateway's address.
func (r *Router) ListenUDP(at netip.AddrPort) (net.PacketConn, error) { return nil, net.ErrClosed }

// DialTCP connects to a container of this node. from may be any address of to's family; the zero AddrPort, or address, stands for the gateway's, and port 0 for
// any that is free. It returns an error that is ErrInUse when the pair is taken.
func (r *Router) DialTCP(ctx context.Context, from, to netip.AddrPort) (*Conn, error) {
	return nil, net.ErrClosed
}

// Send delivers a packet that package packet wrote to a container.
func (r *Router) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	return r.c.Link.Send(to, o, parts)
}

// Network returns the network's name.
func (r *Router) Network() string { return r.c.Network }

// MTU returns the network's MTU.
func (r *Router) MTU() int { return r.c.MTU }

// Gateway returns the network's first gateway address of a family.
func (r *Router) Gateway(v6 bool) (netip.Addr, bool) { return netip.Addr{}, false }

// Stats says what a router has done.
type Stats struct {
	Drops map[string]uint64 // what was refused on its own account, by reason; what Receive returns is counted at the port
	TCP   TCPStats
}

// TCPStats are of the connections that the router is an end of.
type TCPStats struct {
	Opening     uint64 // requests that nobody has answered yet
	Established uint64 // open now
	Accepted    uint64
	Dialled     uint64
	Failed      uint64
	Resets      uint64 // sent
	Retransmits uint64
	Timeouts    uint64
}

// Stats returns what the router has done so far.
func (r *Router) Stats() Stats { return Stats{} }
