package mux

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/weftnet/weft/cluster/identity"
)

// Conn is a connection whose other end is known.
type Conn struct {
	*tls.Conn
	mux      *Mux
	accepted bool         // by this node; dialed otherwise
	source   netip.Prefix // of one that was accepted
	alpn     string
	peer     identity.NodeID
	lingers  atomic.Bool
}

// Peer returns the node at the other end; zero is who joins and shows no certificate.
func (c *Conn) Peer() identity.NodeID { return c.peer }

// Linger keeps Drop from closing the connection: a node that asked to be removed shall still read that it was.
func (c *Conn) Linger() { c.lingers.Store(true) }

// Close ends the connection with TLS's farewell.
func (c *Conn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// Abort ends the connection at once.
func (c *Conn) Abort() {
	c.forget()
	c.NetConn().Close()
}

func (c *Conn) forget() {
	c.mux.mu.Lock()
	defer c.mux.mu.Unlock()
	if _, open := c.mux.conns[c]; open && c.accepted {
		c.mux.room.leave(c.source, c.peer)
	}
	delete(c.mux.conns, c)
}

// Listener takes the connections of one protocol. It is a net.Listener; what it accepts are *Conn.
type Listener struct {
	mux   *Mux
	alpn  string
	conns chan *Conn
	done  chan struct{}
	once  sync.Once
}

// Listen takes over the connections of a protocol from who listened for it before.
func (m *Mux) Listen(alpn string) *Listener {
	l := &Listener{mux: m, alpn: alpn, conns: make(chan *Conn), done: make(chan struct{})}
	m.mu.Lock()
	before, closed := m.listeners[alpn], m.closed
	m.listeners[alpn] = l
	m.mu.Unlock()
	if before != nil {
		before.Close()
	}
	if closed {
		l.Close()
	}
	return l
}

// Accept returns the next connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; the connections that it returned stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.mux.mu.Lock()
	defer l.mux.mu.Unlock()
	if l.mux.listeners[l.alpn] == l {
		delete(l.mux.listeners, l.alpn)
	}
	return nil
}

// Addr returns the shared port's address.
func (l *Listener) Addr() net.Addr { return l.mux.lis.Addr() }
