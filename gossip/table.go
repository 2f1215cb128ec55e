package gossip

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

// tombstoneLife is how long a deletion is told to others, and at least how long it is remembered, so that a node that was
// away cannot bring the record back. It is measured from the record's time, which all nodes see alike, and leaves room for
// a clock that is an hour off.
const tombstoneLife = 2 * time.Hour

// table is what is known of one network. Its digests are kept up to date with each change, so that they cost nothing to ask.
type table struct {
	id      state.NetworkID
	name    string       // the ID as text: its key in the cluster-wide table
	ring    *record.Ring // nil for the cluster-wide table, which only memberlist seals
	owners  map[identity.NodeID]*owner
	digest  record.Digest
	buckets [buckets]record.Digest // by the first four bits of the owner's ID
	queue   queue
	gone    map[identity.NodeID]bool // owners whose records were dropped because they are dead for long

	entered  time.Time
	equal    time.Time // when it last was what a live peer had; zero: not yet
	asked    time.Time // when peers were last asked because it must catch up
	waiters  int       // calls of Sync
	waitFrom time.Time // when the first of them came
	fetch    fetch     // the transfer of the whole table that is under way
}

// fetch is the transfer of a whole table from one peer.
type fetch struct {
	token uint64 // zero: none
	since time.Time
	got   map[uint16]bool
}

const buckets = 16

// maxRecords is how many records, tombstones too, one node may have in one network.
const maxRecords = 16384

func bucketOf(id identity.NodeID) int { return int(id[0] >> 4) }

// owner is one node's part of a table.
type owner struct {
	records map[string]*entry
	digest  record.Digest
	since   time.Time // when its first record came
	floor   uint64    // when it took part: older records are of an earlier life
	settle  time.Time // when records below the floor go; zero: there are none
}

// entry is a record with what this node alone knows of it.
type entry struct {
	*record.Record
	counted bool      // part of the digests; a tombstone is not, past its life
	since   time.Time // when it came
}

func newTable(id state.NetworkID, now time.Time) *table {
	return &table{
		id: id, name: id.String(), owners: make(map[identity.NodeID]*owner), gone: make(map[identity.NodeID]bool), entered: now, queue: newQueue(),
	}
}

// get returns what a node has under a key, a tombstone too, or nil.
func (t *table) get(id identity.NodeID, key string) *entry {
	if o := t.owners[id]; o != nil {
		return o.records[key]
	}
	return nil
}

// put enters a record, which is newer than what is there.
func (t *table) put(r *record.Record, now time.Time) {
	o := t.owners[r.Owner]
	if o == nil {
		o = &owner{records: make(map[string]*entry), since: now}
		t.owners[r.Owner] = o
	}
	if old := o.records[r.Key]; old != nil {
		t.count(o, old, false)
	}
	e := &entry{Record: r, since: now}
	o.records[r.Key] = e
	t.count(o, e, !e.expired(now))
}

// expired reports whether it is a tombstone that nobody needs to be told of any more.
func (e *entry) expired(now time.Time) bool {
	return e.Deleted && now.Sub(time.UnixMilli(int64(e.Time))) > tombstoneLife
}

// count takes an entry into the digests, or out of them.
func (t *table) count(o *owner, e *entry, in bool) {
	if e.counted == in {
		return
	}
	e.counted = in
	d := e.Digest()
	o.digest.Toggle(d)
	t.buckets[bucketOf(e.Owner)].Toggle(d)
	t.digest.Toggle(d)
}

// drop forgets all of a node, and reports whether there was anything.
func (t *table) drop(id identity.NodeID) bool {
	o := t.owners[id]
	if o == nil {
		return false
	}
	for _, e := range o.records {
		t.count(o, e, false)
		t.queue.remove(e.Record)
	}
	delete(t.owners, id)
	return true
}

// raise sets since when an owner takes part. What it told in an earlier life goes a little later, if it has not told it
// again by then, so that a restart does not make its records vanish and come back.
func (t *table) raise(id identity.NodeID, floor uint64, now time.Time) {
	o := t.owners[id]
	if o == nil || floor <= o.floor {
		return
	}
	o.floor, o.settle = floor, now.Add(settleTime)
}

// settleTime is how long a node that came back has to tell its records again.
const settleTime = 3 * time.Second

// sweep drops what has had its time, and reports whether any record went.
func (t *table) sweep(now time.Time) (changed bool) {
	for id, o := range t.owners {
		settled := !o.settle.IsZero() && now.After(o.settle)
		for key, e := range o.records {
			old := settled && e.Time < o.floor
			quiet := e.expired(now)
			if quiet {
				t.count(o, e, false)
			}
			if old || quiet && now.Sub(e.since) > tombstoneLife/2 {
				t.count(o, e, false)
				t.queue.remove(e.Record)
				delete(o.records, key)
				changed = changed || !e.Deleted
			}
		}
		if settled {
			o.settle = time.Time{}
		}
		if len(o.records) == 0 && o.settle.IsZero() {
			delete(t.owners, id)
		}
	}
	return changed
}

// sortedOwners returns the owners with anything in the digests whose buckets are in the mask, in order.
func (t *table) sortedOwners(mask uint16) []identity.NodeID {
	ids := make([]identity.NodeID, 0, len(t.owners))
	for id, o := range t.owners {
		if mask&(1<<bucketOf(id)) != 0 && o.digest != (record.Digest{}) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// all returns every counted record, in order.
func (t *table) all() (records []*record.Record) {
	for _, id := range t.sortedOwners(1<<buckets - 1) {
		o := t.owners[id]
		for _, key := range slices.Sorted(maps.Keys(o.records)) {
			if e := o.records[key]; e.counted {
				records = append(records, e.Record)
			}
		}
	}
	return records
}

func compareIDs(a, b identity.NodeID) int { return bytes.Compare(a[:], b[:]) }
