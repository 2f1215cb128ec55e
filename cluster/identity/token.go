package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strings"
)

// What a token consists of. The digits are those of 256 and of 128 bits.
const (
	tokenPrefix  = "WFTKN"
	tokenVersion = "1"
	digestLen    = 50
	secretLen    = 25
)

// Token lets a node join a cluster: by Digest the node knows the cluster's CA before it says anything, by Secret the
// cluster knows that the node may, and as what.
type Token struct {
	Digest [32]byte
	Secret string // 25 digits of base 36, of 128 random bits
}

// NewSecret draws a secret of a token.
func NewSecret() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return encode36(b[:], secretLen)
}

// String returns the token as users pass it around.
func (t Token) String() string {
	return strings.Join([]string{tokenPrefix, tokenVersion, encode36(t.Digest[:], digestLen), t.Secret}, "-")
}

// Proof shows the other end of a join connection that this end knows the secret, without telling it: any node can show a
// certificate of the CA, but only managers know the secrets, and a proof is worth nothing on another connection (RFC 5705,
// RFC 8446 §7.5). The manager computes it too, from each role's secret, and compares by hmac.Equal.
func (t Token) Proof(cs tls.ConnectionState) ([]byte, error) {
	bound, err := cs.ExportKeyingMaterial("EXPORTER-weft-token", nil, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("identity: prove the token: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(t.Secret))
	mac.Write(bound)
	return mac.Sum(nil), nil
}

// ParseToken is the inverse of String. Its errors never quote the secret.
func ParseToken(s string) (t Token, err error) {
	const copied = "copy the whole of what weft token show prints"
	parts := strings.Split(strings.TrimSpace(s), "-")
	switch {
	case parts[0] == "SWMTKN":
		return t, fmt.Errorf("this is a join token of Docker Swarm; expected one of weft, %s-%s-…, which weft token show prints", tokenPrefix, tokenVersion)
	case parts[0] != tokenPrefix:
		return t, fmt.Errorf("the join token does not begin with %s-; %s", tokenPrefix, copied)
	case len(parts) > 1 && parts[1] != tokenVersion && len(parts) == 4:
		return t, fmt.Errorf("the join token has version %q; this weft reads version %s; use the same release of weft on all nodes", parts[1], tokenVersion)
	case len(parts) != 4:
		return t, fmt.Errorf("the join token has %d of its 4 parts (%s, version, CA digest, secret), parted by \"-\"; %s", len(parts), tokenPrefix, copied)
	}
	digest, err := decode36(parts[2], len(t.Digest), digestLen)
	if err != nil {
		return t, fmt.Errorf("the join token's CA digest (third part) has %w; %s", err, copied)
	}
	if _, err := decode36(parts[3], 16, secretLen); err != nil {
		return t, fmt.Errorf("the join token's secret (fourth part) has %w; %s", err, copied)
	}
	return Token{Digest: [32]byte(digest), Secret: parts[3]}, nil
}
