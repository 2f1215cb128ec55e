package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// epoch is when the tests' certificates are signed.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const life = 90 * 24 * time.Hour

func newCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA("test", epoch)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// member returns a new node with a certificate of ca, whose clock stands at epoch.
func member(t testing.TB, ca *CA) *Identity {
	t.Helper()
	dir := t.TempDir()
	i, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	i.Now = func() time.Time { return epoch }
	join(t, i, dir, ca)
	return i
}

func join(t testing.TB, i *Identity, dir string, ca *CA) {
	t.Helper()
	cert, err := ca.Sign(public(i), "n", life, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Save(dir, cert, ca.Cert.Raw); err != nil {
		t.Fatal(err)
	}
}

func anyone(NodeID) error { return nil }

// shake connects a client with a server and has the server say one octet, so that the client learns whether it is refused.
func shake(t testing.TB, client, server *tls.Config) (cs, ss tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	a, b := loopback(t)
	a.SetDeadline(time.Now().Add(10 * time.Second))
	b.SetDeadline(time.Now().Add(10 * time.Second))
	done := make(chan struct{})
	s := tls.Server(b, server)
	go func() {
		defer close(done)
		defer b.Close()
		if serverErr = s.Handshake(); serverErr == nil {
			_, serverErr = s.Write([]byte{1})
		}
	}()
	c := tls.Client(a, client)
	_, clientErr = c.Read(make([]byte, 1))
	a.Close()
	<-done
	return c.ConnectionState(), s.ConnectionState(), clientErr, serverErr
}

// loopback returns the two ends of a TCP connection. On a net.Pipe, which buffers nothing, one end's alert would wait for
// the rest of the other's flight for ever.
func loopback(t testing.TB) (client, server net.Conn) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	if client, err = net.Dial("tcp", lis.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = lis.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func TestMembersOfAClusterTalk(t *testing.T) {
	ca := newCA(t)
	a, b := member(t, ca), member(t, ca)
	for _, alpn := range []string{NodeALPN, RaftALPN} {
		cs, ss, cerr, serr := shake(t, a.ClientTLS(anyone, b.ID(), alpn), b.ServerTLS(anyone, JoinALPN, NodeALPN, RaftALPN))
		if cerr != nil || serr != nil {
			t.Fatalf("%s: client %v, server %v", alpn, cerr, serr)
		}
		if cs.NegotiatedProtocol != alpn || ss.NegotiatedProtocol != alpn {
			t.Errorf("speak %q and %q; want %s", cs.NegotiatedProtocol, ss.NegotiatedProtocol, alpn)
		}
		if id, err := PeerID(cs); err != nil || id != b.ID() {
			t.Errorf("the client sees %s, %v; want %s", id, err, b.ID())
		}
		if id, err := PeerID(ss); err != nil || id != a.ID() {
			t.Errorf("the server sees %s, %v; want %s", id, err, a.ID())
		}
	}
}

func TestServerRefuses(t *testing.T) {
	ca := newCA(t)
	client, server := member(t, ca), member(t, ca)
	stranger := member(t, newCA(t))
	removed := errors.New("it was removed from the cluster")
	alpns := []string{JoinALPN, NodeALPN}
	with := func(i *Identity, change func(*tls.Config)) *tls.Config {
		c := i.ClientTLS(anyone, NodeID{}, NodeALPN)
		c.VerifyConnection = nil // this client takes any server
		if change != nil {
			change(c)
		}
		return c
	}
	for name, test := range map[string]struct {
		client *tls.Config
		now    time.Time
		allow  func(NodeID) error
		want   string
	}{
		"no certificate": {client: with(client, func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		}), want: "didn't provide a certificate"},
		"another cluster's certificate": {client: with(stranger, nil), want: "another cluster's?"},
		"the certificate of another key": {client: with(client, func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{client.Cert.Raw}, PrivateKey: stranger.Key}, nil
			}
		}), want: "invalid signature"},
		"the CA's own certificate": {client: with(client, func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}, PrivateKey: ca.Key}, nil
			}
		}), want: "expected the ID of its key"},
		"a removed node": {client: with(client, nil), allow: func(id NodeID) error {
			if id == client.ID() {
				return removed
			}
			return nil
		}, want: client.ID().String() + ": it was removed"},
		"an expired certificate": {client: with(client, nil), now: epoch.Add(life + time.Minute),
			want: "expired at 2026-05-30T12:00:00Z, and here it is 2026-05-30T12:01:00Z; check the clocks"},
		"a certificate of the future": {client: with(client, nil), now: epoch.Add(-time.Hour),
			want: "valid from 2026-03-01T11:50:00Z, and here it is 2026-03-01T11:00:00Z; check the clocks"},
		"TLS 1.2": {client: with(client, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }),
			want: "unsupported versions"},
		"no protocol":      {client: with(client, func(c *tls.Config) { c.NextProtos = nil }), want: "offers the protocols []"},
		"another protocol": {client: with(client, func(c *tls.Config) { c.NextProtos = []string{"h2"} }), want: `offers the protocols ["h2"]`},
		"a protocol that is not spoken here": {client: with(client, func(c *tls.Config) { c.NextProtos = []string{RaftALPN} }),
			want: "offers the protocols"},
		"no certificate, behind an offer to join too": {client: with(client, func(c *tls.Config) {
			c.NextProtos = []string{JoinALPN, NodeALPN}
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		}), want: "didn't provide a certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Now = func() time.Time { return epoch }
			if !test.now.IsZero() {
				server.Now = func() time.Time { return test.now }
			}
			allow := anyone
			if test.allow != nil {
				allow = test.allow
			}
			_, _, cerr, serr := shake(t, test.client, server.ServerTLS(allow, alpns...))
			if serr == nil || !strings.Contains(serr.Error(), test.want) {
				t.Errorf("the server says %v; want %q", serr, test.want)
			}
			if !Refused(cerr) {
				t.Errorf("the client sees %v; want that it is refused", cerr)
			}
			if test.allow != nil && !errors.Is(serr, removed) {
				t.Errorf("%v does not wrap what allow returned", serr)
			}
		})
	}
}

func TestClientRefuses(t *testing.T) {
	ca := newCA(t)
	client, server := member(t, ca), member(t, ca)
	stranger := member(t, newCA(t))
	lone, err := Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	removed := errors.New("it was removed from the cluster")
	otherALPN := server.ServerTLS(anyone, NodeALPN)
	otherALPN.GetConfigForClient, otherALPN.NextProtos = nil, nil
	for name, test := range map[string]struct {
		client *Identity
		server *tls.Config
		allow  func(NodeID) error
		peer   NodeID
		now    time.Time
		want   string
	}{
		"another cluster's server":   {server: stranger.ServerTLS(anyone, NodeALPN), want: "another cluster's?"},
		"another node":               {peer: stranger.ID(), want: "expected node " + stranger.ID().String()},
		"a removed node":             {allow: func(NodeID) error { return removed }, want: "it was removed"},
		"an expired certificate":     {now: epoch.Add(life + time.Minute), want: "expired at"},
		"a server that is no node":   {server: otherALPN, want: "does not speak " + NodeALPN},
		"all, before it is a member": {client: lone, want: "run weft init or weft join first"},
	} {
		t.Run(name, func(t *testing.T) {
			c, s, allow := client, test.server, test.allow
			if test.client != nil {
				c = test.client
			}
			if s == nil {
				s = server.ServerTLS(anyone, NodeALPN)
			}
			if allow == nil {
				allow = anyone
			}
			c.Now = func() time.Time { return epoch }
			if !test.now.IsZero() {
				c.Now = func() time.Time { return test.now }
			}
			_, _, cerr, serr := shake(t, c.ClientTLS(allow, test.peer, NodeALPN), s)
			if cerr == nil || !strings.Contains(cerr.Error(), test.want) {
				t.Errorf("the client says %v; want %q", cerr, test.want)
			}
			if serr == nil {
				t.Error("the server sees nothing of it")
			}
			if test.allow != nil && !errors.Is(cerr, removed) {
				t.Errorf("%v does not wrap what allow returned", cerr)
			}
		})
	}
}

func TestServerWithoutACertificateSaysSo(t *testing.T) {
	lone, err := Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client := member(t, newCA(t))
	_, _, cerr, serr := shake(t, client.ClientTLS(anyone, NodeID{}, NodeALPN), lone.ServerTLS(anyone, NodeALPN))
	if !errors.Is(serr, errNoMember) || !Refused(cerr) {
		t.Errorf("server %v, client %v; want %v and a refusal", serr, cerr, errNoMember)
	}
}

func TestRemovalCountsFromTheNextHandshake(t *testing.T) {
	ca := newCA(t)
	a, b := member(t, ca), member(t, ca)
	gone := map[NodeID]bool{}
	server := b.ServerTLS(func(id NodeID) error {
		if gone[id] {
			return errors.New("removed")
		}
		return nil
	}, NodeALPN)
	client := a.ClientTLS(anyone, b.ID(), NodeALPN)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4) // must not help
	if _, _, cerr, serr := shake(t, client, server); cerr != nil || serr != nil {
		t.Fatalf("client %v, server %v", cerr, serr)
	}
	gone[a.ID()] = true
	if _, _, cerr, _ := shake(t, client, server); !Refused(cerr) {
		t.Fatalf("the client sees %v; want that it is refused", cerr)
	}
}

func TestRenewedCertificateServesNewHandshakes(t *testing.T) {
	ca := newCA(t)
	a, b := member(t, ca), member(t, ca)
	server, client := b.ServerTLS(anyone, NodeALPN), a.ClientTLS(anyone, b.ID(), NodeALPN)
	before := b.Cert
	join(t, b, t.TempDir(), ca)
	cs, _, cerr, serr := shake(t, client, server)
	if cerr != nil || serr != nil {
		t.Fatalf("client %v, server %v", cerr, serr)
	}
	if cs.PeerCertificates[0].Equal(before) || !cs.PeerCertificates[0].Equal(b.Cert) {
		t.Error("the server still shows the certificate before")
	}
}

func TestJoin(t *testing.T) {
	ca := newCA(t)
	manager := member(t, ca)
	digest := Digest(ca.Cert.Raw)
	server := func(chain ...[]byte) *tls.Config {
		c := manager.ServerTLS(anyone, JoinALPN, NodeALPN)
		if chain == nil {
			return c
		}
		return &tls.Config{NextProtos: []string{JoinALPN}, Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: manager.Key}}}
	}
	other := newCA(t)
	forged, err := other.Sign(public(manager), "n", life, epoch)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		server *tls.Config
		digest [32]byte
		want   string
	}{
		"the right digest":                     {server: server(), digest: digest},
		"a wrong digest":                       {server: server(), digest: [32]byte{1}, want: "belongs to another cluster, or somebody is in between"},
		"another CA's certificate before ours": {server: server(forged, ca.Cert.Raw), digest: digest, want: "another cluster's?"},
		"a server without its CA":              {server: server(manager.Cert.Raw), digest: digest, want: "shows 1 certificates"},
		"a server that does not join":          {server: manager.ServerTLS(anyone, NodeALPN), digest: digest, want: "remote error"},
		"a web server": {server: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{manager.Cert.Raw}, PrivateKey: manager.Key}}},
			digest: digest, want: "does not speak weft-join/1"},
	} {
		t.Run(name, func(t *testing.T) {
			// The clock of this process is not at epoch: certificate times do not count here.
			cs, ss, cerr, serr := shake(t, JoinTLS(test.digest), test.server)
			if test.want != "" {
				if cerr == nil || serr == nil || !strings.Contains(cerr.Error(), test.want) {
					t.Errorf("client %v, server %v; want %q", cerr, serr, test.want)
				}
				return
			}
			if cerr != nil || serr != nil {
				t.Fatalf("client %v, server %v", cerr, serr)
			}
			if len(ss.PeerCertificates) != 0 || ss.NegotiatedProtocol != JoinALPN {
				t.Errorf("the server sees %d certificates and %q; want none and %s", len(ss.PeerCertificates), ss.NegotiatedProtocol, JoinALPN)
			}
			if _, err := PeerID(ss); err == nil {
				t.Error("a joining node has an ID for the server")
			}
			if id, err := PeerID(cs); err != nil || id != manager.ID() {
				t.Errorf("the joining node sees %s, %v; want %s", id, err, manager.ID())
			}
		})
	}
}

func TestProofIsOfOneTokenOnOneConnection(t *testing.T) {
	ca := newCA(t)
	manager := member(t, ca)
	token := Token{Digest: Digest(ca.Cert.Raw), Secret: NewSecret()}
	other := Token{Digest: token.Digest, Secret: NewSecret()}
	connect := func() (cs, ss tls.ConnectionState) {
		cs, ss, cerr, serr := shake(t, JoinTLS(token.Digest), manager.ServerTLS(anyone, JoinALPN))
		if cerr != nil || serr != nil {
			t.Fatalf("client %v, server %v", cerr, serr)
		}
		return cs, ss
	}
	proof := func(t2 Token, cs tls.ConnectionState) []byte {
		p, err := t2.Proof(cs)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	client, server := connect()
	if !hmac.Equal(proof(token, client), proof(token, server)) {
		t.Error("the two ends of a connection compute different proofs")
	}
	if hmac.Equal(proof(other, client), proof(token, server)) {
		t.Error("another secret has the same proof")
	}
	if _, elsewhere := connect(); hmac.Equal(proof(token, client), proof(token, elsewhere)) {
		t.Error("the proof holds on another connection")
	}
}

// FuzzPeerID feeds certificates as a handshake would. Whatever it is, the answer is an error or the ID of its key.
func FuzzPeerID(f *testing.F) {
	ca := newCA(f)
	i := member(f, ca)
	f.Add(i.Cert.Raw)
	f.Add(ca.Cert.Raw)
	f.Add(i.Cert.Raw[:len(i.Cert.Raw)/2])
	f.Add([]byte{})
	f.Add(bytes.Replace(i.Cert.Raw, []byte(i.ID().String()), []byte(strings.Repeat("0", idLen)), 1))
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		id, err := PeerID(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}})
		if err == nil && id.String() != cert.Subject.CommonName {
			t.Errorf("node %s of a certificate of %q", id, cert.Subject.CommonName)
		}
		if _, _, err := i.check(der, ca.Cert.Raw); err == nil && !bytes.Equal(public(i), cert.PublicKey.(ed25519.PublicKey)) {
			t.Errorf("takes the certificate of another key:\n%s", pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}))
		}
	})
}
