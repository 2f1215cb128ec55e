package dns

import (
	"sync/atomic"

	mdns "github.com/miekg/dns"
)

// Stats is what a Server has counted since it was made. What has not occurred is left out of the maps.
type Stats struct {
	UDP         uint64            `json:"udp"`         // questions that came
	TCP         uint64            `json:"tcp"`         //
	Conns       int               `json:"conns"`       // TCP connections now
	Outstanding int               `json:"outstanding"` // questions with the forwarder now
	Rules       map[string]uint64 `json:"rules"`       // questions by what decided on them, as Explanation says
	Rcodes      map[string]uint64 `json:"rcodes"`      // answers
	Truncated   uint64            `json:"truncated"`
	Drops       map[string]uint64 `json:"drops"` // what got no answer, or SERVFAIL, or lost its connection
}

// Reasons of drops.
const (
	dropShort     = iota // no header
	dropResponse         // not a question
	dropNetwork          // of a network that the zone does not have: SERVFAIL
	dropLimit            // too many outstanding questions: SERVFAIL
	dropForwarder        // nobody to ask, or no answer: SERVFAIL
	dropSend             // the answer could not be sent
	dropConns            // too many TCP connections
	dropLong             // longer than any question
	dropSource           // from no address

	numDrops = iota
)

var dropNames = [numDrops]string{
	dropShort:     "short",
	dropResponse:  "response",
	dropNetwork:   "network",
	dropLimit:     "limit",
	dropForwarder: "forwarder",
	dropSend:      "send",
	dropConns:     "conns",
	dropLong:      "long",
	dropSource:    "source",
}

// numRcodes are those that are counted each; the last has the rest.
const numRcodes = 32

type counters struct {
	udp, tcp  atomic.Uint64
	truncated atomic.Uint64
	rules     [numRules]atomic.Uint64
	rcodes    [numRcodes]atomic.Uint64
	drops     [numDrops]atomic.Uint64
}

func (c *counters) rcode(code int) { c.rcodes[min(uint(code), numRcodes-1)].Add(1) }

// Stats returns what the server has counted.
func (s *Server) Stats() Stats {
	c := &s.counters
	return Stats{
		UDP:         c.udp.Load(),
		TCP:         c.tcp.Load(),
		Conns:       s.conns.used(),
		Outstanding: s.forwards.used(),
		Rules:       occurred(c.rules[:], func(i int) string { return rule(i).String() }),
		Rcodes:      occurred(c.rcodes[:], rcodeName),
		Truncated:   c.truncated.Load(),
		Drops:       occurred(c.drops[:], func(i int) string { return dropNames[i] }),
	}
}

func occurred(c []atomic.Uint64, name func(int) string) map[string]uint64 {
	m := make(map[string]uint64)
	for i := range c {
		if n := c[i].Load(); n > 0 {
			m[name(i)] += n
		}
	}
	return m
}

func rcodeName(code int) string {
	if code == rcodeBadVersion {
		return "BADVERS" // its number is BADSIG's too
	}
	if name, ok := mdns.RcodeToString[code]; ok {
		return name
	}
	return "other"
}
