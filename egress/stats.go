package egress

import "sync/atomic"

// counters are of one network.
type counters struct {
	opened, completed, broken, cut, abandoned, limited atomic.Uint64

	up, down atomic.Uint64 // of connections that have ended
	refused  [verdicts]atomic.Uint64
	failed   [outcomes]atomic.Uint64
}

// NetworkStats are of one network since it was made.
type NetworkStats struct {
	Connections int               `json:"connections"`         // open now, or being dialed
	Opened      uint64            `json:"opened"`              // dialed, with whatever result
	Completed   uint64            `json:"completed"`           // ended by both ends
	Broken      uint64            `json:"broken"`              // reset by one of them, or timed out
	Cut         uint64            `json:"cut"`                 // ended by us: the container went, or the policy forbade it
	Abandoned   uint64            `json:"abandoned"`           // the container gave up while the remote was dialed
	Limited     uint64            `json:"limited"`             // not dialed: the container has as many flows as it may
	Up          uint64            `json:"up"`                  // bytes from containers, of connections
	Down        uint64            `json:"down"`                //
	Forbidden   map[string]uint64 `json:"forbidden,omitempty"` // connections, datagrams and echo requests, by Verdict
	Failed      map[string]uint64 `json:"failed,omitempty"`    // dials, by what came of them
	Drops       map[string]uint64 `json:"drops,omitempty"`     // answers to datagrams that were not handed on
}

// Stats returns what was done so far.
func (n *Network) Stats() NetworkStats {
	c := &n.counters
	s := NetworkStats{
		Opened: c.opened.Load(), Completed: c.completed.Load(), Broken: c.broken.Load(), Cut: c.cut.Load(),
		Abandoned: c.abandoned.Load(), Limited: c.limited.Load(), Up: c.up.Load(), Down: c.down.Load(),
		Forbidden: make(map[string]uint64), Failed: make(map[string]uint64), Drops: n.datagrams.Drops.Snapshot(),
	}
	for v := range c.refused {
		if k := c.refused[v].Load(); k > 0 {
			s.Forbidden[Verdict(v).String()] = k
		}
	}
	for o := range c.failed {
		if k := c.failed[o].Load(); k > 0 {
			s.Failed[outcomeWords[o]] = k
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Connections = len(n.flows)
	for f := range n.flows {
		up, down := f.counters.Bytes()
		s.Up += up
		s.Down += down
	}
	return s
}
