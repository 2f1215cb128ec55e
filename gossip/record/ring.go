package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weftnet/weft/cluster/state"
)

// Overhead is what sealing adds: the key's epoch and the nonce in front, the tag behind.
const Overhead = 8 + nonceSize + 16

const nonceSize = 12

// Why a message cannot be opened.
var (
	ErrEpoch = errors.New("unknown key epoch")
	ErrSeal  = errors.New("bad seal")
)

// Ring seals and opens with the keys of a keyring, by AES-256-GCM under random nonces. A key lives for hours and seals some
// hundred messages a second at most, far from the 2^32 at which random nonces become a risk (NIST SP 800-38D, 8.3). A Ring
// is immutable.
//
//	 0       8       20
//	+-------+-------+--------------------+-----+
//	| epoch | nonce | sealed             | tag |
//	| 8     | 12    |                    | 16  |
//	+-------+-------+--------------------+-----+
type Ring struct {
	primary uint64
	keys    map[uint64]cipher.AEAD
}

// NewRing reads a keyring.
func NewRing(keys state.Keyring) (*Ring, error) {
	r := &Ring{primary: keys.Primary, keys: make(map[uint64]cipher.AEAD, len(keys.Keys))}
	for _, k := range keys.Keys {
		if len(k.Secret) != 32 {
			return nil, fmt.Errorf("key of epoch %d has %d bytes, expected 32", k.Epoch, len(k.Secret))
		}
		block, err := aes.NewCipher(k.Secret)
		if err != nil {
			return nil, err
		}
		if r.keys[k.Epoch], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
	}
	if r.keys[r.primary] == nil {
		return nil, fmt.Errorf("no key of the primary epoch %d among the %d of the keyring", r.primary, len(keys.Keys))
	}
	return r, nil
}

// Seal appends to head what opens with the primary key and the same head.
func (r *Ring) Seal(head, body []byte) []byte {
	out := make([]byte, len(head), len(head)+Overhead+len(body))
	copy(out, head)
	out = binary.BigEndian.AppendUint64(out, r.primary)
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails (crypto/rand)
	out = append(out, nonce[:]...)
	return r.keys[r.primary].Seal(out, nonce[:], body, out[:len(head)+8])
}

// Open is the inverse of Seal for a message whose first bytes, of that number, are the head.
func (r *Ring) Open(message []byte, head int) ([]byte, error) {
	if len(message) < head+Overhead {
		return nil, ErrTruncated
	}
	b := message[head:]
	aead := r.keys[binary.BigEndian.Uint64(b)]
	if aead == nil {
		return nil, ErrEpoch
	}
	body, err := aead.Open(nil, b[8:8+nonceSize], b[8+nonceSize:], message[:head+8])
	if err != nil {
		return nil, ErrSeal
	}
	return body, nil
}
