package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/relay"
	"github.com/weftnet/weft/stack/router"
)

// asker is a container's request for a connection: a router.Request.
type asker interface {
	accept(ctx context.Context) (side, error)
	Refuse()
	Unreachable(code packet.Code)
	Ignore()
}

// side is the container's end of a connection: a router.Conn.
type side interface {
	relay.Conn
	Info() router.Info
}

// request is a router.Request as an asker.
type request struct{ *router.Request }

func (q request) accept(ctx context.Context) (side, error) {
	c, err := q.Accept(ctx)
	if err != nil {
		return nil, err // and not a side that holds a nil *router.Conn
	}
	return c, nil
}

// flow is a connection of a container's.
type flow struct {
	src, dst netip.AddrPort
	since    time.Time
	ctx      context.Context
	cancel   context.CancelCauseFunc
	counters relay.Counters
	ends     atomic.Pointer[ends] // nil while it is dialed
}

// ends are the two connections of a flow.
type ends struct {
	container side
	remote    *net.TCPConn
}

// serve answers a request. ctx ends when nobody waits for an answer any more.
func (n *Network) serve(ctx context.Context, q asker, src, dst netip.AddrPort) {
	p := n.policy.Load()
	if n.forbids(p, q, dst) {
		return
	}
	if !n.take(src.Addr()) {
		// A refusal would be the remote's word. The container tries again, later each time, and gets through when others have ended.
		n.counters.limited.Add(1)
		q.Ignore()
		return
	}
	f := &flow{src: src, dst: dst, since: time.Now()}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	if !n.enter(f) {
		n.give(src.Addr())
		q.Ignore()
		return
	}
	stop := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
	defer stop()
	// A policy that was set since has cut what was entered by then, and decides about this here.
	if now := n.policy.Load(); now != p && n.forbids(now, q, dst) {
		n.leave(f)
		return
	}
	remote := n.reach(f.ctx, q, dst)
	if remote == nil {
		n.leave(f)
		return
	}
	container, err := q.accept(f.ctx)
	if err != nil { // it gave up meanwhile, or is gone
		n.counters.abandoned.Add(1)
		_ = relay.Host(remote).Reset()
		n.leave(f)
		return
	}
	f.ends.Store(&ends{container, remote})
	n.e.awake()
	// On a stack of its own: what dialing took of this one, an idle connection would hold as long as it lives.
	go n.carry(f)
}

// carry relays a connection to its end.
func (n *Network) carry(f *flow) {
	e := f.ends.Load()
	err := relay.Run(f.ctx, e.container, relay.Host(e.remote), &f.counters)
	n.finish(f, err)
}

// finish counts a connection that has ended.
func (n *Network) finish(f *flow, err error) {
	switch {
	case err == nil:
		n.counters.completed.Add(1)
	case f.ctx.Err() != nil:
		n.counters.cut.Add(1)
	default:
		n.counters.broken.Add(1)
	}
	n.leave(f)
}

// forbids answers what a policy refuses. Linux gives a program EHOSTUNREACH over IPv4 and EACCES over IPv6, at once, as for a firewall
// that rejects (icmp_err_convert in net/ipv4/icmp.c, tab_unreach in net/ipv6/icmp.c).
func (n *Network) forbids(p *Policy, q asker, dst netip.AddrPort) bool {
	v := p.Admit(frame.ProtoTCP, dst)
	if v == Allowed {
		return false
	}
	n.counters.refused[v].Add(1)
	q.Unreachable(packet.Prohibited)
	return true
}

// take counts a connection of a container's, unless it has as many flows as it may, or there are no sockets left for it.
func (n *Network) take(container netip.Addr) bool {
	if !n.e.limit.Take(n.name, container) {
		return false
	}
	if !n.e.sockets.Take(n.name, container) {
		n.e.limit.Give(n.name, container)
		return false
	}
	return true
}

// give counts one that has ended.
func (n *Network) give(container netip.Addr) {
	n.e.sockets.Give(n.name, container)
	n.e.limit.Give(n.name, container)
}

func (n *Network) enter(f *flow) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.done.Add(1)
	n.flows[f] = struct{}{}
	n.counters.opened.Add(1)
	return true
}

// leave ends what enter began.
func (n *Network) leave(f *flow) {
	f.cancel(nil)
	n.give(f.src.Addr())
	n.mu.Lock()
	delete(n.flows, f)
	n.mu.Unlock()
	n.counters.up.Add(f.counters.Up.Load())
	n.counters.down.Add(f.counters.Down.Load())
	n.done.Done()
}

// reach dials the remote, or answers the container why that fails.
func (n *Network) reach(ctx context.Context, q asker, dst netip.AddrPort) *net.TCPConn {
	within, done := context.WithTimeout(ctx, n.e.timeout)
	defer done()
	remote, err := n.e.dial(within, dst)
	if err == nil {
		return remote
	}
	if ctx.Err() != nil { // nobody waits for an answer
		q.Ignore()
		return nil
	}
	o := outcomeOf(err, dst)
	n.counters.failed[o].Add(1)
	switch o {
	case refused:
		q.Refuse()
	case noSocket:
		q.Ignore()
	default:
		q.Unreachable(codes[o])
	}
	return nil
}

// Keepalive of the hosts' sockets: it is what finds a remote that is gone, and it keeps the entry of a NAT in between, whose lifetimes
// are of minutes in practice (RFC 5382 §5 asks for two hours).
var keepalive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}

// dial opens a connection to an address: there is no name to resolve, and no second address to try. Not net.Dialer.DialTCP: that binds
// the socket first, and a port would then serve one connection in all rather than one to each remote.
func dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAliveConfig: keepalive, FallbackDelay: -1}
	network := "tcp6"
	if to.Addr().Is4() {
		network = "tcp4"
	}
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("egress: dial %s: %T, expected a TCP socket of the kernel's", to, c)
	}
	return t, nil
}

// outcome is why a dial failed.
type outcome uint8

const (
	refused outcome = iota
	noRoute
	noHost
	noAnswer
	prohibited
	noProtocol
	noSocket // of ours: descriptors, ports or memory

	outcomes int = iota
)

var outcomeWords = [outcomes]string{"refused", "no-route", "no-host", "no-answer", "prohibited", "no-protocol", "no-socket"}

var codes = [outcomes]packet.Code{
	noRoute: packet.NetUnreachable, noHost: packet.HostUnreachable, noAnswer: packet.HostUnreachable,
	prohibited: packet.Prohibited, noProtocol: packet.ProtocolUnreachable,
}

// outcomeOf tells what a dial's error means.
func outcomeOf(err error, to netip.AddrPort) outcome {
	var errno unix.Errno
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &errno) {
		return noAnswer
	}
	switch errno {
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE:
		return refused
	case unix.ENETUNREACH, unix.ENETDOWN, unix.EAFNOSUPPORT, unix.EINVAL: // EINVAL: a link-local address, which says nothing of the link
		return noRoute
	case unix.EHOSTUNREACH, unix.EHOSTDOWN, unix.ENONET:
		return noHost
	case unix.ETIMEDOUT:
		return noAnswer
	case unix.EACCES, unix.EPERM:
		return prohibited
	case unix.ENOPROTOOPT, unix.EPROTO, unix.EOPNOTSUPP:
		return noProtocol
	case unix.EADDRNOTAVAIL:
		if !sourced(to) {
			return noRoute
		}
	}
	return noSocket
}

// sourced reports whether this host has an address from which to send to a remote. A connect fails with EADDRNOTAVAIL where it has not (IPv6 is
// configured, but not on the way there), and where all ports to that remote are in use. Connecting a UDP socket tells them apart: it sends
// nothing, and its ports are others.
func sourced(to netip.AddrPort) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return !errors.Is(err, unix.EADDRNOTAVAIL)
	}
	_ = c.Close()
	return true
}

// broken reports whether one side is gone.
func (f *flow) broken() bool {
	e := f.ends.Load()
	if e == nil {
		return false
	}
	if e.container.Info().State == "ERROR" { // netstack's word for a connection that was reset or has timed out
		return true
	}
	i, err := relay.Inspect(e.remote)
	return err == nil && i.Broken
}

// list is what is told of a flow.
func (f *flow) list(network string) Flow {
	l := Flow{Network: network, Protocol: frame.ProtoTCP, Container: f.src, Remote: f.dst, State: "dialing", Age: time.Since(f.since)}
	e := f.ends.Load()
	if e == nil {
		l.Idle = l.Age
		return l
	}
	l.Up, l.Down = f.counters.Bytes()
	if a, ok := e.remote.LocalAddr().(*net.TCPAddr); ok {
		l.Local = a.AddrPort()
	}
	in := e.container.Info()
	l.ContainerRTT, l.State = in.RTT, "closing"
	if out, err := relay.Inspect(e.remote); err == nil {
		l.RTT, l.Idle = out.RTT, out.Idle
		if in.State == out.State && in.State == "ESTABLISHED" {
			l.State = "established"
		}
	}
	return l
}
