package gossip

import (
	"maps"
	"slices"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

// smallTable is up to how many owners the digests of all are sent at once, without those of the buckets first.
const smallTable = 48

// fetchTime is after how long a transfer of a whole table counts as lost.
const fetchTime = 3 * time.Second

// sender returns the member that a message is answered to, if it may have the network's messages. g.mu is held.
func (g *Gossip) sender(h head) (*member, reason) {
	m := g.members[h.sender]
	switch {
	case m == nil || m.node == nil:
		return nil, unknownSender
	case !h.network.IsZero() && !g.takesPart(h.sender, g.tables[h.network]):
		return nil, notMember
	case g.tables[h.network] == nil:
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
func (g *Gossip) answer(h head, f func(t *table, m *member) []letter) []letter {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, why := g.sender(h)
	if why != accepted {
		g.count.refuse(why)
		return nil
	}
	return f(g.tables[h.network], m)
}

// onDigest compares digests. A first one is answered, and the answer, if it differs, is followed up.
func (g *Gossip) onDigest(h head, body []byte) ([]letter, error) {
	d, err := parseDigests(body)
	if err != nil {
		return nil, err
	}
	d.attached = slices.DeleteFunc(d.attached, func(r *record.Record) bool { return r.Owner != h.sender })
	g.offer(state.NetworkID{}, d.attached, false)
	return g.answer(h, func(_ *table, m *member) (out []letter) {
		now := time.Now()
		reply := digests{answer: true}
		for _, s := range d.sums {
			t := g.tables[s.network]
			if t == nil || !g.takesPart(m.id, t) {
				g.count.refuse(notMember)
				continue
			}
			if !d.answer {
				reply.sums = append(reply.sums, netDigest{s.network, t.digest})
			}
			if s.digest == t.digest {
				g.count.equal.Add(1)
				g.caughtUp(t, now)
				continue
			}
			g.count.differ.Add(1)
			if d.answer {
				out = append(out, g.descend(t, m, now))
			}
		}
		if len(reply.sums) > 0 {
			out = append(out, g.letter(g.cluster(), m, digestKind, reply.append(nil)))
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
		return g.letter(t, m, wantKind, wants{token: t.fetch.token}.append(nil))
	}
	if len(t.owners) <= smallTable {
		return g.letter(t, m, ownersKind, t.ownerSums(1<<buckets-1).append(nil))
	}
	var sums bucketSums
	for i, d := range t.buckets {
		sums[i] = shorten(d)
	}
	return g.letter(t, m, bucketsKind, sums.append(nil))
}

// ownerSums lists the owners in some buckets, and those that were dropped.
func (t *table) ownerSums(mask uint16) ownerSums {
	s := ownerSums{mask: mask}
	for _, id := range t.sortedOwners(mask) {
		s.sums = append(s.sums, ownerSum{id, shorten(t.owners[id].digest)})
	}
	for id := range t.gone {
		if mask&(1<<bucketOf(id)) != 0 {
			s.sums = append(s.sums, ownerSum{owner: id})
		}
	}
	return s
}

func (g *Gossip) onBuckets(h head, body []byte) ([]letter, error) {
	theirs, err := parseBuckets(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) []letter {
		var mask uint16
		for i, d := range theirs {
			if d != shorten(t.buckets[i]) {
				mask |= 1 << i
			}
		}
		if mask == 0 {
			return nil
		}
		return []letter{g.letter(t, m, ownersKind, t.ownerSums(mask).append(nil))}
	}), nil
}

func (g *Gossip) onOwners(h head, body []byte) ([]letter, error) {
	theirs, err := parseOwners(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) (out []letter) {
		differ := make(map[identity.NodeID]bool)
		for _, id := range t.sortedOwners(theirs.mask) {
			differ[id] = true
		}
		gone := ownerSums{}
		for _, s := range theirs.sums {
			o := t.owners[s.owner]
			differ[s.owner] = o == nil || shorten(o.digest) != s.digest
			switch {
			case s.digest == shortDigest{} && !g.isAlive(s.owner):
				g.forget(t, s.owner)
				differ[s.owner] = false
			case t.gone[s.owner]:
				gone.sums = append(gone.sums, ownerSum{owner: s.owner})
				differ[s.owner] = false
			}
		}
		if len(gone.sums) > 0 {
			out = append(out, g.letter(t, m, ownersKind, gone.append(nil)))
		}
		maps.DeleteFunc(differ, func(_ identity.NodeID, d bool) bool { return !d })
		if len(differ) == 0 {
			return out
		}
		return append(out, g.letter(t, m, summaryKind, t.summarize(differ)))
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
		s := summary{owner: id}
		if o := t.owners[id]; o != nil {
			for key, e := range o.records {
				if e.counted {
					s.entries = append(s.entries, summaryEntry{hashKey(key), e.Time, shorten(e.Digest())})
				}
			}
		}
		if body = appendSummaries(body, []summary{s}); len(body) > chunkBody {
			break
		}
	}
	return body
}

func (g *Gossip) onSummary(h head, body []byte) ([]letter, error) {
	theirs, err := parseSummaries(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) (out []letter) {
		var send []*record.Record
		var want wants
		for _, s := range theirs {
			if t.gone[s.owner] {
				continue
			}
			mine := t.byHash(s.owner)
			for _, e := range s.entries {
				have := mine[e.key]
				delete(mine, e.key)
				same := have != nil && have.Time == e.time && shorten(have.Digest()) == e.digest
				if have == nil || have.Time <= e.time && !same {
					want.keys = append(want.keys, wantKey{s.owner, e.key})
				}
				if have != nil && have.Time >= e.time && !same {
					send = append(send, have.Record)
				}
			}
			for _, e := range mine {
				if e.counted {
					send = append(send, e.Record)
				}
			}
		}
		if len(want.keys) > 0 {
			out = append(out, g.letter(t, m, wantKind, want.append(nil)))
		}
		return append(out, g.chunks(t, m, 0, send)...)
	}), nil
}

// byHash returns a node's records by the hashes of their keys.
func (t *table) byHash(id identity.NodeID) map[keyHash]*entry {
	all := make(map[keyHash]*entry)
	if o := t.owners[id]; o != nil {
		for key, e := range o.records {
			all[hashKey(key)] = e
		}
	}
	return all
}

func (g *Gossip) onWant(h head, body []byte) ([]letter, error) {
	w, err := parseWants(body)
	if err != nil {
		return nil, err
	}
	return g.answer(h, func(t *table, m *member) []letter {
		if w.token != 0 {
			return g.chunks(t, m, w.token, t.all())
		}
		var send []*record.Record
		hashed := make(map[identity.NodeID]map[keyHash]*entry)
		for _, k := range w.keys {
			if hashed[k.owner] == nil {
				hashed[k.owner] = t.byHash(k.owner)
			}
			if e := hashed[k.owner][k.key]; e != nil {
				send = append(send, e.Record)
				delete(hashed[k.owner], k.key)
			}
		}
		return g.chunks(t, m, 0, send)
	}), nil
}

// chunks makes messages of records. With a token there is at least one, and they go over streams. g.mu is held.
func (g *Gossip) chunks(t *table, m *member, token uint64, records []*record.Record) (out []letter) {
	var all []chunk
	for len(records) > 0 {
		size, n := 0, 0
		for n < len(records) && size+len(records[n].Wire()) <= chunkBody-chunkHead {
			size += len(records[n].Wire())
			n++
		}
		all = append(all, chunk{token: token, records: records[:n]})
		records = records[n:]
	}
	if token != 0 && len(all) == 0 {
		all = []chunk{{token: token}}
	}
	for i, c := range all {
		c.index, c.total = uint16(i), uint16(len(all))
		l := g.letter(t, m, recordsKind, c.append(nil))
		l.stream = token != 0
		out = append(out, l)
	}
	return out
}

// onRecords enters records that this node lacked. The last chunk of a whole table makes it caught up.
func (g *Gossip) onRecords(h head, body []byte) error {
	c, err := parseChunk(h.network, body)
	g.offer(h.network, c.records, false)
	if err != nil || c.token == 0 {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tables[h.network]
	if t == nil || t.fetch.token != c.token {
		return nil
	}
	t.fetch.got[c.index], t.fetch.since = true, time.Now()
	if len(t.fetch.got) == int(c.total) {
		t.fetch = fetch{}
		g.caughtUp(t, time.Now())
	}
	return nil
}
