package dns

import (
	"context"
	"net/netip"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// Forwarded says how a Forwarder came by its answer.
type Forwarded struct {
	Server netip.AddrPort `json:"server"`
	Took   time.Duration  `json:"took"`
	Cached bool           `json:"cached"`
	Rcode  string         `json:"rcode,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// quota is how many of something there may be: in all, and of one container.
type quota struct {
	all, each int

	mu    sync.Mutex
	taken map[string]int
	total int
}

func newQuota(all, each int) *quota { return &quota{all: all, each: each, taken: make(map[string]int)} }

// take takes one for who, if there is one left.
func (q *quota) take(who string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total >= q.all || q.taken[who] >= q.each {
		return false
	}
	q.total++
	q.taken[who]++
	return true
}

// give returns one that who took.
func (q *quota) give(who string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.taken[who]--; q.taken[who] == 0 {
		delete(q.taken, who)
	}
}

func (q *quota) used() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// forward is a question that others are asked, with what its answer must look like. It refers to no buffer.
type forward struct {
	who   string
	query mdns.Msg
	edns  bool
	do    bool
	size  int
	tcp   bool
}

// newForward makes a message of a question. Of the client's it has only what the answer depends on: no cookies, no
// client subnets, no padding.
func newForward(q *query, who string, tcp bool) (*forward, bool) {
	name, _, err := mdns.UnpackDomainName(q.question, 0)
	if err != nil {
		return nil, false
	}
	f := &forward{who: who, edns: q.edns, do: q.do, size: q.size, tcp: tcp}
	if tcp {
		f.size = maxTCP
	}
	f.query.Id = q.id
	f.query.RecursionDesired = q.flags&flagRD != 0
	f.query.AuthenticatedData = q.flags&flagAD != 0
	f.query.CheckingDisabled = q.flags&flagCD != 0
	f.query.Question = []mdns.Question{{Name: name, Qtype: q.qtype, Qclass: q.class}}
	if q.edns {
		f.query.SetEdns0(ourSize, q.do)
	}
	return f, true
}

// take makes a forward of what the responder has parsed, within the limits. Whoever gets one must run and finish it.
func (v *service) take(r *responder, a *asker, tcp bool) (answer []byte, f *forward) {
	if v.config.Forwarder == nil {
		v.counters.drops[dropForwarder].Add(1)
	} else if !v.forwards.take(a.quota) {
		v.counters.drops[dropLimit].Add(1)
	} else if f, ok := newForward(&r.query, a.quota, tcp); ok {
		return nil, f
	} else {
		v.forwards.give(a.quota)
	}
	v.counters.rcodes[rcodeServerFailure].Add(1)
	return r.refuse(rcodeServerFailure, noError), nil
}

// run asks others, and returns the answer as the client wants it. What take took is given back by finish, when the answer has been sent: a
// client that does not read its answers holds as many as it may, and no more.
func (v *service) run(ctx context.Context, f *forward) []byte {
	ctx, cancel := context.WithTimeout(ctx, v.config.Timeout)
	defer cancel()
	m, err := v.config.Forwarder.Forward(ctx, &f.query, f.tcp)
	var b []byte
	if err == nil && m != nil {
		b, err = f.pack(m)
	}
	if err != nil || m == nil {
		v.counters.drops[dropForwarder].Add(1)
		m = f.failure()
		if b, err = f.pack(m); err != nil {
			return nil
		}
	}
	v.counters.rcode(m.Rcode)
	if m.Truncated {
		v.counters.truncated.Add(1)
	}
	return b
}

func (v *service) finish(f *forward) { v.forwards.give(f.who) }

func (f *forward) failure() *mdns.Msg {
	m := &mdns.Msg{}
	m.Rcode = rcodeServerFailure
	return m
}

// fit makes another's answer one to this question: it is not ours, it has our OPT record where the client had one, and it
// fits.
func (f *forward) fit(m *mdns.Msg) {
	m.Id, m.Opcode, m.Response, m.Authoritative, m.RecursionAvailable = f.query.Id, mdns.OpcodeQuery, true, false, true
	m.RecursionDesired, m.CheckingDisabled = f.query.RecursionDesired, f.query.CheckingDisabled
	m.AuthenticatedData = m.AuthenticatedData && (f.do || f.query.AuthenticatedData) // RFC 6840 §5.8
	m.Question = f.query.Question
	extra := make([]mdns.RR, 0, len(m.Extra)+1)
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != mdns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	m.Extra = extra
	if f.edns {
		m.SetEdns0(ourSize, f.do)
	} else if m.Rcode > 0xf {
		m.Rcode = rcodeServerFailure // without OPT it cannot be said
	}
	m.Compress = true
	m.Truncate(f.size)
}

func (f *forward) pack(m *mdns.Msg) ([]byte, error) {
	f.fit(m)
	return m.Pack()
}
