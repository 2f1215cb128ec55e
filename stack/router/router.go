// Package router is what stands at the gateway's address of one overlay network: gVisor's netstack as one more port of the bridge, made
// into a router as RFC 1812 and RFC 8504 want one, except that it forwards nothing by itself. Whatever a container sends beyond its
// network ends here, and is handed to a Forward.
//
//	bridge ── Router.Receive ─┬─ tagged, malformed, martian, TTL ≤ 1 ............ drop, and ICMP where the sender may be told
//	 ▲                        ├─ a fragment ............. fragments ─ whole? ──► as below
//	 │                        ├─ another container ...... as a router: TTL less one ─► Link
//	 │                        ├─ gateway ─┬─ echo ....... answered
//	 │                        │           └─ TCP, UDP ... netstack ─► ListenTCP, ListenUDP
//	 │                        └─ elsewhere ┬─ UDP, echo ─ Forward.Datagram
//	 │                                     ├─ TCP ....... netstack ─┬─ of a Conn
//	 │                                     │                        ├─ SYN ─► Request ─► Forward.TCP: Accept, Refuse, Unreachable, Ignore
//	 │                                     │                        └─ else: reset
//	 │                                     └─ other ..... prohibited
//	 └── Link.Send ◄─ link.WritePackets ◄─ netstack: superframes, checksums owed
//
// The handshake of a connection for elsewhere waits until Accept: refused stays refused, and unreachable stays unreachable.
//
// Netstack is foreign code that parses what containers send. A panic in anything that we call into it with, and in its timers, is
// caught: the router is then dead, and its owner, told by Config.Fault, makes another; other networks do not notice. Only netstack's own
// goroutines, the TCP processors, cannot be caught. They carry a pprof label network=NAME, which a crash's traceback shows under
// GODEBUG=tracebacklabels=1.
package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/router/fragment"
)

// Link is where a router sends: a bridge.Network.
type Link interface {
	// Send delivers an IP packet to the container of this node that has the address to; see bridge.Network.Send.
	Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason
}

// Forward takes what containers send beyond their network.
type Forward interface {
	// TCP is called on a goroutine of its own for each connection that a container asks for. It must end in exactly one of the
	// request's Accept, Refuse, Unreachable and Ignore; one that it leaves open is ignored. ctx ends with the router, and when the
	// container gives up.
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

func (c *Config) check() error {
	if len(c.Subnets) == 0 || len(c.Subnets) != len(c.Gateways) {
		return fmt.Errorf("router: network %s has %d subnets and %d gateways; expected one gateway in each of at least one subnet", c.Network, len(c.Subnets), len(c.Gateways))
	}
	for i, s := range c.Subnets {
		if !s.Contains(c.Gateways[i]) {
			return fmt.Errorf("router: network %s: gateway %s is not in its subnet %s", c.Network, c.Gateways[i], s)
		}
	}
	if c.MTU < 576 || c.MTU > 65535 {
		return fmt.Errorf("router: network %s has an MTU of %d; expected 576 to 65535", c.Network, c.MTU)
	}
	if c.Link == nil || c.Forward == nil {
		return fmt.Errorf("router: network %s needs a Link and a Forward", c.Network)
	}
	return nil
}

// Router is the router of one network. All its methods may be called from any goroutine.
type Router struct {
	c         Config
	stack     *stack.Stack
	link      *link
	forwarder *tcp.Forwarder
	requests  requests
	dials     dials
	lingering lingering
	fragments *fragment.Table
	limit     *packet.Limiter
	scratch   sync.Pool // of *scratch

	state  atomic.Uint32 // up, closed or dead
	done   chan struct{} // closed when the state leaves up
	ctx    context.Context
	cancel context.CancelFunc
	labels context.Context // for goroutines that run in netstack
	tasks  sync.WaitGroup  // goroutines of requests
	torn   chan struct{}   // closed when netstack has ended

	drops                     drop.Counters
	accepted, dialed, ignored atomic.Uint64
}

// The states of a router.
const (
	up = iota
	closed
	dead
)

// New returns a router that is up.
func New(c Config) (*Router, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	r := &Router{c: c, done: make(chan struct{}), torn: make(chan struct{}), limit: packet.NewLimiter(nil)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.labels = pprof.WithLabels(context.Background(), pprof.Labels("network", c.Network))
	r.scratch.New = func() any { return new(scratch) }
	r.requests.open = make(map[stack.TransportEndpointID]*Request)
	r.requests.from = make(map[netip.Addr]int)
	r.lingering.of, r.lingering.open = make(map[netip.Addr]*list.List), make(map[netip.Addr]int)
	r.fragments = fragment.New()
	box, err := newInbox()
	if err != nil {
		return nil, err
	}
	r.link = &link{router: r, mtu: uint32(c.MTU), inbox: box}
	pprof.Do(context.Background(), pprof.Labels("network", c.Network), func(context.Context) {
		r.stack, err = newStack(r)
	})
	if err != nil {
		box.close()
		return nil, err
	}
	r.forwarder = tcp.NewForwarder(r.stack, 0, maxOpening+1, r.serve)
	r.tasks.Go(r.take)
	return r, nil
}

// take gives netstack what the data path has left for it.
func (r *Router) take() {
	pprof.SetGoroutineLabels(r.labels)
	if err := r.link.inbox.run(r.link.receive); err != nil {
		r.fail(err)
	}
}

// patience bounds the wait for a stack that a panic has left in an unknown state.
const patience = 2 * time.Second

// Close ends all connections, listeners and requests, and waits for everything that the router runs. Of a router that is dead it
// returns an error if something hangs on what the panic left behind.
func (r *Router) Close() error {
	if r.state.CompareAndSwap(up, closed) {
		close(r.done)
		r.cancel()
	}
	r.requests.once.Do(func() { go r.tear() })
	if r.state.Load() == closed {
		<-r.torn
		return nil
	}
	select {
	case <-r.torn:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("router: network %s: its failed stack has not ended within %s; what hangs in it stays until the agent restarts", r.c.Network, patience)
	}
}

// tear ends netstack. Endpoints may still be made while it goes, by handshakes that were under way, so they are aborted until none is
// left.
func (r *Router) tear() {
	defer close(r.torn)
	r.link.inbox.close()
	r.fragments.Close()
	r.requests.close()
	r.guarded(r.stack.Close)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.tasks.Wait()
		r.guarded(r.stack.Wait)
	}()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-ended:
			return
		case <-again.C:
			r.guarded(func() {
				for _, e := range r.stack.RegisteredEndpoints() {
					e.Abort()
				}
			})
		}
	}
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
func (r *Router) Gateway(v6 bool) (netip.Addr, bool) {
	for _, g := range r.c.Gateways {
		if g.Is6() == v6 {
			return g, true
		}
	}
	return netip.Addr{}, false
}

// own reports whether a is an address of the gateway.
func (r *Router) own(a netip.Addr) bool {
	for _, g := range r.c.Gateways {
		if g == a {
			return true
		}
	}
	return false
}

// Stats says what a router has done.
type Stats struct {
	Drops     map[string]uint64 // what was refused on its own account, by reason; what Receive returns is counted at the port
	Fragments fragment.Stats
	TCP       TCPStats
}

// TCPStats are of the connections that the router is an end of.
type TCPStats struct {
	Opening     uint64 // requests that nobody has answered yet
	Established uint64 // open now
	Lingering   uint64 // closed here, but not yet by the container, or closed seconds ago
	Accepted    uint64
	Dialed      uint64
	Ignored     uint64 // requests beyond what a container, or all, may have open
	Failed      uint64 // handshakes that did not end
	Resets      uint64 // sent
	Retransmits uint64
	Timeouts    uint64 // connections given up
}

// Stats returns what the router has done so far.
func (r *Router) Stats() Stats {
	t := r.stack.Stats().TCP
	return Stats{
		Drops:     r.drops.Snapshot(),
		Fragments: r.fragments.Stats(),
		TCP: TCPStats{
			Opening: uint64(r.requests.count()), Established: t.CurrentEstablished.Value(), Lingering: uint64(r.lingering.count()),
			Accepted: r.accepted.Load(), Dialed: r.dialed.Load(), Ignored: r.ignored.Load(),
			Failed: t.FailedConnectionAttempts.Value(), Resets: t.ResetsSent.Value(),
			Retransmits: t.Retransmits.Value(), Timeouts: t.EstablishedTimedout.Value(),
		},
	}
}

// errDead is what everything returns after a panic.
var errDead = errors.New("the network's router has failed, and is being made anew")
