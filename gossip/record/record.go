// Package record is the unit of what gossip tells: a fact about a network, owned and signed by one node, and the sealing of
// such records with the network's key.
//
// A record on the wire, all numbers big-endian:
//
//	 0        16      24      25       26      26+k     28+k     28+k+v
//	+--------+-------+-------+--------+-------+--------+---------+-----------+
//	| owner  | time  | flags | key    | key   | value  | value   | signature |
//	| 16     | 8     | 1     | length | k     | length | v       | 64        |
//	+--------+-------+-------+--------+-------+--------+---------+-----------+
//
// flags: bit 0 says that the owner deleted the record; the others are zero. The signature is ed25519 (RFC 8032) of the
// owner's identity key over the domain, the network's ID, and all that stands in front of the signature, so that a record
// holds for one network only.
package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// What a record may hold. The largest one, sealed, fits a packet of 1400 bytes.
const (
	MaxKey   = 128
	MaxValue = 1000
	MaxSize  = fixed + MaxKey + MaxValue
)

const (
	domain  = "weft gossip record 1\x00"
	fixed   = 16 + 8 + 1 + 1 + 2 + ed25519.SignatureSize
	deleted = 1 // flag
)

// Why a record is refused.
var (
	ErrTruncated = errors.New("truncated")
	ErrMalformed = errors.New("malformed")
	ErrTooLarge  = errors.New("too large")
	ErrSignature = errors.New("bad signature")
)

// Record is one signed fact. It is immutable.
type Record struct {
	Owner   identity.NodeID
	Key     string
	Value   []byte
	Time    uint64 // Lamport time of the owner
	Deleted bool
	wire    []byte
	digest  Digest
}

// Digest stands for a record, or by Toggle for a set of them.
type Digest [16]byte

// Toggle adds a digest to the set that d stands for, or takes it out again.
func (d *Digest) Toggle(other Digest) {
	for i := range d {
		d[i] ^= other[i]
	}
}

// New signs a record of a network.
func New(key ed25519.PrivateKey, network state.NetworkID, r Record) (*Record, error) {
	if len(r.Key) == 0 || len(r.Key) > MaxKey {
		return nil, fmt.Errorf("key %q has %d bytes, expected 1 to %d: %w", r.Key, len(r.Key), MaxKey, ErrTooLarge)
	}
	if len(r.Value) > MaxValue {
		return nil, fmt.Errorf("value of %q has %d bytes, expected at most %d: %w", r.Key, len(r.Value), MaxValue, ErrTooLarge)
	}
	b := make([]byte, 0, fixed+len(r.Key)+len(r.Value))
	b = append(b, r.Owner[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Time)
	var flags byte
	if r.Deleted {
		flags = deleted
	}
	b = append(b, flags, byte(len(r.Key)))
	b = append(b, r.Key...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Value)))
	b = append(b, r.Value...)
	b = append(b, ed25519.Sign(key, signed(network, b))...)
	out, _, err := Parse(network, b)
	return out, err
}

// signed returns what the signature covers.
func signed(network state.NetworkID, body []byte) []byte {
	m := make([]byte, 0, len(domain)+len(network)+len(body))
	m = append(m, domain...)
	m = append(m, network[:]...)
	return append(m, body...)
}

// Parse reads the record of a network at the start of b and returns the rest. It does not look at the signature.
func Parse(network state.NetworkID, b []byte) (r *Record, rest []byte, err error) {
	if len(b) < fixed {
		return nil, nil, ErrTruncated
	}
	k := int(b[25])
	if len(b) < fixed+k {
		return nil, nil, ErrTruncated
	}
	v := int(binary.BigEndian.Uint16(b[26+k:]))
	switch {
	case k == 0 || b[24]&^deleted != 0:
		return nil, nil, ErrMalformed
	case k > MaxKey || v > MaxValue:
		return nil, nil, ErrTooLarge
	}
	size := fixed + k + v
	if len(b) < size {
		return nil, nil, ErrTruncated
	}
	wire := bytes.Clone(b[:size])
	r = &Record{
		Owner:   identity.NodeID(wire[:16]),
		Time:    binary.BigEndian.Uint64(wire[16:]),
		Deleted: wire[24]&deleted != 0,
		Key:     string(wire[26 : 26+k]),
		Value:   wire[28+k : 28+k+v : 28+k+v],
		wire:    wire,
	}
	sum := sha256.Sum256(signed(network, wire[:size-ed25519.SignatureSize]))
	r.digest = Digest(sum[:])
	return r, b[size:], nil
}

// Verify checks the signature.
func (r *Record) Verify(key ed25519.PublicKey, network state.NetworkID) error {
	end := len(r.wire) - ed25519.SignatureSize
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signed(network, r.wire[:end]), r.wire[end:]) {
		return ErrSignature
	}
	return nil
}

// Wire returns the record as it travels. Do not change it.
func (r *Record) Wire() []byte { return r.wire }

// Digest stands for all that the signature covers.
func (r *Record) Digest() Digest { return r.digest }

// Newer reports whether r replaces old, which has the same owner and key and may be nil. Two records of one time, which
// a sound owner never makes, are ordered by their digests so that all nodes keep the same one.
func (r *Record) Newer(old *Record) bool {
	if old == nil || r.Time != old.Time {
		return old == nil || r.Time > old.Time
	}
	return bytes.Compare(r.digest[:], old.digest[:]) > 0
}
