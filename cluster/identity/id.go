package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/big"
)

// NodeID names a node: the first 16 bytes of the SHA-256 of its public key, so that whoever knows the ID can check the key.
type NodeID [16]byte

// IDOf returns the ID of the node that has this key.
func IDOf(key ed25519.PublicKey) NodeID {
	sum := sha256.Sum256(key)
	return NodeID(sum[:16])
}

// idLen is how many base36 digits 128 bits take.
const idLen = 25

// String returns the ID as 25 digits of base 36, as Swarm prints its own.
func (id NodeID) String() string { return encode36(id[:], idLen) }

// IsZero reports whether the ID names no node.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// MarshalText is String (encoding.TextMarshaler).
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseNodeID (encoding.TextUnmarshaler).
func (id *NodeID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseNodeID(string(text))
	return err
}

// ParseNodeID is the inverse of String.
func ParseNodeID(s string) (id NodeID, err error) {
	b, err := decode36(s, len(id), idLen)
	if err != nil {
		return id, fmt.Errorf("node ID %q: %w", s, err)
	}
	return NodeID(b), nil
}

// encode36 writes b as a number of exactly that many digits.
func encode36(b []byte, digits int) string {
	return fmt.Sprintf("%0*s", digits, new(big.Int).SetBytes(b).Text(36))
}

// decode36 is the inverse of encode36, for a result of size bytes.
func decode36(s string, size, digits int) ([]byte, error) {
	if len(s) != digits {
		return nil, fmt.Errorf("%d characters; expected %d", len(s), digits)
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return nil, fmt.Errorf("character %q; expected digits and small letters", c)
		}
	}
	n, ok := new(big.Int).SetString(s, 36)
	if !ok || n.BitLen() > size*8 {
		return nil, fmt.Errorf("too large a number for %d bytes", size)
	}
	return n.FillBytes(make([]byte, size)), nil
}
