package gossip

import (
	"errors"
	"sync/atomic"

	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
)

// reason is why a message or a record is refused.
type reason int

const (
	accepted reason = iota
	truncated
	malformed
	tooLarge
	unknownVersion
	unknownSender
	unknownNetwork
	unknownEpoch
	badSeal
	badSignature
	unknownOwner
	notMember
	duplicate
	stale
	earlierLife
	ownerLeft
	ownerGone
	ownUnknown
	tooMany
	inboxFull
	streamsFull
	relayFull
	reasons
)

var reasonNames = [reasons]string{
	"", "truncated", "malformed", "too large", "unknown version", "unknown sender", "unknown network", "unknown epoch",
	"bad seal", "bad signature", "unknown owner", "sender takes no part", "duplicate", "stale time", "owner's earlier life",
	"owner left the network", "owner dead for long", "own, but not written by this life", "too many records of one owner",
	"inbox full", "too many streams", "relay queue full",
}

// reasonOf names an error of the parsers.
func reasonOf(err error) reason {
	switch {
	case errors.Is(err, record.ErrTruncated):
		return truncated
	case errors.Is(err, record.ErrTooLarge):
		return tooLarge
	case errors.Is(err, record.ErrEpoch):
		return unknownEpoch
	case errors.Is(err, record.ErrSeal):
		return badSeal
	case errors.Is(err, record.ErrSignature):
		return badSignature
	case errors.Is(err, wire.ErrVersion):
		return unknownVersion
	default:
		return malformed
	}
}

// counters are the live form of Stats.
type counters struct {
	sent, received [wire.Kinds]struct{ messages, bytes atomic.Uint64 }
	refused        [reasons]atomic.Uint64
	equal, differ  atomic.Uint64
	suspects       atomic.Uint64
	duplicates     atomic.Uint64
}

// refuse counts a message or record that was not taken. A record that is there already is none that was refused.
func (c *counters) refuse(r reason) {
	if r == duplicate {
		c.duplicates.Add(1)
		return
	}
	c.refused[r].Add(1)
}

func (c *counters) send(k wire.Kind, bytes int) {
	c.sent[k].messages.Add(1)
	c.sent[k].bytes.Add(uint64(bytes))
}

func (c *counters) receive(k wire.Kind, bytes int) {
	c.received[k].messages.Add(1)
	c.received[k].bytes.Add(uint64(bytes))
}

// Stats returns the counters.
func (g *Gossip) Stats() Stats {
	s := Stats{
		Sent: make(map[string]Traffic), Received: make(map[string]Traffic), Refused: make(map[string]uint64),
		Equal: g.count.equal.Load(), Differed: g.count.differ.Load(), Suspects: g.count.suspects.Load(), Inbox: len(g.inbox),
		Duplicates: g.count.duplicates.Load(),
	}
	for k := wire.Push; k < wire.Kinds; k++ {
		c := &g.count.sent[k]
		s.Sent[k.String()] = Traffic{c.messages.Load(), c.bytes.Load()}
		c = &g.count.received[k]
		s.Received[k.String()] = Traffic{c.messages.Load(), c.bytes.Load()}
	}
	for r := accepted + 1; r < reasons; r++ {
		if n := g.count.refused[r].Load(); n > 0 {
			s.Refused[reasonNames[r]] = n
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tables {
		own, relayed := t.queue.waiting()
		s.Own, s.Relayed = s.Own+own, s.Relayed+relayed
	}
	return s
}
