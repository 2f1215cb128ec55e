// Package identity says who a node is and how others know it: one ed25519 key per node, which is its name (NodeID), signs
// its gossip records, and is its TLS key; a CA per cluster, which signs node certificates (RFC 5280, RFC 8410); join tokens,
// which carry the CA's digest; and the TLS 1.3 (RFC 8446) settings of the node port.
//
//	no file ──Load──► key, no certificate ──Save (join, init)──► member ──Save at RenewAt──► member
//	   ▲                      ▲                                     │
//	   └──────Forget──────────┴─────────────────Forget──────────────┘
//
//	DIR/key.pem            PKCS #8 private key, mode 0600; made once
//	DIR/certificates.pem   the node's certificate, then the CA's; one file, so that they change together
//
//	certificate  subject CN = node ID, OU = node name; key = the node's; issuer = the CA, which signs leaves only
//	             from 10 minutes before its issue, as clocks differ; renewed at two thirds of its life
//	token        WFTKN-1-<SHA-256 of the CA certificate, 50 digits of base 36>-<secret, 25 digits of base 36>
//
// Which members the cluster has is not the certificate's to say: every handshake asks an allow function of the caller's,
// so that a removed node is refused at once, without revocation lists.
package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Identity is a node's key and, once it is a member of a cluster, its certificate and that of the cluster's CA.
//
// The fields may be read freely until Save may run at the same time; from then on by Certificates.
type Identity struct {
	Key  ed25519.PrivateKey
	Cert *x509.Certificate // nil before joining
	CA   *x509.Certificate // nil before joining

	Now func() time.Time // the clock that certificates are judged by; nil: time.Now

	mu sync.RWMutex // guards Cert and CA
}

// errNoMember is why a node without a certificate can talk to none.
var errNoMember = errors.New("identity: this node is a member of no cluster; run weft init or weft join first")

// ID returns the node's name.
func (i *Identity) ID() NodeID { return IDOf(i.Key.Public().(ed25519.PublicKey)) }

// Certificates returns the node's certificate and the CA's; both are nil before joining. Any goroutine may call it.
func (i *Identity) Certificates() (cert, ca *x509.Certificate) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.Cert, i.CA
}

// now is the time that certificates are judged by.
func (i *Identity) now() time.Time {
	if i.Now != nil {
		return i.Now()
	}
	return time.Now()
}

// check parses a certificate and its CA's, both DER, and refuses a pair that this node could not use.
func (i *Identity) check(certDER, caDER []byte) (cert, ca *x509.Certificate, err error) {
	if cert, err = x509.ParseCertificate(certDER); err != nil {
		return nil, nil, fmt.Errorf("the node's certificate: %w", err)
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return nil, nil, fmt.Errorf("the CA's certificate: %w", err)
	}
	id, err := certID(cert)
	if err != nil {
		return nil, nil, err
	}
	if id != i.ID() {
		return nil, nil, fmt.Errorf("the certificate is that of node %s; expected this node's, %s", id, i.ID())
	}
	if err := signed(cert, ca); err != nil {
		return nil, nil, err
	}
	return cert, ca, nil
}

// RenewAt returns when a certificate is to be renewed: at two thirds of its life.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}
