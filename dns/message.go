package dns

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

// Header (RFC 1035 §4.1.1):
//
//	 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//	|                      ID                       |
//	|QR|   Opcode  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |
//	|         QDCOUNT       |        ANCOUNT        |
//	|         NSCOUNT       |        ARCOUNT        |
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
const (
	headerLen = 12

	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4
	opcode = 0xf << 11

	// What we take by UDP, and the most that we send: what fits the smallest MTU of IPv6, in no fragments.
	ourSize = 1232
	// minSize is what every resolver takes by UDP (RFC 1035 §4.2.1).
	minSize = 512
	// maxTCP is the longest message (RFC 1035 §4.2.2).
	maxTCP = 65535
)

// query is a question as it came. It refers to the message that it was parsed from.
type query struct {
	id       uint16
	flags    uint16
	qtype    uint16
	class    uint16
	question []byte // name, type and class as they came; empty if they cannot be read
	key      []byte // the name in lower case, with dots between labels; a dot within a label is a zero byte
	edns     bool
	do       bool
	size     int // the longest answer that the client takes by UDP

	name [maxName]byte // that the key lies in
}

// outcome of parsing: an answer to send without looking anything up, or no answer at all.
type outcome uint8

const (
	good      outcome = iota
	short             // no header: nothing to answer
	response          // no question: an answer to it could go round for ever
	malformed         // FORMERR
	notQuery          // NOTIMP: no updates, no notifications
	refused           // REFUSED: no transfers, no classes but IN
	version           // BADVERS
)

// parse reads a message. The answer to what is not good still has the ID, and the question if that could be read.
func (q *query) parse(b []byte) outcome {
	q.question, q.key, q.edns, q.do, q.size = nil, nil, false, false, minSize
	if len(b) < headerLen {
		return short
	}
	q.id, q.flags = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if q.flags&flagQR != 0 {
		return response
	}
	if q.flags&opcode != 0 {
		return notQuery
	}
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return malformed
	}
	end, ok := q.readName(b)
	if !ok || len(b) < end+4 {
		return malformed
	}
	q.qtype, q.class = binary.BigEndian.Uint16(b[end:]), binary.BigEndian.Uint16(b[end+2:])
	q.question = b[headerLen : end+4]
	before := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:]))
	if o := q.readRecords(b, end+4, before, int(binary.BigEndian.Uint16(b[10:]))); o != good {
		return o
	}
	if q.class != mdns.ClassINET {
		return refused
	}
	switch q.qtype {
	case mdns.TypeOPT, mdns.TypeNone:
		return malformed
	case mdns.TypeTKEY, mdns.TypeTSIG, mdns.TypeIXFR, mdns.TypeAXFR, mdns.TypeMAILB, mdns.TypeMAILA:
		return refused
	}
	return good
}

// readName reads the question's name, which nothing stands before that it could point to.
func (q *query) readName(b []byte) (end int, ok bool) {
	n, i := 0, headerLen
	for {
		if i >= len(b) {
			return 0, false
		}
		l := int(b[i])
		i++
		if l == 0 {
			break
		}
		if l > 63 || i+l > len(b) || i+l-headerLen >= maxName {
			return 0, false
		}
		if n > 0 {
			q.name[n] = '.'
			n++
		}
		for _, c := range b[i : i+l] {
			switch {
			case 'A' <= c && c <= 'Z':
				c += 'a' - 'A'
			case c == '.':
				c = 0
			}
			q.name[n] = c
			n++
		}
		i += l
	}
	q.key = q.name[:n]
	return i, true
}

// readRecords reads what stands behind the question, for the one record that matters in a query: OPT (RFC 6891 §6.1), among
// the additional ones.
func (q *query) readRecords(b []byte, at, before, additional int) outcome {
	for k := range before + additional {
		start := at
		at = skipName(b, at)
		if at < 0 || at+10 > len(b) {
			return malformed
		}
		kind, size := binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
		ttl, length := binary.BigEndian.Uint32(b[at+4:]), int(binary.BigEndian.Uint16(b[at+8:]))
		at += 10 + length
		if at > len(b) {
			return malformed
		}
		if kind != mdns.TypeOPT {
			continue
		}
		if k < before || q.edns || b[start] != 0 {
			return malformed
		}
		q.edns, q.do, q.size = true, ttl&(1<<15) != 0, min(max(int(size), minSize), ourSize)
		if ttl>>16&0xff != 0 {
			return version
		}
	}
	return good
}

// skipName returns what is behind a name; less than 0 if it ends nowhere.
func skipName(b []byte, at int) int {
	for at < len(b) {
		switch l := int(b[at]); {
		case l == 0:
			return at + 1
		case l >= 0xc0:
			return at + 2
		case l > 63:
			return -1
		default:
			at += 1 + l
		}
	}
	return -1
}
