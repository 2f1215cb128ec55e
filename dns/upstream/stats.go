package upstream

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Stats counts what a resolver has done.
type Stats struct {
	Questions uint64        `json:"questions"` // of clients
	Hits      uint64        `json:"hits"`      // answered from the cache
	Misses    uint64        `json:"misses"`    // each is a question to the servers
	Joined    uint64        `json:"joined"`    // waited for the answer to the same question of another client
	Refused   uint64        `json:"refused"`   // by the resolver itself: zone transfers, and what is no question
	Busy      uint64        `json:"busy"`      // ErrBusy
	Failed    uint64        `json:"failed"`    // questions to which no server gave an answer
	Ignored   uint64        `json:"ignored"`   // datagrams and messages that were no answer to what was asked: forged, late or broken
	TCP       uint64        `json:"tcp"`       // questions asked by TCP, since the answer is too large for UDP
	Under     int           `json:"under"`     // questions under way
	Entries   int           `json:"entries"`   // answers in the cache
	Bytes     int           `json:"bytes"`     // that they take
	Servers   []ServerStats `json:"servers"`   // in the order of preference that the configuration gives them
}

// ServerStats counts for one server.
type ServerStats struct {
	Address netip.AddrPort `json:"address"`
	Asked   uint64         `json:"asked"`
	Answers uint64         `json:"answers"` // of any kind
	Failed  uint64         `json:"failed"`  // no answer in time, or none possible
	Down    bool           `json:"down"`    // did not answer of late: the others are asked first
}

type counters struct {
	questions, hits, misses, joined, refused, busy, failed, ignored, tcp atomic.Uint64
}

// Stats returns the counters. Those of servers, and the cache, begin anew when the servers change.
func (r *Resolver) Stats() Stats {
	p := r.current().pool
	n := &r.count
	s := Stats{
		Questions: n.questions.Load(), Hits: n.hits.Load(), Misses: n.misses.Load(), Joined: n.joined.Load(), Refused: n.refused.Load(),
		Busy: n.busy.Load(), Failed: n.failed.Load(), Ignored: n.ignored.Load(), TCP: n.tcp.Load(),
	}
	r.mu.Lock()
	s.Under = r.under
	if p.cache != nil {
		s.Entries, s.Bytes = p.cache.entries.Len(), p.cache.bytes
	}
	r.mu.Unlock()
	now := time.Now()
	for _, v := range p.servers {
		s.Servers = append(s.Servers, ServerStats{
			Address: v.at, Asked: v.asked.Load(), Answers: v.answers.Load(), Failed: v.failed.Load(), Down: v.down(now),
		})
	}
	return s
}
