package gossip

import (
	"context"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/gossip/wire"
)

// letter is a message on its way out.
type letter struct {
	to     *memberlist.Node
	kind   wire.Kind
	data   []byte
	stream bool // over a stream, however small
}

// maxStreams is how many streams may be sent at once; beyond it messages are dropped, and healed by the digests.
const maxStreams = 32

// letter makes a message of a table. g.mu is held.
func (g *Gossip) letter(t *table, m *member, k wire.Kind, body []byte) letter {
	b := wire.Head{Kind: k, Sender: g.cfg.Self, Network: t.id}.Append(make([]byte, 0, wire.HeadSize+len(body)))
	if t.ring == nil {
		b = append(b, body...)
	} else {
		b = t.ring.Seal(b, body)
	}
	return letter{to: m.node, kind: k, data: b}
}

// post sends letters. g.mu is not held.
func (g *Gossip) post(letters []letter) {
	for _, l := range letters {
		g.count.send(l.kind, len(l.data))
		if !l.stream && len(l.data) <= wire.PacketSize {
			if err := g.list.SendBestEffort(l.to, l.data); err != nil {
				g.log.Debug("gossip: send", "to", l.to.Name, "err", err)
			}
			continue
		}
		select {
		case g.streams <- struct{}{}:
		default:
			g.count.refuse(streamsFull)
			continue
		}
		if !g.goDo(func() {
			defer func() { <-g.streams }()
			if err := g.list.SendReliable(l.to, l.data); err != nil {
				g.log.Debug("gossip: send by stream", "to", l.to.Name, "err", err)
			}
		}) {
			<-g.streams
		}
	}
}

// A batch of one table is that many packets to each of its peers, and the next one follows after that pause: about a
// thousand packets a second to each peer at most.
const (
	batchPackets = 8
	batchPause   = 8 * time.Millisecond
)

// spreadAll sends what is queued, whenever something is.
func (g *Gossip) spreadAll(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-g.kick:
		case <-timer.C:
		case <-ctx.Done():
			return
		case <-g.done:
			return
		}
		if wait := batchPause - time.Since(last); wait > 0 {
			timer.Reset(wait)
			continue
		}
		last = time.Now()
		if next, ok := g.spread(last); ok {
			timer.Reset(max(batchPause, time.Until(next)))
		}
	}
}

// spread sends a batch of each table, and says when the next is due, if any is.
func (g *Gossip) spread(now time.Time) (next time.Time, more bool) {
	var out []letter
	g.mu.Lock()
	for id, t := range g.tables {
		if _, waits := t.queue.next(); !waits {
			continue
		}
		peers := g.peersOf(id)
		if len(peers) == 0 {
			continue // the queue is bounded, and a peer that comes is a kick
		}
		fresh := t.queue.take(batchPackets * wire.PacketBody)
		due := t.queue.takeDue(now, batchPackets*wire.PacketBody)
		out = append(out, g.pack(t, fresh, g.pick(peers, fanOut))...)
		out = append(out, g.pack(t, due, g.pick(peers, repeat))...)
		for _, it := range fresh {
			it.rounds = rounds(len(peers) + 1)
			t.queue.again(it, now)
		}
		for _, it := range due {
			t.queue.again(it, now)
		}
		if at, waits := t.queue.next(); waits && (!more || at.Before(next)) {
			next, more = at, true
		}
	}
	g.mu.Unlock()
	g.post(out)
	return next, more
}

// pack makes packets of items, for each of the peers. g.mu is held.
func (g *Gossip) pack(t *table, items []*item, peers []*member) (out []letter) {
	for len(items) > 0 {
		body := make([]byte, 0, wire.PacketBody)
		for len(items) > 0 && len(body)+len(items[0].Wire()) <= wire.PacketBody {
			body = append(body, items[0].Wire()...)
			items = items[1:]
		}
		l := g.letter(t, peers[0], wire.Push, body)
		for _, m := range peers {
			l.to = m.node
			out = append(out, l)
		}
	}
	return out
}
