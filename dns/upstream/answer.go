package upstream

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// question is what a client wants to know, all that an answer depends on, and nothing else about the client.
type question struct {
	name        string // in lower case
	kind, class uint16
	recurse     bool // RD
	unchecked   bool // CD, RFC 4035 §3.2.2
	proofs      bool // DO, RFC 3225
}

func ask(q *dns.Msg) question {
	k := question{
		name: dns.CanonicalName(q.Question[0].Name), kind: q.Question[0].Qtype, class: q.Question[0].Qclass,
		recurse: q.RecursionDesired, unchecked: q.CheckingDisabled,
	}
	if opt := q.IsEdns0(); opt != nil {
		k.proofs = opt.Do()
	}
	return k
}

func (q question) String() string {
	kind, ok := dns.TypeToString[q.kind]
	if !ok {
		kind = fmt.Sprintf("TYPE%d", q.kind)
	}
	return q.name + " " + kind
}

// payload is the size of UDP answers that we ask for: one that no path cuts into fragments (DNS flag day 2020).
const payload = 1232

// message returns the question as it is sent. A server is asked for the AD bit always, since one answer serves many (RFC 6840 §5.7).
func (q question) message(id uint16, edns bool) *dns.Msg {
	m := &dns.Msg{
		MsgHdr:   dns.MsgHdr{Id: id, RecursionDesired: q.recurse, CheckingDisabled: q.unchecked, AuthenticatedData: true},
		Question: []dns.Question{{Name: q.name, Qtype: q.kind, Qclass: q.class}},
	}
	if edns {
		m.SetEdns0(payload, q.proofs)
	}
	return m
}

// answer is what a server said, for every client that asks the same.
type answer struct {
	wire  []byte // without id and OPT
	rcode int
	at    time.Time     // when it came
	life  time.Duration // how long it may be given again; 0: not at all
	from  netip.AddrPort
	tcp   bool
	took  time.Duration
}

// maxRcode is the last code that a message's header has room for; the rest of greater ones is in the OPT record (RFC 6891 §6.1.3).
const maxRcode = 0xF

// newAnswer makes an answer of a message, which it takes over.
func newAnswer(q question, m *dns.Msg, trustAD bool) (*answer, error) {
	a := &answer{rcode: m.Rcode, at: time.Now()}
	m.Id, m.Authoritative, m.Zero, m.Compress = 0, false, false, true
	m.AuthenticatedData = m.AuthenticatedData && trustAD
	m.Extra = slices.DeleteFunc(m.Extra, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeOPT })
	m.Question = []dns.Question{{Name: q.name, Qtype: q.kind, Qclass: q.class}}
	if m.Rcode > maxRcode { // that was about our OPT record, and means nothing to a client
		m.Rcode = dns.RcodeServerFailure
	}
	a.life = life(q, m)
	var err error
	if a.wire, err = m.Pack(); err == nil {
		err = m.Unpack(a.wire) // not all that could be read and written can be read again
	}
	return a, err
}

// longest is how long an answer is kept at most.
const longest = time.Hour

// life returns how long an answer may be given again: as long as the shortest TTL in it, and, if it says that there is no such name or
// no such record, as long as the zone's SOA says (RFC 2308 §5). Failures are not kept: they may be over when the next client asks.
func life(q question, m *dns.Msg) time.Duration {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	shortest := uint32(longest / time.Second)
	found := false
	for _, r := range m.Answer {
		found = found || r.Header().Rrtype == q.kind || q.kind == dns.TypeANY
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, r := range section {
			shortest = min(shortest, ttl(r))
		}
	}
	if m.Rcode == dns.RcodeSuccess && found {
		return time.Duration(shortest) * time.Second
	}
	for _, r := range m.Ns {
		if soa, ok := r.(*dns.SOA); ok {
			return time.Duration(min(shortest, soa.Minttl)) * time.Second
		}
	}
	return 0 // a "no" without a SOA, or a referral
}

// ttl returns a record's TTL; one with the highest bit set counts as 0 (RFC 2181 §8).
func ttl(r dns.RR) uint32 {
	if t := r.Header().Ttl; t <= 1<<31-1 {
		return t
	}
	return 0
}

// give returns the answer as one client gets it: with its id, its spelling of the name, and TTLs that have run since.
func (a *answer) give(q *dns.Msg, now time.Time) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(a.wire); err != nil {
		return nil, fmt.Errorf("upstream: an answer that was well-formed is no more: %w", err)
	}
	lower := m.Question[0].Name
	m.Id, m.RecursionDesired, m.CheckingDisabled = q.Id, q.RecursionDesired, q.CheckingDisabled
	m.Compress = true
	m.Question = []dns.Question{q.Question[0]}
	if opt := q.IsEdns0(); !q.AuthenticatedData && (opt == nil || !opt.Do()) {
		m.AuthenticatedData = false // it did not ask (RFC 6840 §5.8)
	}
	gone := uint32(max(0, now.Sub(a.at)) / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, r := range section {
			h := r.Header()
			h.Ttl = ttl(r) - min(ttl(r), gone)
			if strings.EqualFold(h.Name, lower) {
				h.Name = q.Question[0].Name
			}
		}
	}
	return m, nil
}

// refuse answers what is not forwarded.
func refuse(q *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q, rcode)
	m.RecursionAvailable = true
	return m
}
