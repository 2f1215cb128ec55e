// Package wire is the format of gossip's messages, within memberlist's user messages. Numbers are big-endian.
//
//	 0         1      2        18        34      42      54
//	+---------+------+--------+---------+-------+-------+-------------+-----+
//	| version | kind | sender | network | epoch | nonce | sealed body | tag |
//	| 1       | 1    | 16     | 16      | 8     | 12    |             | 16  |
//	+---------+------+--------+---------+-------+-------+-------------+-----+
//	                                    '- absent for the zero network: only memberlist seals it
//
// Each kind of body is drawn at its type; a push is records one after the other, a suspicion the ID of a node.
package wire

import (
	"encoding/binary"
	"errors"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

// Sizes. A message of at most PacketSize fits a packet of 1400 bytes with what memberlist adds (type, checksum, its own
// sealing); PacketBody is what its body may hold. ChunkBody bounds the bodies that are made for a stream, and MaxMessage
// any message that is read.
const (
	HeadSize   = 2 + 16 + 16
	PacketSize = 1400 - 35
	PacketBody = PacketSize - HeadSize - record.Overhead
	ChunkBody  = 128 << 10
	MaxMessage = 4 << 20
)

// Version is the format's.
const Version = 1

// ErrVersion says that a message is of another version, or of no known kind.
var ErrVersion = errors.New("unknown version or kind")

// Kind is what a message is for.
type Kind byte

// The kinds.
const (
	Push    Kind = 1 + iota // records that are new to the sender
	Digest                  // digests of the networks that the sender shares with the receiver
	Buckets                 // digests of the owners by the first bits of their IDs
	Owners                  // digest of each owner in some buckets
	Summary                 // times of each record of some owners
	Records                 // records that the receiver lacks
	Want                    // which records the sender lacks
	Suspect                 // a node that does not answer the sender
	Kinds                   // how many there are, and one
)

var names = [Kinds]string{"", "push", "digest", "buckets", "owners", "summary", "records", "want", "suspect"}

// String returns the kind as counters name it.
func (k Kind) String() string {
	if k >= Kinds {
		return "unknown"
	}
	return names[k]
}

// Head stands in front of each message, in clear.
type Head struct {
	Kind    Kind
	Sender  identity.NodeID
	Network state.NetworkID
}

// Append writes the head.
func (h Head) Append(b []byte) []byte {
	b = append(b, Version, byte(h.Kind))
	b = append(b, h.Sender[:]...)
	return append(b, h.Network[:]...)
}

// ParseHead reads the head of a message.
func ParseHead(b []byte) (h Head, err error) {
	if len(b) < HeadSize {
		return h, record.ErrTruncated
	}
	if h.Kind = Kind(b[1]); b[0] != Version || h.Kind == 0 || h.Kind >= Kinds {
		return h, ErrVersion
	}
	return Head{h.Kind, identity.NodeID(b[2:18]), state.NetworkID(b[18:34])}, nil
}

// reader takes fields off a body. After the first that is missing all are zero, and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte         { return r.take(1)[0] }
func (r *reader) uint16() uint16     { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint64() uint64     { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) more() bool         { return len(r.b) > 0 && !r.bad }
func (r *reader) id() (id [16]byte)  { copy(id[:], r.take(16)); return id }
func (r *reader) short() (d [8]byte) { copy(d[:], r.take(8)); return d }

func (r *reader) err() error {
	if r.bad {
		return record.ErrTruncated
	}
	return nil
}

// AppendRecords writes records one after the other.
func AppendRecords(b []byte, records []*record.Record) []byte {
	for _, r := range records {
		b = append(b, r.Wire()...)
	}
	return b
}

// ParseRecords is the inverse of AppendRecords. With an error it returns the records before it.
func ParseRecords(network state.NetworkID, b []byte) (records []*record.Record, err error) {
	for len(b) > 0 {
		var r *record.Record
		if r, b, err = record.Parse(network, b); err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}
