// Package mux puts several protocols on one TCP port: connections are TLS 1.3 (RFC 8446) and say by ALPN (RFC 7301) what they
// are for. It remembers every connection, those that this node makes as well, by the node at its other end, so that those of
// a node that is no longer welcome can be closed at once.
//
//	accept ─► handshake ─► room for its node ─► admit ─► Listener(alpn).Accept
//	   │          │                │              │              │
//	  full     no TLS,            full          denied     nobody listens
//	   └──────────┴────────────────┴──────────────┴──────────────┴──► closed, counted
//
// Who has not said yet who it is, and who joins, is counted by where it comes from, a member by its node: nobody takes all
// the room there is.
package mux

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

const handshakeTimeout = 10 * time.Second

// Config is what a Mux needs to know.
type Config struct {
	TLS   func() *tls.Config                            // of the server's side; asked for every connection
	Admit func(alpn string, peer identity.NodeID) error // why a node may not connect for this; zero is who shows no certificate
	Log   *slog.Logger
}

// Mux shares one port. Its methods may be called from any goroutine.
type Mux struct {
	cfg     Config
	lis     net.Listener
	refused [reasons]atomic.Uint64

	mu        sync.Mutex
	room      room
	conns     map[*Conn]struct{}
	listeners map[string]*Listener
	closed    bool
	pending   sync.WaitGroup
}

// New returns a Mux of what lis accepts. It accepts while Run runs.
func New(lis net.Listener, cfg Config) *Mux {
	return &Mux{
		cfg:       cfg,
		lis:       lis,
		room:      newRoom(),
		conns:     make(map[*Conn]struct{}),
		listeners: make(map[string]*Listener),
	}
}

// Run accepts connections until ctx ends or the listener fails, then closes everything and waits.
func (m *Mux) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { m.Close() })
	defer m.pending.Wait()
	defer m.Close()
	defer stop()
	for {
		raw, err := m.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Out of file descriptors, or a connection that ended before it was taken: neither is the listener's end.
			m.cfg.Log.Debug("accept", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		m.take(raw)
	}
}

// take serves one accepted connection in a goroutine of its own.
func (m *Mux) take(raw net.Conn) {
	c := &Conn{Conn: tls.Server(raw, m.cfg.TLS()), mux: m, accepted: true, source: Source(remote(raw))}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		raw.Close()
		return
	}
	if err := m.room.stranger(c.source); err != nil {
		m.refuse(raw, Full, err)
		return
	}
	m.conns[c] = struct{}{} // so that Close ends the handshake too
	m.pending.Go(func() {
		reason, err := m.greet(c)
		if err == nil {
			reason, err = m.deliver(c)
		}
		if err != nil {
			m.refuse(c, reason, err)
		}
	})
}

// greet does the handshake and finds out who is there.
func (m *Mux) greet(c *Conn) (Reason, error) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return Handshake, err
	}
	return m.admit(c)
}

// admit sets what is known of a connection after its handshake, and asks whether it may stay. It asks after the connection
// is remembered with its node: who is removed before that is denied here, and later Drop finds the connection.
func (m *Mux) admit(c *Conn) (Reason, error) {
	cs := c.ConnectionState()
	var peer identity.NodeID
	if cs.NegotiatedProtocol != identity.JoinALPN {
		var err error
		if peer, err = identity.PeerID(cs); err != nil {
			return Handshake, err
		}
	}
	if err := m.recognize(c, cs.NegotiatedProtocol, peer); err != nil {
		return Full, err
	}
	if err := m.cfg.Admit(c.alpn, peer); err != nil {
		return Denied, err
	}
	return 0, nil
}

// recognize sets what is known of a connection, and counts it by its node from now on.
func (m *Mux) recognize(c *Conn, alpn string, peer identity.NodeID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, open := m.conns[c]; open && c.accepted && !peer.IsZero() {
		if err := m.room.member(c.source, peer); err != nil {
			return err
		}
	}
	c.alpn, c.peer = alpn, peer
	return nil
}

// deliver hands a connection to who listens for its protocol.
func (m *Mux) deliver(c *Conn) (Reason, error) {
	m.mu.Lock()
	l := m.listeners[c.alpn]
	m.mu.Unlock()
	if l == nil {
		return Nobody, fmt.Errorf("nobody listens for %q", c.alpn)
	}
	select {
	case l.conns <- c:
		return 0, nil
	case <-l.done:
		return Nobody, fmt.Errorf("nobody listens for %q any more", c.alpn)
	}
}

func (m *Mux) refuse(c net.Conn, why Reason, err error) {
	m.refused[why].Add(1)
	m.cfg.Log.Debug("connection refused", "from", c.RemoteAddr(), "reason", why, "error", err)
	c.Close()
}

// Dial connects to a node, and remembers the connection as if it had been accepted.
func (m *Mux) Dial(ctx context.Context, addr string, cfg *tls.Config) (*Conn, error) {
	raw, err := (&net.Dialer{Timeout: handshakeTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: tls.Client(raw, cfg), mux: m}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		raw.Close()
		return nil, fmt.Errorf("mux: dial %s: %w", addr, net.ErrClosed)
	}
	m.conns[c] = struct{}{}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if c.ConnectionState().NegotiatedProtocol == identity.JoinALPN {
		return c, nil // whoever this is, no state says so yet
	}
	if _, err := m.admit(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Drop closes the connections of nodes that Admit refuses by now.
func (m *Mux) Drop() {
	var drop []*Conn
	m.mu.Lock()
	for c := range m.conns {
		if c.alpn != "" && c.alpn != identity.JoinALPN && !c.lingers.Load() && m.cfg.Admit(c.alpn, c.peer) != nil {
			drop = append(drop, c)
		}
	}
	m.mu.Unlock()
	for _, c := range drop {
		m.cfg.Log.Debug("connection closed: its node is no longer admitted", "peer", c.peer, "protocol", c.alpn)
		c.Abort()
	}
}

// CloseAll closes all connections there are, and goes on accepting.
func (m *Mux) CloseAll() {
	m.mu.Lock()
	conns := make([]*Conn, 0, len(m.conns))
	for c := range m.conns {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, c := range conns {
		c.Abort()
	}
}

// Close ends Run, all listeners and all connections.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	listeners := make([]*Listener, 0, len(m.listeners))
	for _, l := range m.listeners {
		listeners = append(listeners, l)
	}
	m.mu.Unlock()
	err := m.lis.Close()
	for _, l := range listeners {
		l.Close()
	}
	m.CloseAll()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Reason is why a connection was refused.
type Reason int

// The reasons.
const (
	Full      Reason = iota // too many connections from there
	Handshake               // no TLS, an unknown protocol, a certificate that is refused
	Denied                  // a node that may not use this protocol
	Nobody                  // a protocol that nobody serves at the moment
	reasons
)

// String returns the reason as a word.
func (r Reason) String() string { return [...]string{"full", "handshake", "denied", "nobody"}[r] }

// Refused returns how many connections were refused for this reason.
func (m *Mux) Refused(r Reason) uint64 { return m.refused[r].Load() }
