package gossip

import (
	"bytes"
	"context"
	"time"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
)

// What may wait to be handled. Beyond it messages are dropped, and healed by the digests.
const (
	inboxSize  = 4096
	inboxLimit = 16 << 20
)

// receive takes a message from memberlist's packet loop, which must not wait: it handles the newest message first and drops
// what is too much, so a queue of our own keeps the order.
func (g *Gossip) receive(b []byte) {
	if len(b) > wire.MaxMessage {
		g.count.refuse(tooLarge)
		return
	}
	if g.inboxBytes.Add(int64(len(b))) <= inboxLimit {
		select {
		case g.inbox <- bytes.Clone(b):
			return
		default:
		}
	}
	g.inboxBytes.Add(-int64(len(b)))
	g.count.refuse(inboxFull)
}

// handleAll handles the messages, one after the other.
func (g *Gossip) handleAll(ctx context.Context) {
	for {
		select {
		case b := <-g.inbox:
			g.inboxBytes.Add(-int64(len(b)))
			g.handle(b)
		case <-ctx.Done():
			return
		case <-g.done:
			return
		}
	}
}

// handle does what a message asks for.
func (g *Gossip) handle(b []byte) {
	h, err := wire.ParseHead(b)
	if err != nil {
		g.count.refuse(reasonOf(err))
		return
	}
	if _, ok := g.cfg.Directory.PublicKey(h.Sender); !ok || h.Sender == g.cfg.Self {
		g.count.refuse(unknownSender)
		return
	}
	body, why := g.open(h, b)
	if why != accepted {
		g.count.refuse(why)
		return
	}
	g.count.receive(h.Kind, len(b))
	g.heard(h)
	var out []letter
	switch h.Kind {
	case wire.Push:
		var records []*record.Record
		records, err = wire.ParseRecords(h.Network, body)
		g.offer(h.Network, records, true)
	case wire.Records:
		err = g.onRecords(h, body)
	case wire.Digest:
		out, err = g.onDigest(h, body)
	case wire.Buckets:
		out, err = g.onBuckets(h, body)
	case wire.Owners:
		out, err = g.onOwners(h, body)
	case wire.Summary:
		out, err = g.onSummary(h, body)
	case wire.Want:
		out, err = g.onWant(h, body)
	case wire.Suspect:
		out, err = g.onSuspect(body)
	}
	if err != nil {
		g.count.refuse(reasonOf(err))
	}
	g.post(out)
}

// open returns what a message says.
func (g *Gossip) open(h wire.Head, b []byte) ([]byte, reason) {
	g.mu.Lock()
	t := g.tables[h.Network]
	var ring *record.Ring
	if t != nil {
		ring = t.ring
	}
	g.mu.Unlock()
	switch {
	case t == nil:
		return nil, unknownNetwork
	case h.Network.IsZero():
		return b[wire.HeadSize:], accepted
	case h.Kind == wire.Digest || h.Kind == wire.Suspect:
		return nil, malformed // these are cluster-wide
	}
	body, err := ring.Open(b, wire.HeadSize)
	if err != nil {
		return nil, reasonOf(err)
	}
	return body, accepted
}

// heard notes that a member lives. That does not end a suspicion, for it could be an old message that somebody sent again.
func (g *Gossip) heard(h wire.Head) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[h.Sender]; m != nil {
		m.heard, m.asked = time.Now(), time.Time{}
		if m.state == Suspect {
			m.checked = time.Time{} // a ping is due
		}
	}
}

// offer enters records that others sent. Those that were pushed because they are new are passed on.
func (g *Gossip) offer(network state.NetworkID, records []*record.Record, pushed bool) {
	for _, r := range records {
		g.mu.Lock()
		why := g.judge(network, r, pushed)
		g.mu.Unlock()
		if why == accepted || why == ownUnknown {
			// The signature is what costs: only for what would be new, and without the lock.
			if key, ok := g.cfg.Directory.PublicKey(r.Owner); !ok {
				why = unknownOwner
			} else if r.Verify(key, network) != nil {
				why = badSignature
			} else {
				g.mu.Lock()
				if why = g.judge(network, r, pushed); why == accepted {
					g.accept(g.tables[network], r, pushed)
				} else if why == ownUnknown {
					g.clock = max(g.clock, r.Time)
					g.strays[itemKeyOf{network, r.Key}] = true
				}
				g.mu.Unlock()
			}
		}
		if why != accepted {
			g.count.refuse(why)
		}
	}
}

// judge says whether a record is news. g.mu is held.
func (g *Gossip) judge(network state.NetworkID, r *record.Record, pushed bool) reason {
	t := g.tables[network]
	if t == nil {
		return unknownNetwork
	}
	if t.gone[r.Owner] {
		return ownerGone
	}
	e := t.get(r.Owner, r.Key)
	if e != nil && e.Digest() == r.Digest() {
		return duplicate
	}
	if e != nil && !r.Newer(e.Record) {
		return stale
	}
	if !network.IsZero() {
		if p := g.cluster().get(r.Owner, t.name); p != nil && p.Deleted && r.Time <= p.Time {
			return ownerLeft
		} else if p != nil && !p.Deleted && r.Time < p.Time {
			return earlierLife
		} else if p == nil && !pushed && !g.cluster().equal.IsZero() && r.Owner != g.cfg.Self && g.isAlive(r.Owner) {
			return ownerLeft // else two nodes that drop it at different times would give it to each other for ever
		}
	}
	if r.Owner == g.cfg.Self {
		return ownUnknown
	}
	if o := t.owners[r.Owner]; e == nil && o != nil && len(o.records) >= maxRecords {
		return tooMany
	}
	return accepted
}

// accept enters a record of another node. g.mu is held.
func (g *Gossip) accept(t *table, r *record.Record, pushed bool) {
	now := time.Now()
	if g.members[r.Owner] == nil {
		m := g.member(r.Owner)
		if pushed { // fresh news of a node whose joining memberlist has not told yet
			m.guess = now.Add(guessTime)
			g.live(m, Alive)
		} else {
			m.unsure, g.due.check = true, time.Time{}
			poke(g.nudge)
		}
	}
	t.put(r, now)
	if (pushed || t.queue.has(r)) && t.queue.add(r, false) {
		g.count.refuse(relayFull)
	}
	poke(g.kick)
	g.entered(t, r, now)
	g.notify()
}

// guessTime is how long a node counts as alive that memberlist has not told of.
const guessTime = 5 * time.Second

// entered draws the consequences of a record of the cluster-wide table: who takes part in what. g.mu is held.
func (g *Gossip) entered(t *table, r *record.Record, now time.Time) {
	if !t.id.IsZero() || r.Key == nodeKey {
		return
	}
	id, err := state.ParseNetworkID(r.Key)
	if err != nil {
		return
	}
	delete(g.peers, id)
	if of := g.tables[id]; of != nil && r.Owner != g.cfg.Self {
		if r.Deleted {
			of.drop(r.Owner)
		} else {
			of.raise(r.Owner, r.Time, now)
		}
	}
}

// write makes a record of this node and sends it. g.mu is held.
func (g *Gossip) write(t *table, key string, value []byte, deleted bool) error {
	now := time.Now()
	at := max(g.clock+1, uint64(now.UnixMilli()))
	r, err := record.New(g.cfg.Key, t.id, record.Record{
		Owner: g.cfg.Self, Key: key, Value: value, Time: at, Deleted: deleted,
	})
	if err != nil {
		return err
	}
	g.clock = at
	t.put(r, now)
	t.queue.add(r, true)
	g.entered(t, r, now)
	poke(g.kick)
	g.notify()
	return nil
}

// correct has this node's last word about records of its own that it met but did not write in this life: what it has it
// tells again under a newer time, what it does not have it deletes once it had the time to put it again. g.mu is held.
func (g *Gossip) correct(now time.Time) {
	for at := range g.strays {
		t := g.tables[at.network]
		if t == nil {
			delete(g.strays, at)
			continue
		}
		e := t.get(g.cfg.Self, at.key)
		if e == nil && now.Sub(t.entered) < settleTime {
			continue
		}
		delete(g.strays, at)
		live := e != nil && !e.Deleted
		var value []byte
		if live {
			value = e.Value
		}
		err := g.write(t, at.key, value, !live)
		if id, bad := state.ParseNetworkID(at.key); err == nil && t.id.IsZero() && bad == nil && live {
			err = g.reassert(id)
		}
		if err != nil {
			g.log.Error("gossip: correct", "network", at.network, "key", at.key, "err", err)
		}
	}
}

// reassert tells all own records of a network again, after this node's taking part in it got a newer time. g.mu is held.
func (g *Gossip) reassert(network state.NetworkID) error {
	t := g.tables[network]
	if t == nil || t.owners[g.cfg.Self] == nil {
		return nil
	}
	for key, e := range t.owners[g.cfg.Self].records {
		if err := g.write(t, key, e.Value, e.Deleted); err != nil {
			return err
		}
	}
	return nil
}
