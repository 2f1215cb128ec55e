package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections wait for Accept. Netstack answers with SYN cookies before it is full.
const backlog = 1024

// ListenTCP listens at a gateway's address. Accept returns a *Conn.
func (r *Router) ListenTCP(at netip.AddrPort) (_ net.Listener, err error) {
	defer r.catchError(&err)
	ep, wq, err := r.bind(tcp.ProtocolNumber, at)
	if err != nil {
		return nil, err
	}
	if failed := ep.Listen(backlog); failed != nil {
		ep.Close()
		return nil, fmt.Errorf("router: network %s: listen at %s: %w", r.c.Network, at, errno(failed))
	}
	l := &listener{router: r, ep: ep, at: at}
	l.side.listen(wq, toRead)
	return l, nil
}

// bind makes an endpoint at one of the gateway's addresses.
func (r *Router) bind(proto tcpip.TransportProtocolNumber, at netip.AddrPort) (tcpip.Endpoint, *waiter.Queue, error) {
	if err := r.ended(); err != nil {
		return nil, nil, err
	}
	if !r.own(at.Addr()) {
		return nil, nil, fmt.Errorf("router: network %s: cannot listen at %s; expected an address of the gateway: %v", r.c.Network, at, r.c.Gateways)
	}
	wq := new(waiter.Queue)
	ep, failed := r.stack.NewEndpoint(proto, network(at.Addr()), wq)
	if failed == nil {
		if failed = ep.Bind(full(at)); failed == nil {
			return ep, wq, nil
		}
		ep.Close()
	}
	return nil, nil, fmt.Errorf("router: network %s: listen at %s: %w", r.c.Network, at, errno(failed))
}

// listener is a net.Listener.
type listener struct {
	router *Router
	ep     tcpip.Endpoint
	at     netip.AddrPort
	side   side
	once   sync.Once
	closed bool // under side.timing
}

func (l *listener) Accept() (net.Conn, error) {
	l.side.mu.Lock()
	defer l.side.mu.Unlock()
	for {
		c, err := l.accept()
		if c != nil {
			return c, nil
		}
		if err != nil {
			l.side.poke() // whoever waits behind this one
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: err}
		}
		select {
		case <-l.side.wake:
		case <-l.router.done:
		}
	}
}

// accept returns a connection if there is one.
func (l *listener) accept() (_ *Conn, err error) {
	defer l.router.catchError(&err)
	if err := l.router.ended(); err != nil {
		return nil, err
	}
	l.side.timing.Lock()
	over := l.closed
	l.side.timing.Unlock()
	if over {
		return nil, net.ErrClosed
	}
	var peer tcpip.FullAddress
	ep, wq, failed := l.ep.Accept(&peer)
	switch failed.(type) {
	case nil:
		return newConn(l.router, ep, wq, l.at, netip.AddrPortFrom(addrOf(peer.Addr), peer.Port)), nil
	case *tcpip.ErrWouldBlock:
		return nil, nil
	}
	return nil, errno(failed)
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// Close resets what waits to be accepted.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		l.side.timing.Lock()
		l.closed = true
		l.side.timing.Unlock()
		l.side.poke()
		if l.router.state.Load() != dead {
			defer l.router.catchError(&err)
			l.ep.Close()
		}
	})
	return err
}

// ListenUDP listens at a gateway's address.
func (r *Router) ListenUDP(at netip.AddrPort) (_ net.PacketConn, err error) {
	defer r.catchError(&err)
	ep, wq, err := r.bind(udp.ProtocolNumber, at)
	if err != nil {
		return nil, err
	}
	c := &packetConn{UDPConn: gonet.NewUDPConn(wq, ep), router: r, over: make(chan struct{})}
	c.stop = context.AfterFunc(r.ctx, func() { _ = c.UDPConn.SetDeadline(longAgo) }) // wakes whoever waits
	return c, nil
}

// packetConn is netstack's own, guarded.
type packetConn struct {
	*gonet.UDPConn
	router *Router
	once   sync.Once
	over   chan struct{}
	stop   func() bool
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// fail returns why the connection ended, if it has, and err if not.
func (c *packetConn) fail(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-c.over:
		return net.ErrClosed
	default:
	}
	if e := c.router.ended(); e != nil {
		return e
	}
	return err
}

func (c *packetConn) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	defer c.router.catchError(&err)
	n, from, err = c.UDPConn.ReadFrom(b)
	return n, from, c.fail(err)
}

func (c *packetConn) WriteTo(b []byte, to net.Addr) (n int, err error) {
	defer c.router.catchError(&err)
	if _, ok := to.(*net.UDPAddr); !ok {
		return 0, errors.New("router: expected a *net.UDPAddr to write to")
	}
	n, err = c.UDPConn.WriteTo(b, to)
	return n, c.fail(err)
}

func (c *packetConn) Close() (err error) {
	c.once.Do(func() {
		close(c.over)
		c.stop()
		_ = c.UDPConn.SetDeadline(longAgo)
		if c.router.state.Load() != dead {
			defer c.router.catchError(&err)
			err = c.UDPConn.Close()
		}
	})
	return err
}
