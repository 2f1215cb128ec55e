package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// ErrInUse says that the pair of addresses and ports is taken, by a connection that is open or was closed seconds ago. Another source port is free.
var ErrInUse = errors.New("the pair of addresses and ports is in use; another source port may be free")

// Ports that are chosen where the caller names none (RFC 6335 §6), and how many are tried.
const (
	firstPort = 49152
	portTries = 32
)

// dials are the connections whose SYN is under way, so that one that no container can get is told at once.
type dials struct{ open sync.Map } // of stack.TransportEndpointID to chan struct{}

// DialTCP connects to a container of this node. from may be any address of to's family; the zero AddrPort, or address, stands for the gateway's, and port 0 for
// any that is free. It returns an error that is ErrInUse when the pair is taken.
func (r *Router) DialTCP(ctx context.Context, from, to netip.AddrPort) (*Conn, error) {
	if !from.Addr().IsValid() {
		g, ok := r.Gateway(to.Addr().Is6())
		if !ok {
			return nil, fmt.Errorf("router: network %s has no gateway of %s's family to connect from", r.c.Network, to)
		}
		from = netip.AddrPortFrom(g, from.Port())
	}
	if from.Addr().Is4() != to.Addr().Is4() || !to.Addr().IsValid() {
		return nil, fmt.Errorf("router: connect from %s to %s: expected two addresses of one family", from, to)
	}
	if from.Port() != 0 {
		return r.dial(ctx, from, to)
	}
	for try := 1; ; try++ {
		c, err := r.dial(ctx, netip.AddrPortFrom(from.Addr(), uint16(firstPort+rand.IntN(1<<16-firstPort))), to)
		if !errors.Is(err, ErrInUse) || try == portTries {
			return c, err
		}
	}
}

// dial connects from a port.
func (r *Router) dial(ctx context.Context, from, to netip.AddrPort) (c *Conn, err error) {
	defer func() {
		if err != nil {
			c, err = nil, &net.OpError{Op: "dial", Net: "tcp", Source: net.TCPAddrFromAddrPort(from), Addr: net.TCPAddrFromAddrPort(to), Err: sysError("connect", err)}
		}
	}()
	defer r.catchError(&err)
	if err := r.ended(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	wq := new(waiter.Queue)
	ep, failed := r.stack.NewEndpoint(tcp.ProtocolNumber, network(to.Addr()), wq)
	if failed != nil {
		return nil, errno(failed)
	}
	if err := r.connect(ctx, ep, wq, from, to); err != nil {
		ep.Close()
		return nil, err
	}
	r.dialed.Add(1)
	return newConn(r, ep, wq, from, to), nil
}

// connect binds ep, and waits for the handshake.
func (r *Router) connect(ctx context.Context, ep tcpip.Endpoint, wq *waiter.Queue, from, to netip.AddrPort) error {
	// Ports are reserved as pairs with their destinations, so that one source may have many connections.
	ep.SocketOptions().SetReuseAddress(true)
	ep.SocketOptions().SetReusePort(true)
	if failed := ep.Bind(full(from)); failed != nil {
		return errno(failed)
	}
	id := stack.TransportEndpointID{LocalAddress: address(from.Addr()), LocalPort: from.Port(), RemoteAddress: address(to.Addr()), RemotePort: to.Port()}
	lost := make(chan struct{}, 1)
	if _, taken := r.dials.open.LoadOrStore(id, lost); taken {
		return ErrInUse
	}
	defer r.dials.open.Delete(id)
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	failed := ep.Connect(full(to))
	if _, ok := failed.(*tcpip.ErrConnectStarted); ok {
		select {
		case <-ready:
			failed = ep.LastError()
		case <-lost:
			return syscall.EHOSTUNREACH
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.done:
			return r.ended()
		}
	}
	if failed != nil {
		return errno(failed)
	}
	if s := tcp.EndpointState(ep.State()); s == tcp.StateError || s == tcp.StateClose {
		return syscall.ECONNABORTED
	}
	return nil
}

// unreached tells whoever dials that there is no container that could get the SYN.
func (r *Router) unreached(pkt *stack.PacketBuffer) {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	if h.Flags() != header.TCPFlagSyn {
		return
	}
	src, dst := addresses(pkt)
	id := stack.TransportEndpointID{LocalAddress: src, LocalPort: h.SourcePort(), RemoteAddress: dst, RemotePort: h.DestinationPort()}
	if lost, ok := r.dials.open.Load(id); ok {
		select {
		case lost.(chan struct{}) <- struct{}{}:
		default:
		}
	}
}
