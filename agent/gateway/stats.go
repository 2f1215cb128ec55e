package gateway

import (
	"maps"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/vxlan"
)

// Names returns what was asked for, and how it was answered.
func (s *Set) Names() *api.NameStats {
	n, u := s.names.Stats(), s.upstream.Stats()
	all := &api.NameStats{
		UDP: n.UDP, TCP: n.TCP, Rules: n.Rules, Rcodes: n.Rcodes, Drops: n.Drops, Outstanding: n.Outstanding, Cached: u.Hits, Servers: []api.NameServer{},
	}
	for _, server := range u.Servers {
		all.Servers = append(all.Servers, api.NameServer(server))
	}
	return all
}

// Outside returns what a network's router and its way out have done, nil if it has none.
func (s *Set) Outside(v vxlan.VNI) *api.OutsideStats {
	s.mu.Lock()
	g := s.gates[v]
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	e, r := g.egress.Stats(), g.router.Stats()
	all := &api.OutsideStats{
		Connections: e.Connections, Opened: e.Opened, Limited: e.Limited, Sent: e.Up, Received: e.Down, Forbidden: e.Forbidden, Failed: e.Failed,
		Retransmits: r.TCP.Retransmits, Drops: r.Drops,
	}
	for reason, count := range e.Drops {
		all.Drops[reason] += count
	}
	for what, count := range map[string]uint64{
		"half-open": r.TCP.Ignored, "fragments-late": r.Fragments.TimedOut, "fragments-overlapping": r.Fragments.Overlapped, "fragments-too-many": r.Fragments.Crowded,
	} {
		all.Drops[what] = count
	}
	maps.DeleteFunc(all.Drops, func(_ string, count uint64) bool { return count == 0 })
	return all
}
