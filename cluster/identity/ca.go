package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	skew   = 10 * time.Minute          // how long before its issue a certificate is valid: clocks differ
	caLife = 20 * 365 * 24 * time.Hour // as long as Swarm's
)

// CA is a cluster's certificate authority. Every manager has it.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// NewCA makes the CA of a new cluster, which the certificate's subject names.
func NewCA(cluster string, now time.Time) (*CA, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: make a CA: %w", err)
	}
	t, err := template(now, caLife)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: "weft CA", OrganizationalUnit: []string{cluster}}
	t.KeyUsage = x509.KeyUsageCertSign
	t.BasicConstraintsValid, t.IsCA, t.MaxPathLenZero = true, true, true
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	if err != nil {
		return nil, fmt.Errorf("identity: make a CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("identity: make a CA: %w", err)
	}
	return &CA{Cert: cert, Key: key}, nil
}

// ParseCA reads a CA from its certificate (DER) and what MarshalKey returned.
func ParseCA(cert, pkcs8 []byte) (*CA, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("identity: the CA's certificate: %w", err)
	}
	if !c.IsCA || !c.BasicConstraintsValid {
		return nil, fmt.Errorf("identity: the certificate of %s is not a CA's", c.Subject)
	}
	k, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("identity: the CA's key: %w", err)
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("identity: the CA's key is a %T; expected one that signs", k)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(c.PublicKey) {
		return nil, errors.New("identity: the CA's key is not that of its certificate")
	}
	return &CA{Cert: c, Key: key}, nil
}

// MarshalKey returns the private key as PKCS #8.
func (c *CA) MarshalKey() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("identity: the CA's key: %w", err)
	}
	return der, nil
}

// Sign makes the certificate (DER) of the node that has this key, valid for life from now, but not longer than the CA.
func (c *CA) Sign(pub ed25519.PublicKey, name string, life time.Duration, now time.Time) ([]byte, error) {
	if len(pub) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("identity: the key of node %q has %d bytes; expected the %d of an ed25519 key", name, len(pub), ed25519.PublicKeySize)
	}
	if life <= 0 {
		return nil, fmt.Errorf("identity: a certificate's life of %s; expected more than nothing", life)
	}
	t, err := template(now, life)
	if err != nil {
		return nil, err
	}
	if t.NotAfter.After(c.Cert.NotAfter) {
		t.NotAfter = c.Cert.NotAfter
	}
	t.Subject = pkix.Name{CommonName: IDOf(pub).String(), OrganizationalUnit: []string{name}}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	t.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, t, c.Cert, pub, c.Key)
	if err != nil {
		return nil, fmt.Errorf("identity: sign the certificate of node %q: %w", name, err)
	}
	return der, nil
}

// template is what all certificates have in common.
func template(now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("identity: draw a serial number: %w", err)
	}
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-skew), NotAfter: now.Add(life)}, nil
}

// Digest returns what a join token says of a CA's certificate (DER).
func Digest(caCert []byte) [32]byte { return sha256.Sum256(caCert) }

// certID returns the ID of the node that a certificate is of. The key decides; the subject must agree.
func certID(cert *x509.Certificate) (NodeID, error) {
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return NodeID{}, fmt.Errorf("the certificate of %q has a %s key; expected ed25519", cert.Subject.CommonName, cert.PublicKeyAlgorithm)
	}
	id := IDOf(key)
	if cert.Subject.CommonName != id.String() {
		return NodeID{}, fmt.Errorf("the certificate's subject is %q; expected the ID of its key, %s", cert.Subject.CommonName, id)
	}
	return id, nil
}
