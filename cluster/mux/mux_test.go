package mux

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// port is a Mux that runs, with who may connect to it.
type port struct {
	*Mux
	id    *identity.Identity
	addr  string
	mu    sync.Mutex
	known map[identity.NodeID]bool
}

func (p *port) allow(id identity.NodeID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known[id] {
		return fmt.Errorf("node %s is not known", id)
	}
	return nil
}

func (p *port) set(id identity.NodeID, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[id] = known
}

func newNode(t *testing.T, ca *identity.CA) *identity.Identity {
	t.Helper()
	dir := t.TempDir()
	id, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(id.Key.Public().(ed25519.PublicKey), "n", time.Hour, time.Now())
	if err == nil {
		err = id.Save(dir, cert, ca.Cert.Raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newCA(t *testing.T) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// open runs a Mux that lets nodes use the node API, and only the first of them Raft.
func open(t *testing.T, ca *identity.CA, nodes ...*identity.Identity) *port {
	t.Helper()
	p := &port{id: newNode(t, ca), known: make(map[identity.NodeID]bool)}
	for _, n := range nodes {
		p.known[n.ID()] = true
	}
	p.known[p.id.ID()] = true
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = lis.Addr().String()
	p.Mux = New(lis, Config{
		TLS: func() *tls.Config {
			return p.id.ServerTLS(p.allow, identity.JoinALPN, identity.NodeALPN, identity.RaftALPN)
		},
		Admit: func(alpn string, peer identity.NodeID) error {
			switch {
			case alpn == identity.JoinALPN:
				return nil
			case alpn == identity.RaftALPN && peer != nodes[0].ID():
				return errors.New("no manager")
			}
			return p.allow(peer)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

func anyone(identity.NodeID) error { return nil }

// dial connects as a node, and greets: a server refuses a client of TLS 1.3 only after its handshake.
func dial(t *testing.T, p *port, id *identity.Identity, alpn string) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", p.addr, id.ClientTLS(anyone, p.id.ID(), alpn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConnectionsGoToWhoListensForTheirProtocol(t *testing.T) {
	ca := newCA(t)
	a := newNode(t, ca)
	p := open(t, ca, a)
	for _, alpn := range []string{identity.NodeALPN, identity.RaftALPN} {
		l := p.Listen(alpn)
		dial(t, p, a, alpn)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := c.(*Conn).Peer(); got != a.ID() {
			t.Errorf("%s: the peer is %s, expected %s", alpn, got, a.ID())
		}
	}
}

func TestWhoJoinsNeedsNoCertificate(t *testing.T) {
	ca := newCA(t)
	p := open(t, ca, newNode(t, ca))
	l := p.Listen(identity.JoinALPN)
	c, err := tls.Dial("tcp", p.addr, identity.JoinTLS(identity.Digest(ca.Cert.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil || !got.(*Conn).Peer().IsZero() {
		t.Errorf("accepted %v with the error %v; expected a connection of nobody", got, err)
	}
}

func TestRefusedConnectionsAreClosedAndCounted(t *testing.T) {
	ca := newCA(t)
	a, b, stranger := newNode(t, ca), newNode(t, ca), newNode(t, ca)
	p := open(t, ca, a, b)
	p.Listen(identity.NodeALPN)
	for name, tc := range map[string]struct {
		connect func() (net.Conn, error)
		reason  Reason
	}{
		"who speaks no TLS": {func() (net.Conn, error) {
			c, err := net.Dial("tcp", p.addr)
			if err == nil {
				_, err = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			}
			return c, err
		}, Handshake},
		"a node that is not known":    {func() (net.Conn, error) { return dial(t, p, stranger, identity.NodeALPN), nil }, Handshake},
		"a worker that asks for Raft": {func() (net.Conn, error) { return dial(t, p, b, identity.RaftALPN), nil }, Denied},
		"Raft where there is none":    {func() (net.Conn, error) { return dial(t, p, a, identity.RaftALPN), nil }, Nobody},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.Refused(tc.reason)
			c, err := tc.connect()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			var timeout net.Error
			if _, err := io.ReadAll(c); errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatal("the connection stays open")
			}
			// The other end's alert comes before the count.
			for end := time.Now().Add(5 * time.Second); p.Refused(tc.reason) == before && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if got := p.Refused(tc.reason); got != before+1 {
				t.Errorf("refused because of %s: %d, expected %d", tc.reason, got, before+1)
			}
		})
	}
}

func TestARemovedNodesConnectionsAreClosed(t *testing.T) {
	ca := newCA(t)
	a, b := newNode(t, ca), newNode(t, ca)
	p := open(t, ca, a, b)
	l := p.Listen(identity.NodeALPN)
	accept := func() *Conn {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c.(*Conn)
	}
	gone := dial(t, p, a, identity.NodeALPN)
	accept()
	leaving := dial(t, p, a, identity.NodeALPN)
	farewell := accept()
	farewell.Linger()
	stays := dial(t, p, b, identity.NodeALPN)
	other := accept()

	p.set(a.ID(), false)
	p.Drop()
	if n, err := gone.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from a connection that should be closed", n)
	}
	for name, ends := range map[string]struct {
		here *Conn
		far  net.Conn
	}{"the one that lingers": {farewell, leaving}, "another node's": {other, stays}} {
		if _, err := ends.here.Write([]byte("x")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ends.far.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADialedNodesConnectionIsClosedWhenItIsRemoved(t *testing.T) {
	ca := newCA(t)
	a := newNode(t, ca)
	far := open(t, ca, a)
	far.Listen(identity.NodeALPN)
	near := open(t, ca, far.id)
	far.set(near.id.ID(), true)
	l := far.Listen(identity.NodeALPN)
	c, err := near.Dial(t.Context(), far.addr, near.id.ClientTLS(near.allow, far.id.ID(), identity.NodeALPN))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	near.set(far.id.ID(), false)
	near.Drop()
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a write succeeds on a connection that should be closed")
	}
	if _, err := near.Dial(t.Context(), far.addr, near.id.ClientTLS(near.allow, far.id.ID(), identity.NodeALPN)); err == nil {
		t.Error("a removed node is dialed")
	}
}

func TestTheNextListenerTakesOver(t *testing.T) {
	ca := newCA(t)
	a := newNode(t, ca)
	p := open(t, ca, a)
	first := p.Listen(identity.NodeALPN)
	second := p.Listen(identity.NodeALPN)
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the first listener gives %v, expected that it is closed", err)
	}
	first.Close()
	dial(t, p, a, identity.NodeALPN)
	if _, err := second.Accept(); err != nil {
		t.Error(err)
	}
}
