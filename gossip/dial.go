package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// dial is when an address that is no member's is tried next.
type dial struct {
	next time.Time
	wait time.Duration
	busy bool
}

// Dialing: how many at once, and how long between two attempts.
const (
	maxDials  = 8
	firstWait = time.Second
	maxWait   = 20 * time.Second
)

// Join tells the addresses of all nodes that are known, in place of those of an earlier call, and returns how many could
// be joined as soon as one could, or an error that says why none could. Those that are no members are dialed again in the
// background for as long as they are in the list.
func (g *Gossip) Join(peers []netip.AddrPort) (int, error) {
	g.mu.Lock()
	g.known = slices.Clone(peers)
	here := g.addresses()
	var todo []netip.AddrPort
	joined := 0
	for _, addr := range peers {
		if !here[addr] {
			todo = append(todo, addr)
		} else if addr != g.addr && addr != g.cfg.Bind {
			joined++
		}
	}
	g.cfg.Rand.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	g.mu.Unlock()
	var failed error
	for batch := range slices.Chunk(todo, 3) {
		if joined > 0 {
			break
		}
		results := make(chan error, len(batch))
		for _, addr := range batch {
			if !g.goDo(func() { results <- g.join(addr) }) {
				results <- ErrClosed
			}
		}
		for range batch {
			if err := <-results; err == nil {
				joined++
			} else {
				failed = errors.Join(failed, err)
			}
		}
	}
	if joined == 0 && failed != nil {
		return 0, failed
	}
	return joined, nil
}

// join exchanges the lists of members with the node at an address.
func (g *Gossip) join(addr netip.AddrPort) error {
	if _, err := g.list.Join([]string{addr.String()}); err != nil {
		return fmt.Errorf("gossip: join %s: %w", addr, err)
	}
	return nil
}

// addresses returns those of this node and of the members that are not dead. g.mu is held.
func (g *Gossip) addresses() map[netip.AddrPort]bool {
	here := map[netip.AddrPort]bool{g.addr: true, g.cfg.Bind: true}
	for _, m := range g.members {
		if m.node != nil && m.state != Dead {
			here[addrOf(m.node)] = true
		}
	}
	return here
}

// dialable returns the addresses whose turn it is: those of Join, of nodes that the directory knows only now, and of nodes
// whose records are here, as far as they are no members. So a partition heals however long it lasted. g.mu is held.
func (g *Gossip) dialable(now time.Time) (out []netip.AddrPort) {
	if now.Before(g.due.check) {
		return nil
	}
	g.due.check = now.Add(firstWait / 2)
	here := g.addresses()
	wanted := make(map[netip.AddrPort]bool)
	want := func(addr netip.AddrPort) {
		if addr.IsValid() && !here[addr] {
			wanted[addr] = true
		}
	}
	for _, addr := range g.known {
		want(addr)
	}
	for id, addr := range g.refused {
		if _, ok := g.cfg.Directory.PublicKey(id); ok {
			want(addr)
		}
	}
	fresh := make(map[netip.AddrPort]bool)
	for _, m := range g.members {
		if m.unsure {
			fresh[g.addrOf(m)] = true
		}
		e := g.cluster().get(m.id, nodeKey)
		left := e != nil && e.Deleted
		if !left && !m.expelled && (m.node == nil || m.state == Dead) {
			want(g.addrOf(m))
		}
	}
	busy := 0
	for addr, d := range g.dials {
		if d.busy {
			busy++
		} else if !wanted[addr] {
			delete(g.dials, addr)
		}
	}
	for addr := range wanted {
		d := g.dials[addr]
		if d == nil {
			d = &dial{wait: firstWait, next: now.Add(jitter(firstWait, g.cfg.Rand))}
			g.dials[addr] = d
		}
		if fresh[addr] && d.wait == firstWait { // not tried yet, and a Sync may wait for it
			d.next = now
		}
		if !d.busy && !now.Before(d.next) && busy < maxDials {
			d.busy = true
			busy++
			out = append(out, addr)
		}
	}
	return out
}

// redial joins an address again, and waits longer before the next time.
func (g *Gossip) redial(addr netip.AddrPort) {
	err := g.join(addr)
	if err != nil {
		g.log.Debug("gossip: dial", "err", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.unsure && g.addrOf(m) == addr {
			m.unsure = false
			g.notify()
		}
	}
	if d := g.dials[addr]; d != nil {
		d.busy = false
		d.next = time.Now().Add(jitter(d.wait, g.cfg.Rand))
		d.wait = min(2*d.wait, maxWait)
	}
}
