package gossip

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/cluster/state"
)

// Records returns what is known of a network, ordered by owner and key.
func (g *Gossip) Records(network state.NetworkID) []Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tables[network]
	if t == nil || network.IsZero() {
		return nil
	}
	var all []Record
	for id, o := range t.owners {
		if _, known := g.cfg.Directory.PublicKey(id); !known && id != g.cfg.Self {
			continue
		}
		hidden := !g.isAlive(id)
		for _, e := range o.records {
			if !e.Deleted {
				all = append(all, Record{Owner: id, Key: e.Key, Value: e.Value, Time: e.Time, Hidden: hidden})
			}
		}
	}
	slices.SortFunc(all, compareRecords)
	return all
}

func compareRecords(a, b Record) int {
	if c := compareIDs(a.Owner, b.Owner); c != 0 {
		return c
	}
	switch {
	case a.Key < b.Key:
		return -1
	case a.Key > b.Key:
		return 1
	}
	return 0
}

// Sync returns when this node has what a live peer in the network has; at once if there is none.
func (g *Gossip) Sync(ctx context.Context, network state.NetworkID) error {
	start := time.Now()
	g.mu.Lock()
	t := g.tables[network]
	if t == nil || network.IsZero() {
		g.mu.Unlock()
		return syncError(network, ErrNotEntered)
	}
	if t.waiters++; t.waiters == 1 {
		t.waitFrom, t.asked = start, time.Time{}
	}
	poke(g.nudge)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		t.waiters--
		g.mu.Unlock()
	}()
	for {
		g.mu.Lock()
		changed, done, left := g.changed, g.synced(t, start), g.tables[network] != t
		g.mu.Unlock()
		switch {
		case left:
			return syncError(network, ErrNotEntered)
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return syncError(network, ctx.Err())
		case <-g.done:
			return syncError(network, ErrClosed)
		}
	}
}

func syncError(network state.NetworkID, err error) error {
	return fmt.Errorf("gossip: sync network %s: %w", network, err)
}

// synced reports whether a Sync that began at start may end. g.mu is held.
func (g *Gossip) synced(t *table, start time.Time) bool {
	switch {
	case len(g.peersOf(state.NetworkID{})) == 0:
		return true
	case g.cluster().equal.IsZero():
		return false // who takes part is not known yet
	case g.unsure(t):
		return false
	case len(g.peersOf(t.id)) == 0:
		return true
	}
	return !t.equal.Before(start)
}

// unsure reports whether a node may take part that memberlist did not tell of and that has not been dialed yet. memberlist
// keeps from a newcomer whom it suspects. g.mu is held.
func (g *Gossip) unsure(t *table) bool {
	for id, m := range g.members {
		if m.unsure && g.takesPart(id, t) {
			return true
		}
	}
	return false
}
