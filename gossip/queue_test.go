package gossip

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/gossip/record"
)

func TestOwnRecordsGoFirstButNotAlone(t *testing.T) {
	q := newQueue()
	for i := range 100 {
		q.add(signed(t, 1, red, record.Record{Key: fmt.Sprint("theirs", i)}), false)
		q.add(signed(t, 0, red, record.Record{Key: fmt.Sprint("own", i)}), true)
	}
	items := q.take(4000)
	own := 0
	for i, it := range items {
		if it.own {
			if own != i {
				t.Error("an own record goes behind a relayed one")
			}
			if it.Key != fmt.Sprint("own", own) {
				t.Errorf("%s goes at place %d: not in the order in which they came", it.Key, i)
			}
			own++
		}
	}
	if own == 0 || own == len(items) || own < len(items)/2 {
		t.Errorf("%d of %d are own ones, expected about three quarters", own, len(items))
	}
}

func TestANewerVersionReplacesTheQueuedOne(t *testing.T) {
	q := newQueue()
	for i := range 10 {
		q.add(signed(t, 0, red, record.Record{Key: "a", Time: uint64(i)}), true)
	}
	items := q.take(1 << 20)
	if len(items) != 1 || items[0].Time != 9 {
		t.Fatalf("%d items", len(items))
	}
	now := time.Unix(1, 0)
	items[0].rounds = 2
	q.again(items[0], now)
	q.add(signed(t, 0, red, record.Record{Key: "a", Time: 10}), true)
	if again := q.takeDue(now.Add(time.Hour), 1<<20); len(again) != 0 {
		t.Error("the old version is sent again")
	}
	if items = q.take(1 << 20); len(items) != 1 || items[0].Time != 10 {
		t.Error("the new version is not sent at once")
	}
}

func TestRelayedRecordsAreBoundedAndTheOldestGoes(t *testing.T) {
	q := newQueue()
	dropped := 0
	r := signed(t, 1, red, record.Record{Key: "k"})
	for i := range maxRelayed + 10 {
		copy := *r
		copy.Key = fmt.Sprint(i)
		if q.add(&copy, false) {
			dropped++
		}
	}
	if _, relayed := q.waiting(); relayed != maxRelayed || dropped != 10 || len(q.index) != maxRelayed {
		t.Errorf("%d wait, %d were dropped, %d are indexed", relayed, dropped, len(q.index))
	}
	if first := q.take(len(r.Wire())); first[0].Key != "10" {
		t.Errorf("the first is %s, expected the oldest that is left", first[0].Key)
	}
}

// Whatever is done to it, a queue has each record once, and its index is what its lists hold.
func TestTheQueueKeepsItsIndex(t *testing.T) {
	records := make([]*record.Record, 8)
	for i := range records {
		records[i] = signed(t, i%2, red, record.Record{Key: fmt.Sprint(i)})
	}
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue()
		now := time.Unix(1, 0)
		var out []*item
		t.Repeat(map[string]func(*rapid.T){
			"add":    func(t *rapid.T) { i := rapid.IntRange(0, 7).Draw(t, "record"); q.add(records[i], i%2 == 0) },
			"remove": func(t *rapid.T) { q.remove(records[rapid.IntRange(0, 7).Draw(t, "record")]) },
			"take":   func(t *rapid.T) { out = q.take(rapid.IntRange(0, 1000).Draw(t, "size")) },
			"due":    func(t *rapid.T) { out = q.takeDue(now, rapid.IntRange(0, 1000).Draw(t, "size")) },
			"again": func(t *rapid.T) {
				for _, it := range out {
					if it.rounds = 1; !q.has(it.Record) {
						q.again(it, now)
					}
				}
				out = nil
			},
			"wait": func(*rapid.T) { now = now.Add(roundTime) },
			"": func(t *rapid.T) {
				own, relayed := q.waiting()
				if own+relayed != len(q.index) {
					t.Fatalf("%d own, %d relayed, %d indexed", own, relayed, len(q.index))
				}
				for at, el := range q.index {
					if it := el.Value.(*item); it.Owner != at.owner || it.Key != at.key {
						t.Fatalf("%s is indexed as %s", it.Key, at.key)
					}
				}
			},
		})
	})
}

func TestMoreNodesNeedMoreRounds(t *testing.T) {
	for nodes, want := range map[int]int{0: 1, 2: 1, 3: 1, 10: 2, 100: 2, 300: 3} {
		if got := rounds(nodes); got != want {
			t.Errorf("%d nodes: %d rounds, expected %d", nodes, got, want)
		}
	}
}
