package upstream

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// pool is a set of servers, with what was asked of them and what they said: an answer of other servers is another answer.
type pool struct {
	servers []*server
	conf    Conf
	turn    atomic.Uint32 // with rotate: which server is first

	// Guarded by the resolver's lock.
	flights map[question]*flight
	cache   *cache
}

func newPool(c Conf, limits *Config) *pool {
	p := &pool{conf: c, flights: make(map[question]*flight), cache: newCache(limits.Entries, limits.Bytes)}
	for _, at := range c.Servers {
		p.servers = append(p.servers, &server{at: at})
	}
	return p
}

// server is one of them, and how it does.
type server struct {
	at       netip.AddrPort
	until    atomic.Int64 // it counts as down until then; 0: it does not
	answered atomic.Int64 // when it last did

	asked, answers, failed atomic.Uint64
}

// Times of servers that do not answer.
const (
	penalty  = 30 * time.Second       // how long such a one is asked last
	patience = 200 * time.Millisecond // that one question then has, to find out whether it answers again
)

func (s *server) down(now time.Time) bool { return s.until.Load() > now.UnixNano() }

// seen notes that it is there.
func (s *server) seen(now time.Time) {
	s.answered.Store(now.UnixNano())
	s.until.Store(0)
}

// miss notes that a question of that time got no answer. It does not count against a server that answered others meanwhile: then it is
// the name that is slow to find.
func (s *server) miss(since, now time.Time) {
	s.failed.Add(1)
	if s.answered.Load() < since.UnixNano() {
		s.until.Store(now.Add(penalty).UnixNano())
	}
}

// probe reports, to one question in each penalty, that a server was down for long enough to try it first again.
func (s *server) probe(now time.Time) bool {
	until := s.until.Load()
	return until != 0 && until <= now.UnixNano() && s.until.CompareAndSwap(until, now.Add(penalty).UnixNano())
}

// step is one server's turn.
type step struct {
	*server
	wait time.Duration // before the next one is asked
}

// attempts is how often a server is asked if the configuration does not say: a datagram may be lost. A lone one is asked once more.
const attempts = 2

// plan returns whom to ask, one after the other, within a time. Servers keep their order, since the host's owner gave it to them;
// those that are down come last, until one question finds that they are not.
func (p *pool) plan(now time.Time, within time.Duration, avoid func(netip.Addr) bool) []step {
	var probed, up, down []*server
	for _, s := range p.servers {
		switch {
		case avoid(s.at.Addr()):
		case s.down(now):
			down = append(down, s)
		case s.until.Load() == 0:
			up = append(up, s)
		case s.probe(now):
			probed = append(probed, s)
		default: // another question finds that out right now
			down = append(down, s)
		}
	}
	if n := len(up); n > 1 && p.conf.Rotate {
		i := int(p.turn.Add(1)) % n
		up = slices.Concat(up[i:], up[:i])
	}
	all := slices.Concat(probed, up, down)
	times := p.conf.Attempts
	if times == 0 {
		times = attempts
		if len(all) == 1 {
			times++
		}
	}
	wait := within / time.Duration(max(1, times*len(all)))
	if p.conf.Timeout > 0 {
		wait = min(wait, p.conf.Timeout)
	}
	steps := make([]step, 0, times*len(all))
	for range times {
		for _, s := range all {
			steps = append(steps, step{s, wait})
		}
	}
	if len(up) > 0 {
		for i := range probed {
			steps[i].wait = min(wait, patience)
		}
	}
	return steps
}
