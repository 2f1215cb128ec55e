// Package datagram takes containers' UDP datagrams and echo requests out of the overlay by host sockets, without a TCP/IP stack
// in between.
package datagram

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// Out is where answers go: a network's router.
type Out interface {
	packet.Sender
	Gateway(v6 bool) (netip.Addr, bool)
	MTU() int
}

// Admit decides whether containers may send to dst, and where that really is.
type Admit func(proto uint8, dst netip.AddrPort) (to netip.AddrPort, ok bool)

// Limit bounds the flows of each container. Its methods are called with every flow that begins and ends, on any thread.
type Limit interface {
	Take(network string, container netip.Addr) bool
	Give(network string, container netip.Addr)
}

// Config describes a Table. The zero value is a sound one.
type Config struct {
	Limit   Limit            // nil: Flows for each container
	Flows   int              // 0: 16,384
	Sockets int              // in all; 0: half of what RLIMIT_NOFILE allows, at most 65,536
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger
}

// Table is the way out for the datagrams of all networks of a node.
type Table struct{}

// New returns a table without flows. Its thread starts with the first of them.
func New(c Config) (*Table, error) { return &Table{}, nil }

// Close ends all flows and waits. It is idempotent.
func (t *Table) Close() error { return nil }

// PingAllowed returns why echo requests cannot be taken out, and the remedy; nil if they can.
func (t *Table) PingAllowed() error { return nil }

// Network is the way out of one network.
type Network struct {
	Drops drop.Counters // answers that were not handed on
}

// Network returns the way out of a network: answers go to out, and admit decides where containers may send. Out may be nil until Bind.
func (t *Table) Network(name string, out Out, admit Admit) *Network { return &Network{} }

// Bind has answers go to out from now on.
func (n *Network) Bind(out Out) {}

// Datagram sends a container's UDP datagram, superframe of datagrams or echo request to where it belongs.
func (n *Network) Datagram(f *frame.Frame) drop.Reason { return drop.None }

// Readmit ends the flows that admit refuses by now: it is called after what admit goes by has changed.
func (n *Network) Readmit() {}

// Forget ends all flows of a container.
func (n *Network) Forget(container netip.Addr) {}

// Close ends all flows of the network. It is idempotent.
func (n *Network) Close() {}

// Flow is what one container sends from one port, or with one echo id, to one remote.
type Flow struct {
	Network            string
	Proto              uint8          // frame.ProtoUDP, ProtoICMP or ProtoICMPv6
	Container          netip.AddrPort // with its source port or echo id
	Remote             netip.AddrPort // as the container knows it; port 0 for echo requests
	TxPackets, TxBytes uint64         // from the container
	RxPackets, RxBytes uint64         // to it
	Age, Idle, Timeout time.Duration
}

// Flows lists the flows that there are now.
func (t *Table) Flows() []Flow { return nil }
