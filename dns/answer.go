package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	mdns "github.com/miekg/dns"
)

// responder makes answers, one at a time, in buffers of its own: it allocates only for an answer larger than any before.
type responder struct {
	query query
	b     []byte
	limit int // of the answer's length, less what its OPT record takes
	cut   bool
	count [3]uint16 // records: answers, authority, additional
	order []uint32
	zone  *Zone
	ttl   uint32
}

// The sections of a message.
const (
	answers = iota
	authorities
	additionals
)

// A shorter answer with OPT has room for it and for one extended error (RFC 8914 §2).
const (
	optLen   = 11
	errorLen = 6
)

// Extended errors (RFC 8914 §4).
const (
	noError        = 0xffff
	errProhibited  = mdns.ExtendedErrorCodeProhibited
	errUnreachable = mdns.ExtendedErrorCodeNoReachableAuthority
)

// begin starts an answer with the question as it came.
func (r *responder) begin(size int) {
	r.b = append(r.b[:0], make([]byte, headerLen)...)
	r.b = append(r.b, r.query.question...)
	r.limit, r.cut, r.count = size, false, [3]uint16{}
	if r.query.edns {
		r.limit -= optLen + errorLen
	}
}

// end completes the answer: OPT record and header.
func (r *responder) end(rcode int, authoritative bool, extended uint16) []byte {
	q := &r.query
	if q.edns {
		r.appendOPT(rcode, extended)
	}
	flags := flagQR | flagRA | q.flags&(opcode|flagRD|flagCD) | uint16(rcode&0xf)
	if authoritative {
		flags |= flagAA
	}
	if r.cut {
		flags |= flagTC
	}
	binary.BigEndian.PutUint16(r.b, q.id)
	binary.BigEndian.PutUint16(r.b[2:], flags)
	if len(q.question) > 0 {
		r.b[5] = 1
	}
	for i, n := range r.count {
		binary.BigEndian.PutUint16(r.b[6+2*i:], n)
	}
	return r.b
}

// appendOPT appends our OPT record: root, type, size, extended rcode, version 0, DO.
func (r *responder) appendOPT(rcode int, extended uint16) {
	r.b = append(r.b, 0, 0, byte(mdns.TypeOPT), ourSize>>8, ourSize&0xff, byte(rcode>>4), 0, 0, 0)
	if r.query.do {
		r.b[len(r.b)-2] = 0x80
	}
	if extended == noError {
		r.b = append(r.b, 0, 0)
	} else {
		r.b = append(r.b, 0, errorLen, 0, mdns.EDNS0EDE, 0, 2, byte(extended>>8), byte(extended))
	}
	r.count[additionals]++
}

// refuse answers with a code alone.
func (r *responder) refuse(rcode int, extended uint16) []byte {
	r.begin(minSize)
	return r.end(rcode, false, extended)
}

// answer makes the answer to a question that others are not asked about.
func (r *responder) answer(z *Zone, res *result, size int) []byte {
	if res.rule == ruleInternal {
		return r.refuse(res.rcode, errProhibited)
	}
	r.zone, r.ttl = z, z.ttl
	r.begin(size)
	extended := uint16(noError)
	if res.entry != nil && !res.entry.live() || res.member != nil && res.member.hidden() {
		r.ttl, extended = min(r.ttl, 1), errUnreachable
	}
	if res.rcode == rcodeSuccess {
		r.records(res)
	}
	if r.count[answers] == 0 && !r.cut {
		r.soa(authorities, res.zone)
	}
	return r.end(res.rcode, true, extended)
}

// records appends what a name has of the type asked for.
func (r *responder) records(res *result) {
	switch r.query.qtype {
	case mdns.TypeA:
		if res.entry != nil && res.port == nil {
			r.addresses(answers, headerLen, res.entry.v4)
		}
	case mdns.TypeAAAA:
		if res.entry != nil && res.port == nil {
			r.addresses(answers, headerLen, res.entry.v6)
		}
	case mdns.TypeSRV:
		if res.port != nil {
			r.services(res)
		}
	case mdns.TypePTR:
		if m := res.member; m != nil && !m.hidden() {
			r.pointer(m)
		}
	case mdns.TypeSOA:
		if res.apex {
			r.soa(answers, 0)
		}
	case mdns.TypeANY: // RFC 8482 §4.2
		if r.record(answers, headerLen, mdns.TypeHINFO, 9) {
			r.b = append(r.b, "\x07RFC8482\x00"...)
		}
	}
}

// record appends a record up to its data, of which length bytes must follow, unless there is no room. The owner is an offset into the message.
func (r *responder) record(section, owner int, kind uint16, length int) bool {
	if len(r.b)+12+length > r.limit {
		r.cut = r.cut || section == answers // RFC 2181 §9
		return false
	}
	r.b = append(r.b, 0xc0|byte(owner>>8), byte(owner), byte(kind>>8), byte(kind), 0, mdns.ClassINET)
	r.b = binary.BigEndian.AppendUint32(r.b, r.ttl)
	r.b = append(r.b, byte(length>>8), byte(length))
	r.count[section]++
	return true
}

// shuffle returns a permutation of n that next makes on the way, so that an answer with room for few costs no more than these.
func (r *responder) shuffle(n int) []uint32 {
	r.order = r.order[:0]
	for i := range n {
		r.order = append(r.order, uint32(i))
	}
	return r.order
}

func next(order []uint32, i int) int {
	j := i + rand.IntN(len(order)-i)
	order[i], order[j] = order[j], order[i]
	return int(order[i])
}

// addresses appends address records in random order; it reports false if some had no room.
func (r *responder) addresses(section, owner int, all []netip.Addr) bool {
	order := r.shuffle(len(all))
	for i := range order {
		a := all[next(order, i)]
		if a.Is4() {
			if !r.record(section, owner, mdns.TypeA, 4) {
				return false
			}
			v := a.As4()
			r.b = append(r.b, v[:]...)
			continue
		}
		if !r.record(section, owner, mdns.TypeAAAA, 16) {
			return false
		}
		v := a.As16()
		r.b = append(r.b, v[:]...)
	}
	return true
}

// path is a member's name in the form that leads to it from each of its networks.
func (m *member) path(b []byte) ([]byte, bool) {
	if m.network == nil {
		return appendName(b, m.name)
	}
	return appendName(b, m.name, m.network.name)
}

// pointer appends the name of an address.
func (r *responder) pointer(m *member) {
	var room [maxName]byte
	if name, ok := m.path(room[:0]); ok && r.record(answers, headerLen, mdns.TypePTR, len(name)) {
		r.b = append(r.b, name...)
	}
}

// services appends SRV records, with the addresses of their targets where there is room. Targets are written in full (RFC 2782).
func (r *responder) services(res *result) {
	targets := make([]target, 0, 8)
	sources := res.entry.sources
	order := r.shuffle(len(sources))
next:
	for i := range order {
		m := sources[next(order, i)].member
		port, ok := m.exposes(res.port, res.proto)
		if m.hidden() || !ok {
			continue
		}
		var room [maxName]byte
		name, ok := m.path(room[:0])
		if !ok {
			continue
		}
		for k := range targets {
			t := &targets[k]
			if t.port == port && string(r.b[t.at:t.at+t.length]) == string(name) { // two containers of one name
				targets = append(targets, target{member: m, port: port, at: t.at, length: t.length})
				continue next
			}
		}
		if !r.record(answers, headerLen, mdns.TypeSRV, 6+len(name)) {
			break
		}
		r.b = append(r.b, 0, 0, 0, 0, byte(port>>8), byte(port)) // of equal priority, without weight
		targets = append(targets, target{member: m, port: port, at: len(r.b), length: len(name)})
		r.b = append(r.b, name...)
	}
	for _, t := range targets {
		if t.at >= 1<<14 || !r.addresses(additionals, t.at, t.v4) || !r.addresses(additionals, t.at, t.v6) {
			return
		}
	}
}

// target is one of an SRV answer's, and where its name lies in the message.
type target struct {
	*member
	port   uint16
	at     int
	length int
}

// soa appends our SOA. Its owner is the part of the question's name from an offset of its key on: label by label, key and name
// are as long, but that the name has one byte before the first.
func (r *responder) soa(section, zone int) {
	const times = 20
	data := len(r.zone.authority) + times
	owner := headerLen + zone
	if zone >= len(r.query.key) {
		owner = len(r.query.question) - 5 + headerLen // the zero byte at the name's end
	}
	if !r.record(section, owner, mdns.TypeSOA, data) {
		return
	}
	r.b = append(r.b, r.zone.authority...)
	for _, v := range [times / 4]uint32{1, 3600, 600, 86400, r.ttl} { // serial, refresh, retry, expire, minimum (RFC 2308 §4)
		r.b = binary.BigEndian.AppendUint32(r.b, v)
	}
}
