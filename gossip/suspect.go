package gossip

import (
	"net"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
)

// memberlist tells when a member is dead, but not that it is suspected, which comes many seconds earlier. So a node that owes
// an answer to a digest is pinged:
//
//	alive ── no answer to a digest, nor to any of three pings ──► suspect ── memberlist gives it up ──► dead
//	  ▲  ▲                                                          │                                    │
//	  │  └────────────────────────── a ping is answered ────────────┘                                    │
//	  └───────────────────────────────── memberlist has it again ────────────────────────────────────────┘
//
// and a suspicion is passed on, for the others to ping it at once too; nobody takes it on trust.

// recheckTime is how often a suspected member is pinged.
const recheckTime = 2 * time.Second

// A member counts as suspected when none of that many pings, that far apart, is answered.
const (
	pings   = 3
	pingGap = 100 * time.Millisecond
)

// check pings a member that was silent, and ends or begins the suspicion.
func (g *Gossip) check(m *member) {
	g.mu.Lock()
	node := *m.node
	g.mu.Unlock()
	answers := make(chan error, pings)
	for i := range pings {
		if !g.goDo(func() {
			select {
			case <-time.After(time.Duration(i) * pingGap):
				_, err := g.list.Ping(node.Name, net.UDPAddrFromAddrPort(addrOf(&node)))
				answers <- err
			case <-g.done:
				answers <- ErrClosed
			}
		}) {
			answers <- ErrClosed
		}
	}
	answered := false
	for range pings {
		if <-answers == nil {
			answered = true
			break
		}
	}
	g.mu.Lock()
	now := time.Now()
	m.checking, m.checked = false, now
	if m.unsure {
		m.unsure = false
		g.notify()
	}
	var out []letter
	switch {
	case g.closed:
	case answered:
		m.heard, m.asked = now, time.Time{}
		if m.state == Suspect {
			g.live(m, Alive)
			g.greet = append(g.greet, m.id)
		}
	case m.state == Alive:
		m.asked = time.Time{}
		g.live(m, Suspect)
		out = g.rumour(m)
	}
	g.mu.Unlock()
	g.post(out)
}

// silent returns the members that are to be pinged: those that did not answer a digest in time, and those that are
// suspected. g.mu is held.
func (g *Gossip) silent(now time.Time) (out []*member) {
	for _, m := range g.members {
		if m.unsure && now.Sub(m.since) > 2*g.pace.answer {
			m.unsure = false
			g.notify()
		}
		late := m.state == Alive && !m.asked.IsZero() && now.Sub(m.asked) > g.pace.answer
		if m.checking || m.node == nil || !late && (m.state != Suspect || now.Sub(m.checked) < recheckTime) {
			continue
		}
		m.checking = true
		out = append(out, m)
	}
	return out
}

// onSuspect hears that a node does not answer somebody. It is passed on at once, but believed only if the node does not
// answer this one either, or as long as this one has never heard of it: a newcomer's list of members is somebody else's word
// too.
func (g *Gossip) onSuspect(body []byte) ([]letter, error) {
	if len(body) != 16 {
		return nil, record.ErrTruncated
	}
	id := identity.NodeID(body)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	m := g.members[id]
	if m == nil || m.node == nil || m.state != Alive || m.checking || now.Sub(m.checked) < recheckTime || now.Sub(m.heard) < g.pace.answer {
		return nil, nil
	}
	if m.heard.IsZero() {
		g.live(m, Suspect)
		m.unsure = true
		poke(g.nudge)
		return nil, nil
	}
	if m.asked.IsZero() || now.Sub(m.asked) < g.pace.answer {
		m.asked = now.Add(-2 * g.pace.answer)
	}
	poke(g.nudge)
	return g.rumour(m), nil
}

// suspects tells a newcomer whom not to count on. g.mu is held.
func (g *Gossip) suspects(to *member) (out []letter) {
	for _, m := range g.members {
		if m.state == Suspect && m != to && len(out) < maxSuspects {
			out = append(out, g.letter(g.cluster(), to, wire.Suspect, m.id[:]))
		}
	}
	return out
}

// maxSuspects bounds how many a newcomer is told of.
const maxSuspects = 64

// rumour tells some members that one does not answer. g.mu is held.
func (g *Gossip) rumour(about *member) (out []letter) {
	for _, m := range g.pick(g.peersOf(state.NetworkID{}), fanOut) {
		if m != about {
			out = append(out, g.letter(g.cluster(), m, wire.Suspect, about.id[:]))
		}
	}
	return out
}
