package gossip

import (
	"encoding/binary"
	"errors"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

const (
	version  = 1
	headSize = 2 + 16 + 16
	// packetSize is the largest message that fits a packet: 1400 bytes without what memberlist adds (type, checksum, its
	// own sealing). packetBody is how much its body may hold.
	packetSize = 1400 - 35
	packetBody = packetSize - headSize - record.Overhead
	// chunkBody bounds a body that goes over a stream, maxMessage any message.
	chunkBody  = 128 << 10
	maxMessage = 4 << 20
)

// kind is what a message is for.
type kind byte

const (
	pushKind    kind = 1 + iota // records that are new to the sender
	digestKind                  // digests of the networks that the sender shares with the receiver
	bucketsKind                 // digests of the owners by the first bits of their IDs
	ownersKind                  // digest of each owner in some buckets
	summaryKind                 // times of each record of some owners
	recordsKind                 // records that the receiver lacks
	wantKind                    // which records the sender lacks
	suspectKind                 // a node that does not answer the sender
	kindEnd
)

var kindNames = [kindEnd]string{"", "push", "digest", "buckets", "owners", "summary", "records", "want", "suspect"}

// head stands in front of each message, in clear.
type head struct {
	kind    kind
	sender  identity.NodeID
	network state.NetworkID
}

func (h head) append(b []byte) []byte {
	b = append(b, version, byte(h.kind))
	b = append(b, h.sender[:]...)
	return append(b, h.network[:]...)
}

var errVersion = errors.New("unknown version or kind")

func parseHead(b []byte) (h head, err error) {
	if len(b) < headSize {
		return h, record.ErrTruncated
	}
	if h.kind = kind(b[1]); b[0] != version || h.kind == 0 || h.kind >= kindEnd {
		return h, errVersion
	}
	return head{h.kind, identity.NodeID(b[2:18]), state.NetworkID(b[18:34])}, nil
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

// digests is the body of digestKind:
//
//	| flags 1: bit 0 it is an answer | count 1 | network 16, digest 16 ... | records of the cluster-wide table ... |
type digests struct {
	answer   bool
	sums     []netDigest
	attached []*record.Record // by which a node that enters a network shows that it takes part
}

type netDigest struct {
	network state.NetworkID
	digest  record.Digest
}

// maxDigests is how many networks a digest message may list, so that it fits a packet with a record attached.
const maxDigests = 32

func (d digests) append(b []byte) []byte {
	var flags byte
	if d.answer {
		flags = 1
	}
	b = append(b, flags, byte(len(d.sums)))
	for _, s := range d.sums {
		b = append(b, s.network[:]...)
		b = append(b, s.digest[:]...)
	}
	return appendRecords(b, d.attached)
}

func parseDigests(b []byte) (d digests, err error) {
	r := reader{b: b}
	d.answer = r.byte()&1 != 0
	for n := r.byte(); n > 0 && !r.bad; n-- {
		d.sums = append(d.sums, netDigest{r.id(), r.id()})
	}
	if r.bad {
		return d, r.err()
	}
	d.attached, err = parseRecords(state.NetworkID{}, r.b)
	return d, err
}

func appendRecords(b []byte, records []*record.Record) []byte {
	for _, r := range records {
		b = append(b, r.Wire()...)
	}
	return b
}

func parseRecords(network state.NetworkID, b []byte) (records []*record.Record, err error) {
	for len(b) > 0 {
		var r *record.Record
		if r, b, err = record.Parse(network, b); err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}

// shortDigest is as much of a digest as tells two sets apart within one exchange.
type shortDigest [8]byte

func shorten(d record.Digest) shortDigest { return shortDigest(d[:8]) }

// bucketSums is the body of bucketsKind: | digest 8 | sixteen times.
type bucketSums [buckets]shortDigest

func (s bucketSums) append(b []byte) []byte {
	for _, d := range s {
		b = append(b, d[:]...)
	}
	return b
}

func parseBuckets(b []byte) (s bucketSums, err error) {
	r := reader{b: b}
	for i := range s {
		s[i] = r.short()
	}
	return s, r.err()
}

// ownerSums is the body of ownersKind: | buckets that are listed 2 | owner 16, digest 8 ... |. An owner whose records the
// sender dropped because it is dead for long has the digest zero.
type ownerSums struct {
	mask uint16
	sums []ownerSum
}

type ownerSum struct {
	owner  identity.NodeID
	digest shortDigest
}

func (s ownerSums) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, s.mask)
	for _, o := range s.sums {
		b = append(b, o.owner[:]...)
		b = append(b, o.digest[:]...)
	}
	return b
}

func parseOwners(b []byte) (s ownerSums, err error) {
	r := reader{b: b}
	s.mask = r.uint16()
	for r.more() {
		s.sums = append(s.sums, ownerSum{r.id(), r.short()})
	}
	return s, r.err()
}

// summary is the body of summaryKind, for one owner after the other:
//
//	| owner 16 | count 2 | hash of the key 8, time 8, digest 8 ... |
type summary struct {
	owner   identity.NodeID
	entries []summaryEntry
}

type summaryEntry struct {
	key    keyHash
	time   uint64
	digest shortDigest
}

func appendSummaries(b []byte, all []summary) []byte {
	for _, s := range all {
		b = append(b, s.owner[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(s.entries)))
		for _, e := range s.entries {
			b = append(b, e.key[:]...)
			b = binary.BigEndian.AppendUint64(b, e.time)
			b = append(b, e.digest[:]...)
		}
	}
	return b
}

func parseSummaries(b []byte) (all []summary, err error) {
	r := reader{b: b}
	for r.more() {
		s := summary{owner: r.id()}
		for n := r.uint16(); n > 0 && !r.bad; n-- {
			s.entries = append(s.entries, summaryEntry{r.short(), r.uint64(), r.short()})
		}
		all = append(all, s)
	}
	return all, r.err()
}

// chunk is the body of recordsKind: | token 8 | index 2 | total 2 | records ... |. A whole table comes under the token of the
// want, in that many chunks; other records come under token zero.
type chunk struct {
	token        uint64
	index, total uint16
	records      []*record.Record
}

const chunkHead = 12

func (c chunk) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, c.token)
	b = binary.BigEndian.AppendUint16(b, c.index)
	b = binary.BigEndian.AppendUint16(b, c.total)
	return appendRecords(b, c.records)
}

func parseChunk(network state.NetworkID, b []byte) (c chunk, err error) {
	r := reader{b: b}
	c.token, c.index, c.total = r.uint64(), r.uint16(), r.uint16()
	if r.bad {
		return c, r.err()
	}
	c.records, err = parseRecords(network, r.b)
	return c, err
}

// wants is the body of wantKind: | token 8 | owner 16, hash of the key 8 ... |. With a token it asks for the whole table.
type wants struct {
	token uint64
	keys  []wantKey
}

type wantKey struct {
	owner identity.NodeID
	key   keyHash
}

func (w wants) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, w.token)
	for _, k := range w.keys {
		b = append(b, k.owner[:]...)
		b = append(b, k.key[:]...)
	}
	return b
}

func parseWants(b []byte) (w wants, err error) {
	r := reader{b: b}
	w.token = r.uint64()
	for r.more() {
		w.keys = append(w.keys, wantKey{r.id(), r.short()})
	}
	return w, r.err()
}
