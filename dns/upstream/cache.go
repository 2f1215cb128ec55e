package upstream

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache holds answers, those used last, within a number and within a size. It is its owner's lock that guards it.
type cache struct {
	entries *simplelru.LRU[question, *answer]
	bytes   int
	most    int
}

// newCache returns a cache; nil, which holds nothing, if it may have no entries.
func newCache(entries, bytes int) *cache {
	if entries <= 0 {
		return nil
	}
	c := &cache{most: bytes}
	c.entries, _ = simplelru.NewLRU(entries, func(q question, a *answer) { c.bytes -= size(q, a) }) // it fails for no entries alone
	return c
}

// overhead is about what an entry takes beside its bytes.
const overhead = 256

func size(q question, a *answer) int { return overhead + len(q.name) + len(a.wire) }

func (c *cache) get(q question, now time.Time) *answer {
	if c == nil {
		return nil
	}
	a, ok := c.entries.Get(q)
	if !ok {
		return nil
	}
	if !now.Before(a.at.Add(a.life)) {
		c.entries.Remove(q)
		return nil
	}
	return a
}

// add adds an answer to a question that has none here: it was asked since get found none.
func (c *cache) add(q question, a *answer) {
	if c == nil || a.life <= 0 {
		return
	}
	c.bytes += size(q, a)
	c.entries.Add(q, a)
	for c.bytes > c.most {
		c.entries.RemoveOldest()
	}
}
