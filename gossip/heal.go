package gossip

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
)

// healTick is how often a node looks whether there is something to do.
const healTick = 250 * time.Millisecond

// healAll looks after members and tables, now and then and when nudged.
func (g *Gossip) healAll(ctx context.Context) {
	ticker := time.NewTicker(healTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-g.nudge:
		case <-ctx.Done():
			return
		case <-g.done:
			return
		}
		g.heal(time.Now())
	}
}

// heal does what is due.
func (g *Gossip) heal(now time.Time) {
	g.mu.Lock()
	out := g.catchUp(now)
	out = append(out, g.greetSome(now)...)
	if !now.Before(g.due.exchange) {
		out = append(out, g.exchange(now)...)
		g.due.exchange = now.Add(jitter(g.pace.exchange, g.cfg.Rand))
	}
	if !now.Before(g.due.sweep) {
		g.sweep(now)
		g.due.sweep = now.Add(time.Second)
	}
	g.correct(now)
	silent := g.silent(now)
	dials := g.dialable(now)
	g.mu.Unlock()
	g.post(out)
	for _, m := range silent {
		g.goDo(func() { g.check(m) })
	}
	for _, addr := range dials {
		g.goDo(func() { g.redial(addr) })
	}
}

// jitter returns three to five quarters of d.
func jitter(d time.Duration, r *rand.Rand) time.Duration {
	return d*3/4 + time.Duration(r.Int64N(int64(d/2)+1))
}

// ask sends a member this node's digests of some tables. g.mu is held.
func (g *Gossip) ask(m *member, tables []*table, attach []*record.Record, now time.Time) letter {
	d := wire.Digests{Attached: attach}
	for _, t := range tables {
		d.Sums = append(d.Sums, wire.Sum{Network: t.id, Digest: t.digest})
	}
	if m.asked.IsZero() {
		m.asked = now
	}
	return g.letter(g.cluster(), m, wire.Digest, d.Append(nil))
}

// exchange sends digests of each network to one random participant. Networks that the same peer takes part in go together.
// g.mu is held.
func (g *Gossip) exchange(now time.Time) (out []letter) {
	covered := make(map[state.NetworkID]bool)
	for id := range g.tables {
		peers := g.peersOf(id)
		if covered[id] || len(peers) == 0 {
			continue
		}
		m := g.pick(peers, 1)[0]
		shared := []*table{g.tables[id]}
		for other, t := range g.tables {
			if other != id && !covered[other] && len(shared) < wire.MaxSums && g.takesPart(m.id, t) {
				shared = append(shared, t)
			}
		}
		for _, t := range shared {
			covered[t.id] = true
		}
		out = append(out, g.ask(m, shared, nil, now))
	}
	return out
}

// greetSome sends digests of all shared networks to members that came, some at a time, since one that heals a partition
// meets many. g.mu is held.
func (g *Gossip) greetSome(now time.Time) (out []letter) {
	n := min(len(g.greet), 4)
	for _, id := range g.greet[:n] {
		m := g.members[id]
		if m == nil || m.state != Alive || m.node == nil {
			continue
		}
		var shared []*table
		for _, t := range g.tables {
			if len(shared) < wire.MaxSums && g.takesPart(id, t) {
				shared = append(shared, t)
			}
		}
		out = append(out, g.ask(m, shared, nil, now))
	}
	g.greet = g.greet[n:]
	return out
}

// catchUp asks two peers of each table that is not what a live peer has yet, or that a Sync waits for. It shows them that
// this node takes part. g.mu is held.
func (g *Gossip) catchUp(now time.Time) (out []letter) {
	for id, t := range g.tables {
		if !t.equal.IsZero() && t.waiters == 0 || now.Sub(t.asked) < g.pace.catchUp {
			continue
		}
		peers := g.elders(t)
		if len(peers) == 0 {
			continue
		}
		t.asked = now
		key := t.name
		if id.IsZero() {
			key = nodeKey
		}
		var attach []*record.Record
		if e := g.cluster().get(g.cfg.Self, key); e != nil {
			attach = []*record.Record{e.Record}
		}
		for _, m := range g.pick(peers, 2) {
			out = append(out, g.ask(m, []*table{t}, attach, now))
		}
	}
	return out
}

// elders returns the peers that take part for longer than this node, who are the ones to learn from, or all if there are
// none. g.mu is held.
func (g *Gossip) elders(t *table) []*member {
	peers := g.peersOf(t.id)
	own := g.cluster().get(g.cfg.Self, t.name)
	if own == nil {
		return peers
	}
	older := slices.DeleteFunc(slices.Clone(peers), func(m *member) bool {
		e := g.cluster().get(m.id, t.name)
		return e == nil || e.Time >= own.Time
	})
	if len(older) == 0 {
		return peers
	}
	return older
}

// partTime is how long the records of an owner that lives are kept in a network without a word that it takes part.
const partTime = 15 * time.Second

// sweep drops the records and members that have had their time. g.mu is held.
func (g *Gossip) sweep(now time.Time) {
	changed := false
	for id, m := range g.members {
		_, known := g.cfg.Directory.PublicKey(id)
		switch {
		case !known:
			for _, t := range g.tables {
				changed = t.drop(id) || changed
				delete(t.gone, id)
			}
			g.live(m, Dead)
			m.expelled = true
			continue
		case m.expelled: // and taken back
			m.expelled = false
			if m.node != nil {
				g.live(m, Suspect)
			}
		case !m.guess.IsZero() && now.After(m.guess):
			m.guess = time.Time{}
			g.live(m, Dead)
		}
		if m.state == Dead && now.Sub(m.since) > g.cfg.Forget {
			for _, t := range g.tables {
				if t.owners[id] != nil {
					g.forget(t, id)
				}
			}
		}
	}
	cluster := g.cluster()
	for _, t := range g.tables {
		changed = t.sweep(now) || changed
		for id, o := range t.owners {
			m := g.members[id]
			if t.id.IsZero() || m == nil || m.state != Alive || cluster.equal.IsZero() || cluster.get(id, t.name) != nil {
				continue
			}
			if now.Sub(o.since) > partTime && now.Sub(m.since) > partTime {
				changed = t.drop(id) || changed
			}
		}
	}
	if changed {
		g.notify()
	}
}
