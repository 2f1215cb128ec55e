package gossip

import (
	"maps"
	"slices"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
)

// smallTable is up to how many owners the digests of all are sent at once, without those of the buckets first.
const smallTable = 48

// fetchTime is after how long a transfer of a whole table counts as lost.
const fetchTime = 3 * time.Second

// sender returns the member that a message is answered to, if it may have the network's messages. g.mu is held.
func (g *Gossip) sender(h wire.Head) (*member, reason) {
	m := g.members[h.Sender]
	switch {
	case m == nil || m.node == nil:
		return nil, unknownSender
	case !h.Network.IsZero() && !g.takesPart(h.Sender, g.tables[h.Network]):
		return nil, notMember
	case g.tables[h.Network] == nil:
		return nil, unknownNetwork
	}
	return m, accepted
}

// takesPart reports whether a node takes part in a network. g.mu is held.
func (g *Gossip) takesPart(id identity.NodeID, t *table) bool {
	if t == nil || t.id.IsZero() {
		return t != nil
	}
	e := g.cluster().get(id, t.name)
	return e != nil && !e.Deleted
}

// answer runs f with the table and the member that a message of a network is answered to.
func (g *Gossip) answer(h wire.Head, f func(t *table, m *member) []letter) []letter {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, why := g.sender(h)
	if why != accepted {
		g.count.refuse(why)
		return nil
	}
	return f(g.tables[h.Network], m)
}

// onDigest compares digests. A first one is answered, and the answer, if it differs, is followed up.
func (g *Gossip) onDigest(h wire.Head, body []byte) ([]letter, error) {
	d, err := wire.ParseDigests(body)
	if err != nil {
		return nil, err
	}
	d.Attached = slices.DeleteFunc(d.Attached, func(r *record.Record) bool { return r.Owner != h.Sender })
	g.offer(state.NetworkID{}, d.Attached, false)
	return g.answer(h, func(_ *table, m *member) (out []letter) {
		now := time.Now()
		reply := wire.Digests{Answer: true}
		for _, s := range d.Sums {
			t := g.tables[s.Network]
			if t == nil || !g.takesPart(m.id, t) {
				g.count.refuse(notMember)
				continue
			}
			if !d.Answer {
				reply.Sums = append(reply.Sums, wire.Sum{Network: s.Network, Digest: t.digest})
			}
			if s.Digest == t.digest {
				g.count.equal.Add(1)
				g.caughtUp(t, now)
				continue
			}
			g.count.differ.Add(1)
			if d.Answer {
				out = append(out, g.descend(t, m, now))
			}
		}
		if len(d.Attached) > 0 {
			out = append(out, g.suspects(m)...)
		}
		if len(reply.Sums) > 0 {
			out = append(out, g.letter(g.cluster(), m, wire.Digest, reply.Append(nil)))
		}
		return slices.DeleteFunc(out, func(l letter) bool { return l.to == nil })
	}), nil
}

// caughtUp notes that a table is what a live peer has. g.mu is held.
func (g *Gossip) caughtUp(t *table, now time.Time) {
	if t.equal.IsZero() || t.waiters > 0 {
		g.notify()
		poke(g.nudge)
	}
	t.equal = now
}

// descend follows a difference up: by asking for the whole table if this node must catch up, by digests of parts otherwise.
// A letter to nobody means that nothing is to be sent. g.mu is held.
func (g *Gossip) descend(t *table, m *member, now time.Time) letter {
	if t.equal.IsZero() || t.waiters > 0 && now.Sub(t.waitFrom) > time.Second {
		if t.fetch.token != 0 && now.Sub(t.fetch.since) < fetchTime {
			return letter{}
		}
		t.fetch = fetch{token: g.cfg.Rand.Uint64() | 1, since: now, got: make(map[uint16]bool)}
		return g.letter(t, m, wire.Want, wire.Wants{Token: t.fetch.token}.Append(nil))
	}
	if len(t.owners) <= smallTable {
		return g.letter(t, m, wire.Owners, t.ownerSums(1<<buckets-1).Append(nil))
	}
	var sums wire.BucketSums
	for i, d := range t.buckets {
		sums[i] = wire.Shorten(d)
	}
	return g.letter(t, m, wire.Buckets, sums.Append(nil))
}

// ownerSums lists the owners in some buckets, and those that were dropped.
func (t *table) ownerSums(mask uint16) wire.OwnerSums {
	s := wire.OwnerSums{Mask: mask}
	for _, id := range t.sortedOwners(mask) {
		s.Sums = append(s.Sums, wire.OwnerSum{Owner: id, Digest: wire.Shorten(t.owners[id].digest)})
	}
	for id := range t.gone {
		if mask&(1<<bucketOf(id)) != 0 {
			s.Sums = append(s.Sums, wire.OwnerSum{Owner: id})
		}
	}
	return s
}

func (g *Gossip) onBuckets(h wire.Head, body []byte) ([]letter, error) {
	theirs, err := wire.ParseBuckets(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) []letter {
		var mask uint16
		for i, d := range theirs {
			if d != wire.Shorten(t.buckets[i]) {
				mask |= 1 << i
			}
		}
		if mask == 0 {
			return nil
		}
		return []letter{g.letter(t, m, wire.Owners, t.ownerSums(mask).Append(nil))}
	}), nil
}

func (g *Gossip) onOwners(h wire.Head, body []byte) ([]letter, error) {
	theirs, err := wire.ParseOwners(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) (out []letter) {
		differ := make(map[identity.NodeID]bool)
		for _, id := range t.sortedOwners(theirs.Mask) {
			differ[id] = true
		}
		gone := wire.OwnerSums{}
		for _, s := range theirs.Sums {
			o := t.owners[s.Owner]
			differ[s.Owner] = o == nil || wire.Shorten(o.digest) != s.Digest
			switch {
			case s.Digest == wire.Short{} && !g.isAlive(s.Owner):
				g.forget(t, s.Owner)
				differ[s.Owner] = false
			case t.gone[s.Owner]:
				gone.Sums = append(gone.Sums, wire.OwnerSum{Owner: s.Owner})
				differ[s.Owner] = false
			}
		}
		if len(gone.Sums) > 0 {
			out = append(out, g.letter(t, m, wire.Owners, gone.Append(nil)))
		}
		maps.DeleteFunc(differ, func(_ identity.NodeID, d bool) bool { return !d })
		if len(differ) == 0 {
			return out
		}
		return append(out, g.letter(t, m, wire.Summary, t.summarize(differ)))
	}), nil
}

// isAlive reports whether a node is held for alive. g.mu is held.
func (g *Gossip) isAlive(id identity.NodeID) bool {
	m := g.members[id]
	return id == g.cfg.Self || m != nil && m.state == Alive
}

// forget drops the records of a node that is dead for long, and refuses them until it lives. g.mu is held.
func (g *Gossip) forget(t *table, id identity.NodeID) {
	t.gone[id] = true
	if t.drop(id) {
		g.notify()
	}
}

// summarize is the body that lists the records of some owners, as many as a message may hold.
func (t *table) summarize(owners map[identity.NodeID]bool) (body []byte) {
	for _, id := range slices.SortedFunc(maps.Keys(owners), compareIDs) {
		s := wire.OwnerSummary{Owner: id}
		if o := t.owners[id]; o != nil {
			for key, e := range o.records {
				if e.counted {
					s.Entries = append(s.Entries, wire.Entry{
						Key: wire.HashOf(key), Time: e.Time, Digest: wire.Shorten(e.Digest()),
					})
				}
			}
		}
		if body = s.Append(body); len(body) > wire.ChunkBody {
			break
		}
	}
	return body
}

func (g *Gossip) onSummary(h wire.Head, body []byte) ([]letter, error) {
	theirs, err := wire.ParseSummary(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) (out []letter) {
		var send []*record.Record
		var want wire.Wants
		for _, s := range theirs {
			if t.gone[s.Owner] {
				continue
			}
			mine := t.byHash(s.Owner)
			for _, e := range s.Entries {
				have := mine[e.Key]
				delete(mine, e.Key)
				same := have != nil && have.Time == e.Time && wire.Shorten(have.Digest()) == e.Digest
				if have == nil || have.Time <= e.Time && !same {
					want.Keys = append(want.Keys, wire.Key{Owner: s.Owner, Hash: e.Key})
				}
				if have != nil && have.Time >= e.Time && !same {
					send = append(send, have.Record)
				}
			}
			for _, e := range mine {
				if e.counted {
					send = append(send, e.Record)
				}
			}
		}
		if len(want.Keys) > 0 {
			out = append(out, g.letter(t, m, wire.Want, want.Append(nil)))
		}
		return append(out, g.chunks(t, m, 0, send)...)
	}), nil
}

// byHash returns a node's records by the hashes of their keys.
func (t *table) byHash(id identity.NodeID) map[wire.Hash]*entry {
	all := make(map[wire.Hash]*entry)
	if o := t.owners[id]; o != nil {
		for key, e := range o.records {
			all[wire.HashOf(key)] = e
		}
	}
	return all
}

func (g *Gossip) onWant(h wire.Head, body []byte) ([]letter, error) {
	w, err := wire.ParseWants(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) []letter {
		if w.Token != 0 {
			return g.chunks(t, m, w.Token, t.all())
		}
		var send []*record.Record
		hashed := make(map[identity.NodeID]map[wire.Hash]*entry)
		for _, k := range w.Keys {
			if hashed[k.Owner] == nil {
				hashed[k.Owner] = t.byHash(k.Owner)
			}
			if e := hashed[k.Owner][k.Hash]; e != nil {
				send = append(send, e.Record)
				delete(hashed[k.Owner], k.Hash)
			}
		}
		return g.chunks(t, m, 0, send)
	}), nil
}

// chunks makes messages of records. With a token there is at least one, and they go over streams. g.mu is held.
func (g *Gossip) chunks(t *table, m *member, token uint64, records []*record.Record) (out []letter) {
	var all []wire.Chunk
	for len(records) > 0 {
		size, n := 0, 0
		for n < len(records) && size+len(records[n].Wire()) <= wire.ChunkBody-wire.ChunkHead {
			size += len(records[n].Wire())
			n++
		}
		all = append(all, wire.Chunk{Token: token, Records: records[:n]})
		records = records[n:]
	}
	if token != 0 && len(all) == 0 {
		all = []wire.Chunk{{Token: token}}
	}
	for i, c := range all {
		c.Index, c.Total = uint16(i), uint16(len(all))
		l := g.letter(t, m, wire.Records, c.Append(nil))
		l.stream = token != 0
		out = append(out, l)
	}
	return out
}

// onRecords enters records that this node lacked. The last chunk of a whole table makes it caught up.
func (g *Gossip) onRecords(h wire.Head, body []byte) error {
	c, err := wire.ParseChunk(h.Network, body)
	g.offer(h.Network, c.Records, false)
	if err != nil || c.Token == 0 {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tables[h.Network]
	if t == nil || t.fetch.token != c.Token {
		return nil
	}
	t.fetch.got[c.Index], t.fetch.since = true, time.Now()
	if len(t.fetch.got) == int(c.Total) {
		t.fetch = fetch{}
		g.caughtUp(t, time.Now())
	}
	return nil
}
