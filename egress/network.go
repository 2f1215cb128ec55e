package egress

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/weftnet/weft/egress/datagram"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
)

// Why flows end before their ends do.
var (
	errContainer = errors.New("egress: the container is gone")
	errForbidden = errors.New("egress: the network's policy forbids it by now")
	errBroken    = errors.New("egress: one side is gone, and the other does not read")
)

// Network is the way out of one network: its router's router.Forward. Its methods may be called from any goroutine.
type Network struct {
	name      string
	e         *Egress
	policy    atomic.Pointer[Policy]
	datagrams *datagram.Network
	counters  counters

	mu     sync.Mutex
	flows  map[*flow]struct{}
	closed bool
	done   sync.WaitGroup // of flows
}

var _ router.Forward = (*Network)(nil)

// Network returns the way out for a network that has none yet. It carries datagrams from Bind on.
func (e *Egress) Network(name string, p *Policy) *Network {
	n := &Network{name: name, e: e, flows: make(map[*flow]struct{})}
	n.policy.Store(p)
	n.datagrams = e.datagrams.Network(name, nil, n.admit)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.networks[n] = struct{}{}
	n.closed = e.closed
	return n
}

// Bind gives the network its router, or another one after a fault.
func (n *Network) Bind(r *router.Router) { n.datagrams.Bind(r) }

// SetPolicy has p decide from now on, also about what is open: flows that it forbids end.
func (n *Network) SetPolicy(p *Policy) {
	n.policy.Store(p)
	n.cut(errForbidden, func(f *flow) bool { return p.Admit(frame.ProtoTCP, f.dst) != Allowed })
	n.datagrams.Readmit()
}

// Forget ends all flows of a container's address, which is gone.
func (n *Network) Forget(container netip.Addr) {
	n.cut(errContainer, func(f *flow) bool { return f.src.Addr() == container })
	n.datagrams.Forget(container)
}

// Close ends all flows of the network and waits for them. It is idempotent.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cut(ErrClosed, func(*flow) bool { return true })
	n.datagrams.Close()
	n.e.mu.Lock()
	delete(n.e.networks, n) // before the wait: a connection that hangs in a router that has failed does not keep others from closing
	n.e.mu.Unlock()
	n.done.Wait()
}

// cut ends the connections that match.
func (n *Network) cut(why error, match func(*flow) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for f := range n.flows {
		if match(f) {
			f.cancel(why)
		}
	}
}

// look ends connections that have broken unnoticed, and returns how many there are.
func (n *Network) look() int {
	n.mu.Lock()
	all := make([]*flow, 0, len(n.flows))
	for f := range n.flows {
		all = append(all, f)
	}
	n.mu.Unlock()
	for _, f := range all {
		if f.broken() {
			f.cancel(errBroken)
		}
	}
	return len(all)
}

// connections appends what is listed of the connections.
func (n *Network) connections(to []Flow) []Flow {
	n.mu.Lock()
	all := make([]*flow, 0, len(n.flows))
	for f := range n.flows {
		all = append(all, f)
	}
	n.mu.Unlock()
	for _, f := range all {
		to = append(to, f.list(n.name))
	}
	return to
}

// admit is the policy for datagrams, on threads of the data path.
func (n *Network) admit(proto uint8, dst netip.AddrPort) (netip.AddrPort, bool) {
	v := n.policy.Load().Admit(proto, dst)
	if v != Allowed {
		n.counters.refused[v].Add(1)
	}
	return dst, v == Allowed
}

// Datagram takes a datagram or an echo request out (router.Forward).
func (n *Network) Datagram(f *frame.Frame) drop.Reason { return n.datagrams.Datagram(f) }

// TCP takes a connection out (router.Forward). It returns when the container was answered.
func (n *Network) TCP(ctx context.Context, q *router.Request) {
	n.serve(ctx, request{q}, q.Src, q.Dst)
}
