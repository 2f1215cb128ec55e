package identity

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// The protocols of the node port, told apart by ALPN (RFC 7301).
const (
	JoinALPN = "weft-join/1" // a node that has no certificate yet asks for one
	NodeALPN = "weft-node/1" // the node API
	RaftALPN = "weft-raft/1" // Raft among managers
)

// ServerTLS returns the settings of the node port. All protocols but JoinALPN take a client certificate of this cluster,
// whose node allow does not refuse; allow is asked at every handshake. Only alpn are spoken.
func (i *Identity) ServerTLS(allow func(NodeID) error, alpn ...string) *tls.Config {
	base := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // every connection shows its certificate anew
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.certificate() },
	}
	join := base.Clone()
	join.NextProtos = []string{JoinALPN}
	node := base.Clone()
	node.NextProtos = slices.DeleteFunc(slices.Clone(alpn), func(p string) bool { return p == JoinALPN })
	node.ClientAuth = tls.RequireAnyClientCert
	node.VerifyConnection = func(cs tls.ConnectionState) error {
		return i.verify(cs, allow, x509.ExtKeyUsageClientAuth)
	}
	base.NextProtos = slices.Clone(alpn)
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offers := func(p string) bool { return slices.Contains(hello.SupportedProtos, p) }
		switch {
		case slices.ContainsFunc(node.NextProtos, offers):
			return node, nil
		case slices.Contains(alpn, JoinALPN) && offers(JoinALPN):
			return join, nil
		}
		// crypto/tls serves a client that offers no protocol at all.
		return nil, fmt.Errorf("identity: the client offers the protocols %q; expected one of %q", hello.SupportedProtos, alpn)
	}
	return base
}

// ClientTLS returns the settings of a connection to the node want (zero: any that allow does not refuse) for the protocol
// alpn. allow is asked at every handshake.
func (i *Identity) ClientTLS(allow func(NodeID) error, want NodeID, alpn string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // nodes are known by key, not by host name: VerifyConnection does it
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.certificate() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != alpn {
				return fmt.Errorf("identity: the server does not speak %s; expected a node of weft", alpn)
			}
			return i.verify(cs, func(id NodeID) error {
				if !want.IsZero() && id != want {
					return fmt.Errorf("expected node %s at this address; check the addresses that the nodes advertise", want)
				}
				return allow(id)
			}, x509.ExtKeyUsageServerAuth)
		},
	}
}

// JoinTLS returns the settings of a joining node, which has no certificate and knows of the cluster only its CA's digest.
// The server must show a certificate of that CA. Its times are not judged: a joining node whose clock is off shall be told
// so by the manager's answer.
func JoinTLS(digest [32]byte) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{JoinALPN},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // by the CA's digest instead: VerifyConnection does it
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != JoinALPN {
				return fmt.Errorf("identity: the server does not speak %s; expected a manager of the cluster", JoinALPN)
			}
			if err := verifyJoin(cs, digest); err != nil {
				return fmt.Errorf("identity: %w", err)
			}
			return nil
		},
	}
}

// verifyJoin checks a server's certificate and that of its CA, which it sends after its own, by the CA's digest.
func verifyJoin(cs tls.ConnectionState, digest [32]byte) error {
	if len(cs.PeerCertificates) != 2 {
		return fmt.Errorf("the server shows %d certificates; expected its own and its CA's", len(cs.PeerCertificates))
	}
	cert, ca := cs.PeerCertificates[0], cs.PeerCertificates[1]
	if got := Digest(ca.Raw); subtle.ConstantTimeCompare(got[:], digest[:]) != 1 {
		return fmt.Errorf("the server's CA has the digest %s; the join token names %s: the manager belongs to another cluster, "+
			"or somebody is in between; check the address, and the token by weft token show on a manager",
			encode36(got[:], digestLen), encode36(digest[:], digestLen))
	}
	if err := signed(cert, ca); err != nil {
		return err
	}
	_, err := certID(cert)
	return err
}

// PeerID returns the node at the other end of a connection whose handshake is done.
func PeerID(cs tls.ConnectionState) (NodeID, error) {
	if len(cs.PeerCertificates) == 0 {
		return NodeID{}, errors.New("identity: the other end shows no certificate; expected a node's")
	}
	id, err := certID(cs.PeerCertificates[0])
	if err != nil {
		return NodeID{}, fmt.Errorf("identity: %w", err)
	}
	return id, nil
}

// Refused reports whether err says that the other end ended the connection with a TLS alert. In TLS 1.3 a client learns
// only by its first read that a server refuses its certificate, and TLS has no words for why.
func Refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// certificate returns what this node shows of itself.
func (i *Identity) certificate() (*tls.Certificate, error) {
	cert, ca := i.Certificates()
	if cert == nil {
		return nil, errNoMember
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, ca.Raw}, PrivateKey: i.Key, Leaf: cert}, nil
}

// verify checks the other end's certificate for that use, and whether allow refuses its node.
func (i *Identity) verify(cs tls.ConnectionState, allow func(NodeID) error, use x509.ExtKeyUsage) error {
	_, ca := i.Certificates()
	if ca == nil {
		return errNoMember
	}
	id, err := PeerID(cs)
	if err != nil {
		return err
	}
	cert := cs.PeerCertificates[0]
	err = signed(cert, ca)
	if err == nil {
		err = timely(cert, i.now())
	}
	if err == nil && !slices.Contains(cert.ExtKeyUsage, use) {
		err = errors.New("its certificate is not for this use")
	}
	if err == nil {
		err = allow(id)
	}
	if err != nil {
		return fmt.Errorf("identity: node %s: %w", id, err)
	}
	return nil
}

// signed checks that ca signed cert.
func signed(cert, ca *x509.Certificate) error {
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("its certificate is not of the CA with the digest %s: another cluster's? (%w)", digestText(ca), err)
	}
	return nil
}

// digestText is the digest of a CA as tokens have it.
func digestText(ca *x509.Certificate) string {
	d := Digest(ca.Raw)
	return encode36(d[:], digestLen)
}

// timely checks that cert is valid now.
func timely(cert *x509.Certificate, now time.Time) error {
	const remedy = "check the clocks of both nodes (timedatectl)"
	text := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case now.Before(cert.NotBefore):
		return fmt.Errorf("its certificate is valid from %s, and here it is %s; %s", text(cert.NotBefore), text(now), remedy)
	case now.After(cert.NotAfter):
		return fmt.Errorf("its certificate expired at %s, and here it is %s; %s; a node that was off for so long must leave and join again",
			text(cert.NotAfter), text(now), remedy)
	}
	return nil
}
