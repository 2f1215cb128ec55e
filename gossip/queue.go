package gossip

import (
	"container/list"
	"math"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/gossip/record"
)

// How a record spreads: at once to fanOut peers, then in a few rounds to repeat peers each. In a network of n nodes each
// node sends a record about ln n + 5 times in all; then all n get it but in one case of a hundred, which the digests heal.
const (
	fanOut     = 4
	repeat     = 3
	roundTime  = 100 * time.Millisecond
	maxRelayed = 4096 // records of others that wait in one table; beyond it the oldest is dropped, and healed by the digests
)

// rounds returns how often a record is sent again after the first time.
func rounds(nodes int) int {
	return int(math.Ceil((math.Log(float64(max(nodes, 2))) + 1) / repeat))
}

// queue holds a table's records that are to be sent. Each (owner, key) is in it at most once, in its newest version. What
// is new goes out in the order in which it came; this node's own goes first, but never takes all of a batch while others'
// waits (memberlist's own queue is last-in first-out, and starved local events in moby).
type queue struct {
	own, relayed, later *list.List // of *item; later is ordered by due, for all wait the same time
	index               map[itemKey]*list.Element
}

type itemKey struct {
	owner identity.NodeID
	key   string
}

type item struct {
	*record.Record
	list   *list.List
	own    bool
	rounds int
	due    time.Time // in later
}

func newQueue() queue {
	return queue{own: list.New(), relayed: list.New(), later: list.New(), index: make(map[itemKey]*list.Element)}
}

// add queues a record in place of an older version of it. It reports whether another record had to go for it.
func (q *queue) add(r *record.Record, own bool) (overflow bool) {
	at := itemKey{r.Owner, r.Key}
	if el := q.index[at]; el != nil {
		it := el.Value.(*item)
		if it.list != q.later {
			it.Record = r // keeps its place
			return false
		}
		q.remove(it.Record)
	}
	l := q.relayed
	if own {
		l = q.own
	} else if l.Len() >= maxRelayed {
		q.remove(l.Front().Value.(*item).Record)
		overflow = true
	}
	q.index[at] = l.PushBack(&item{Record: r, list: l, own: own})
	return overflow
}

// has reports whether some version of a record waits.
func (q *queue) has(r *record.Record) bool { return q.index[itemKey{r.Owner, r.Key}] != nil }

// remove takes a record's owner and key out.
func (q *queue) remove(r *record.Record) {
	at := itemKey{r.Owner, r.Key}
	if el := q.index[at]; el != nil {
		el.Value.(*item).list.Remove(el)
		delete(q.index, at)
	}
}

// take removes the new items of a batch whose packets may hold that many bytes together: its own ones, but while others'
// wait no more than three quarters, then others'.
func (q *queue) take(size int) (items []*item) {
	most := size
	if q.relayed.Len() > 0 {
		most = size * 3 / 4
	}
	used := 0
	for _, from := range []struct {
		list  *list.List
		limit int
	}{{q.own, most}, {q.relayed, size}, {q.own, size}} {
		for el := from.list.Front(); el != nil; el = from.list.Front() {
			it := el.Value.(*item)
			if used+len(it.Wire()) > from.limit {
				break
			}
			used += len(it.Wire())
			q.remove(it.Record)
			items = append(items, it)
		}
	}
	return items
}

// takeDue removes what is to be sent again.
func (q *queue) takeDue(now time.Time, size int) (items []*item) {
	for el := q.later.Front(); el != nil; el = q.later.Front() {
		it := el.Value.(*item)
		if size -= len(it.Wire()); size < 0 || it.due.After(now) {
			break
		}
		q.remove(it.Record)
		items = append(items, it)
	}
	return items
}

// again queues an item that was sent for its next round, if it has one left.
func (q *queue) again(it *item, now time.Time) {
	if it.rounds <= 0 {
		return
	}
	for q.later.Len() >= maxRelayed {
		q.remove(q.later.Front().Value.(*item).Record)
	}
	it.rounds--
	it.due, it.list = now.Add(roundTime), q.later
	q.index[itemKey{it.Owner, it.Key}] = q.later.PushBack(it)
}

// waiting returns how many of its own and of others' records are to be sent.
func (q *queue) waiting() (own, relayed int) { return q.own.Len(), q.relayed.Len() + q.later.Len() }

// next returns when there is something to send; false: there is nothing.
func (q *queue) next() (time.Time, bool) {
	if q.own.Len() > 0 || q.relayed.Len() > 0 {
		return time.Time{}, true
	}
	if el := q.later.Front(); el != nil {
		return el.Value.(*item).due, true
	}
	return time.Time{}, false
}
