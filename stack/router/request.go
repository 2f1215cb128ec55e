package router

import (
	"context"
	"net"
	"net/netip"
	"runtime/pprof"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/packet"
)

// How many connections may be opening: each has a goroutine.
const (
	maxOpening     = 8192
	maxOpeningFrom = 1024 // from one container
)

// requests are the connections that containers ask for and that are not open yet. A SYN that comes again joins the request that there is.
type requests struct {
	once sync.Once // of the router's Close

	mu     sync.Mutex
	open   map[stack.TransportEndpointID]*Request
	from   map[netip.Addr]int
	closed bool
}

// Request is a connection that a container asks for. It is answered once; later answers do nothing.
type Request struct {
	Src, Dst netip.AddrPort

	router *Router
	id     stack.TransportEndpointID
	quote  []byte // the container's SYN, from its IP header on
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	pending *tcp.ForwarderRequest // nil before serve, and when it was answered
}

// unclaimedTCP takes a segment that is of no connection. Netstack calls it on the goroutine of the inbox. False has netstack answer with a reset.
func (r *Router) unclaimedTCP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	dst := addrOf(id.LocalAddress)
	if r.own(dst) {
		return false
	}
	flags := header.TCP(pkt.TransportHeader().Slice()).Flags()
	switch {
	case flags.Contains(header.TCPFlagRst):
		r.requests.abandon(id)
		return true
	case !flags.Contains(header.TCPFlagSyn) || flags.Contains(header.TCPFlagAck):
		return false
	}
	q := r.requests.begin(r, id)
	if q == nil {
		return true
	}
	q.quote = quote(nil, pkt)
	if !r.forwarder.HandlePacket(id, pkt) { // starts serve
		r.requests.remove(q)
		q.cancel()
		r.tasks.Done()
		return false
	}
	return true
}

// begin makes a request, and enters it. It returns nil if there is one for the same connection, or no room.
func (t *requests) begin(r *Router, id stack.TransportEndpointID) *Request {
	src := addrOf(id.RemoteAddress)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.open[id] != nil {
		return nil
	}
	if len(t.open) >= maxOpening || t.from[src] >= maxOpeningFrom {
		r.ignored.Add(1)
		r.drops.Add(drop.FlowLimit, 1)
		return nil
	}
	q := &Request{
		Src:    netip.AddrPortFrom(src, id.RemotePort),
		Dst:    netip.AddrPortFrom(addrOf(id.LocalAddress), id.LocalPort),
		router: r, id: id,
	}
	q.ctx, q.cancel = context.WithCancel(r.ctx)
	t.open[id] = q
	t.from[src]++
	r.tasks.Add(1)
	return q
}

// close ends the entering of requests.
func (t *requests) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

func (t *requests) remove(q *Request) {
	src := q.Src.Addr()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[q.id] != q {
		return
	}
	delete(t.open, q.id)
	if t.from[src]--; t.from[src] == 0 {
		delete(t.from, src)
	}
}

func (t *requests) find(id stack.TransportEndpointID) *Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[id]
}

func (t *requests) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// abandon tells whoever works on a request that the container has given up.
func (t *requests) abandon(id stack.TransportEndpointID) {
	if q := t.find(id); q != nil {
		q.cancel()
	}
}

// serve is the goroutine of a request.
func (r *Router) serve(pending *tcp.ForwarderRequest) {
	defer r.tasks.Done()
	pprof.SetGoroutineLabels(r.labels)
	q := r.requests.find(pending.ID())
	defer q.cancel()
	defer r.requests.remove(q)
	defer r.catch()
	q.mu.Lock()
	q.pending = pending
	q.mu.Unlock()
	defer q.Ignore()
	r.c.Forward.TCP(q.ctx, q)
}

// take returns what is there to be answered, to the first who asks.
func (q *Request) take() *tcp.ForwarderRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.pending
	q.pending = nil
	return p
}

// Accept completes the handshake. When ctx ends first, or the container gives up, it returns an error.
func (q *Request) Accept(ctx context.Context) (c *Conn, err error) {
	defer q.router.catchError(&err)
	p := q.take()
	if p == nil {
		return nil, q.fail(net.ErrClosed)
	}
	defer q.router.requests.remove(q)
	defer p.Complete(false)
	if err := context.Cause(ctx); err != nil {
		return nil, q.fail(err)
	}
	shaken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { q.abort(shaken) })
	defer stop()
	wq := new(waiter.Queue)
	ep, failed := p.CreateEndpoint(wq)
	close(shaken)
	if failed != nil {
		if err := context.Cause(ctx); err != nil {
			return nil, q.fail(err)
		}
		return nil, q.fail(errno(failed))
	}
	q.router.accepted.Add(1)
	return newConn(q.router, ep, wq, q.Dst, q.Src), nil
}

// fail wraps why a request did not become a connection.
func (q *Request) fail(err error) error {
	return &net.OpError{Op: "accept", Net: "tcp", Source: net.TCPAddrFromAddrPort(q.Dst), Addr: net.TCPAddrFromAddrPort(q.Src), Err: err}
}

// abort ends a handshake under way. Its endpoint may be about to be made.
func (q *Request) abort(shaken <-chan struct{}) {
	defer q.router.catch()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		if ep := q.router.stack.FindTransportEndpoint(network(q.Dst.Addr()), header.TCPProtocolNumber, q.id, nic); ep != nil {
			ep.Abort()
		}
		select {
		case <-shaken:
			return
		case <-again.C:
		}
	}
}

// Refuse answers with a reset.
func (q *Request) Refuse() { q.complete(true) }

// Unreachable answers with an ICMP or ICMPv6 destination unreachable from the gateway, which quotes the container's SYN: its kernel
// ignores one whose sequence number it has not sent.
func (q *Request) Unreachable(code packet.Code) {
	defer q.router.catch()
	if p := q.take(); p != nil {
		// First, so that a SYN which the container sends upon the message is not taken for the old one come again.
		p.Complete(false)
		q.router.requests.remove(q)
		q.router.unreachableQuote(q.Src.Addr(), code, q.quote)
	}
}

// Ignore does not answer: the container tries again.
func (q *Request) Ignore() { q.complete(false) }

func (q *Request) complete(reset bool) {
	defer q.router.catch()
	if p := q.take(); p != nil {
		p.Complete(reset)
		q.router.requests.remove(q)
	}
}
