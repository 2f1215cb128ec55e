package wire

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

// Digests is the body of a Digest:
//
//	| flags 1: bit 0 it is an answer | count 1 | network 16, digest 16 ... | records of the cluster-wide table ... |
type Digests struct {
	Answer   bool
	Sums     []Sum
	Attached []*record.Record // by which a node that enters a network shows that it takes part
}

// Sum is the digest of one network.
type Sum struct {
	Network state.NetworkID
	Digest  record.Digest
}

// MaxSums is how many networks a Digest may list, so that it fits a packet with a record attached.
const MaxSums = 32

// Append writes the body.
func (d Digests) Append(b []byte) []byte {
	var flags byte
	if d.Answer {
		flags = 1
	}
	b = append(b, flags, byte(len(d.Sums)))
	for _, s := range d.Sums {
		b = append(b, s.Network[:]...)
		b = append(b, s.Digest[:]...)
	}
	return AppendRecords(b, d.Attached)
}

// ParseDigests is the inverse of Append.
func ParseDigests(b []byte) (d Digests, err error) {
	r := reader{b: b}
	d.Answer = r.byte()&1 != 0
	for n := r.byte(); n > 0 && !r.bad; n-- {
		d.Sums = append(d.Sums, Sum{r.id(), r.id()})
	}
	if r.bad {
		return d, r.err()
	}
	d.Attached, err = ParseRecords(state.NetworkID{}, r.b)
	return d, err
}

// Short is as much of a digest as tells two sets apart within one exchange.
type Short [8]byte

// Shorten returns the short form of a digest.
func Shorten(d record.Digest) Short { return Short(d[:8]) }

// Hash stands for a key.
type Hash [8]byte

// HashOf returns the hash of a key.
func HashOf(key string) Hash {
	sum := sha256.Sum256([]byte(key))
	return Hash(sum[:8])
}

// BucketSums is the body of Buckets: | digest 8 | sixteen times, by the first four bits of the owners' IDs.
type BucketSums [16]Short

// Append writes the body.
func (s BucketSums) Append(b []byte) []byte {
	for _, d := range s {
		b = append(b, d[:]...)
	}
	return b
}

// ParseBuckets is the inverse of Append.
func ParseBuckets(b []byte) (s BucketSums, err error) {
	r := reader{b: b}
	for i := range s {
		s[i] = r.short()
	}
	return s, r.err()
}

// OwnerSums is the body of Owners: | buckets that are listed 2 | owner 16, digest 8 ... |. An owner whose records the sender
// dropped because it is dead for long has the digest zero.
type OwnerSums struct {
	Mask uint16
	Sums []OwnerSum
}

// OwnerSum is the digest of one owner.
type OwnerSum struct {
	Owner  identity.NodeID
	Digest Short
}

// Append writes the body.
func (s OwnerSums) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, s.Mask)
	for _, o := range s.Sums {
		b = append(b, o.Owner[:]...)
		b = append(b, o.Digest[:]...)
	}
	return b
}

// ParseOwners is the inverse of Append.
func ParseOwners(b []byte) (s OwnerSums, err error) {
	r := reader{b: b}
	s.Mask = r.uint16()
	for r.more() {
		s.Sums = append(s.Sums, OwnerSum{r.id(), r.short()})
	}
	return s, r.err()
}

// OwnerSummary is one part of the body of a Summary, which has one for each of some owners:
//
//	| owner 16 | count 2 | hash of the key 8, time 8, digest 8 ... |
type OwnerSummary struct {
	Owner   identity.NodeID
	Entries []Entry
}

// Entry stands for one record.
type Entry struct {
	Key    Hash
	Time   uint64
	Digest Short
}

// Append writes the part.
func (s OwnerSummary) Append(b []byte) []byte {
	b = append(b, s.Owner[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Entries)))
	for _, e := range s.Entries {
		b = append(b, e.Key[:]...)
		b = binary.BigEndian.AppendUint64(b, e.Time)
		b = append(b, e.Digest[:]...)
	}
	return b
}

// ParseSummary reads the parts.
func ParseSummary(b []byte) (all []OwnerSummary, err error) {
	r := reader{b: b}
	for r.more() {
		s := OwnerSummary{Owner: r.id()}
		for n := r.uint16(); n > 0 && !r.bad; n-- {
			s.Entries = append(s.Entries, Entry{r.short(), r.uint64(), r.short()})
		}
		all = append(all, s)
	}
	return all, r.err()
}

// Chunk is the body of Records: | token 8 | index 2 | total 2 | records ... |. A whole table comes under the token of the Want,
// in that many chunks; other records come under token zero.
type Chunk struct {
	Token        uint64
	Index, Total uint16
	Records      []*record.Record
}

// ChunkHead is how much stands in front of the records.
const ChunkHead = 12

// Append writes the body.
func (c Chunk) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, c.Token)
	b = binary.BigEndian.AppendUint16(b, c.Index)
	b = binary.BigEndian.AppendUint16(b, c.Total)
	return AppendRecords(b, c.Records)
}

// ParseChunk is the inverse of Append.
func ParseChunk(network state.NetworkID, b []byte) (c Chunk, err error) {
	r := reader{b: b}
	c.Token, c.Index, c.Total = r.uint64(), r.uint16(), r.uint16()
	if r.bad {
		return c, r.err()
	}
	c.Records, err = ParseRecords(network, r.b)
	return c, err
}

// Wants is the body of a Want: | token 8 | owner 16, hash of the key 8 ... |. With a token it asks for the whole table.
type Wants struct {
	Token uint64
	Keys  []Key
}

// Key names one record.
type Key struct {
	Owner identity.NodeID
	Hash  Hash
}

// Append writes the body.
func (w Wants) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, w.Token)
	for _, k := range w.Keys {
		b = append(b, k.Owner[:]...)
		b = append(b, k.Hash[:]...)
	}
	return b
}

// ParseWants is the inverse of Append.
func ParseWants(b []byte) (w Wants, err error) {
	r := reader{b: b}
	w.Token = r.uint64()
	for r.more() {
		w.Keys = append(w.Keys, Key{r.id(), r.short()})
	}
	return w, r.err()
}
