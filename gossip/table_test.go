package gossip

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/gossip/record"
)

// The digests are kept by each change; this makes them anew, as an oracle.
func (t *table) recount() (all record.Digest, byBucket [buckets]record.Digest) {
	for id, o := range t.owners {
		for _, e := range o.records {
			if e.counted {
				all.Toggle(e.Digest())
				byBucket[bucketOf(id)].Toggle(e.Digest())
			}
		}
	}
	return all, byBucket
}

func TestTheDigestsAreThoseOfTheRecords(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable(red, start)
		now := start
		owner := rapid.IntRange(0, 3)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				r, err := record.New(keyOf(0), red, record.Record{
					Owner: idOf(owner.Draw(t, "owner")), Key: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "key")),
					Time: uint64(now.UnixMilli()), Deleted: rapid.Bool().Draw(t, "deleted"),
				})
				if err != nil {
					t.Fatal(err)
				}
				tab.put(r, now)
			},
			"drop":  func(t *rapid.T) { tab.drop(idOf(owner.Draw(t, "owner"))) },
			"raise": func(t *rapid.T) { tab.raise(idOf(owner.Draw(t, "owner")), uint64(now.UnixMilli()), now) },
			"sweep": func(t *rapid.T) { tab.sweep(now) },
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				if all, byBucket := tab.recount(); all != tab.digest || byBucket != tab.buckets {
					t.Fatal("the digests are not those of the records")
				}
			},
		})
	})
}

func TestATombstoneIsToldForItsLifeAndThenGoes(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	r := signed(t, 0, red, record.Record{Key: "a", Time: uint64(start.UnixMilli()), Deleted: true})
	for _, test := range []struct {
		name             string
		came, after      time.Duration
		told, remembered bool
	}{
		{"at once", 0, time.Second, true, true},
		{"near its end", 0, tombstoneLife - time.Second, true, true},
		{"after its end", 0, tombstoneLife + time.Second, false, false},
		{"one that came late is remembered longer", tombstoneLife - time.Minute, tombstoneLife + time.Minute, false, true},
		{"one of a clock that is far behind is not told but remembered", tombstoneLife + time.Hour, tombstoneLife + time.Hour + time.Minute, false, true},
		{"and goes", tombstoneLife + time.Hour, 2*tombstoneLife + time.Hour, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			tab := newTable(red, start)
			tab.put(r, start.Add(test.came))
			tab.sweep(start.Add(test.after))
			if told := tab.digest != (record.Digest{}); told != test.told {
				t.Errorf("told: %t, expected %t", told, test.told)
			}
			if remembered := tab.get(idOf(0), "a") != nil; remembered != test.remembered {
				t.Errorf("remembered: %t, expected %t", remembered, test.remembered)
			}
		})
	}
}
