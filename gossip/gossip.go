// Package gossip tells nodes what is where right now: per-network records, each owned and signed by one node, over
// hashicorp/memberlist (SWIM with Lifeguard), which keeps the list of members and seals all packets and streams.
//
// Each network has a table of its own, which only the nodes that take part in it hold, and whose messages are sealed with
// the network's key. Which nodes take part in what is one more table, the cluster-wide one, under the zero network ID.
//
//	Put ─► sign ─► table ─► queue ─► at once to 4 participants, then in rounds to 3 each ──push──► verify ─► table ─► queue ...
//	                 ▲
//	                 └── once a second, with one random participant of each network:
//
//	                     A ── digest ──► B     equal: done, some 200 bytes both ways
//	                     A ◄─ digest ─── B
//	                     A ── buckets ─► B     only in large networks: digests of sixteenths of the owners
//	                     A ◄─ owners ─── B     digest of each owner
//	                     A ── summary ─► B     hash and time of each record of the owners that differ
//	                     A ◄─ records ── B     what A lacks,
//	                     A ◄─ want ───── B     and the names of what B lacks
//	                     A ── records ─► B
//
// Every message stands for itself: no node keeps the state of an exchange, and whatever is lost is found again a second
// later. A node that enters a network asks for the whole table instead (want, with a token). Messages go as packets if they
// fit and over a stream otherwise.
//
// A record's time is its owner's Lamport clock, which never falls behind the wall clock's milliseconds, so that a node that
// restarts continues above what it wrote before. Its record in the cluster-wide table says since when it takes part in a
// network; records older than that are of an earlier life and go. About its own records a node has the last word: meeting
// one that it does not have, it deletes it under a newer time.
//
// The owner's signature is what a record is believed by, and the directory says whose signatures count. Whoever has the keys
// could name another node as a message's sender; what that gets is an answer to a node that takes part, never a record.
//
// Records of a node that does not answer are hidden, not deleted (moby#53142), and come back when it does.
package gossip

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

// Config is what a Gossip is made from.
type Config struct {
	Self      identity.NodeID
	Key       ed25519.PrivateKey // signs this node's records
	Bind      netip.AddrPort     // UDP and TCP; port 0: any
	Advertise netip.AddrPort     // what the others dial; zero: Bind
	Directory Directory
	Profile   Profile              // how fast, and how patient
	Transport memberlist.Transport // nil: UDP and TCP at Bind
	Keys      state.Keyring        // seals all that travels; SetKeys changes it
	Forget    time.Duration        // records of a node that is dead for this long go; zero: 24 hours
	Log       *slog.Logger         // nil: none
	Rand      *rand.Rand           // picks peers; nil: seeded at random. Not for others to use meanwhile
}

// Errors that callers test for.
var (
	ErrNotEntered = errors.New("this node takes no part in the network; enter it first")
	ErrClosed     = errors.New("gossip is closed")
)

// Gossip is one node's part in it. Its methods may be called from any goroutine.
//
// memberlist calls the delegates with its own lock held, so nothing of memberlist is called while mu is held.
type Gossip struct {
	cfg   Config
	pace  pace
	log   *slog.Logger
	list  *memberlist.Memberlist
	ring  *memberlist.Keyring
	addr  netip.AddrPort // what the others dial
	count counters

	inbox      chan []byte
	inboxBytes atomic.Int64
	kick       chan struct{} // there is something to send
	nudge      chan struct{} // there is something to heal
	streams    chan struct{} // one for each stream that is being sent
	done       chan struct{}
	closing    sync.Once
	running    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	started time.Time
	clock   uint64
	tables  map[state.NetworkID]*table // the cluster-wide one under zero
	members map[identity.NodeID]*member
	peers   map[state.NetworkID][]*member // whom to send a network's messages; made when asked for, dropped on change
	strays  map[itemKeyOf]bool            // own records of an earlier life, which may yet be put again
	greet   []identity.NodeID             // members that came, to exchange digests with
	known   []netip.AddrPort              // of Join
	dials   map[netip.AddrPort]*dial
	refused map[identity.NodeID]netip.AddrPort // members that the directory did not know yet
	changed chan struct{}
	due     struct{ exchange, sweep, check time.Time }
}

// itemKeyOf names an own record.
type itemKeyOf struct {
	network state.NetworkID
	key     string
}

// nodeKey is the key in the cluster-wide table under which a node tells its address; the other keys are network IDs.
const nodeKey = "node"

// New binds the addresses and starts to listen; Run does the work.
func New(cfg Config) (*Gossip, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if cfg.Forget == 0 {
		cfg.Forget = 24 * time.Hour
	}
	now := time.Now()
	g := &Gossip{
		cfg: cfg, pace: cfg.Profile.pace(), log: cfg.Log, started: now,
		inbox: make(chan []byte, inboxSize), kick: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
		streams: make(chan struct{}, maxStreams), done: make(chan struct{}),
		tables:  map[state.NetworkID]*table{{}: newTable(state.NetworkID{}, now)},
		members: make(map[identity.NodeID]*member), peers: make(map[state.NetworkID][]*member),
		strays: make(map[itemKeyOf]bool), dials: make(map[netip.AddrPort]*dial),
		refused: make(map[identity.NodeID]netip.AddrPort), changed: make(chan struct{}),
	}
	if err := g.create(); err != nil {
		return nil, err
	}
	addr, err := g.addr.MarshalBinary()
	if err == nil {
		g.mu.Lock()
		err = g.write(g.cluster(), nodeKey, addr, false)
		g.mu.Unlock()
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return g, nil
}

// cluster is the cluster-wide table.
func (g *Gossip) cluster() *table { return g.tables[state.NetworkID{}] }

// Run works until ctx ends or Close is called.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, work := range []func(context.Context){g.handleAll, g.spreadAll, g.healAll} {
		g.running.Go(func() { work(ctx) })
	}
	g.running.Add(1)
	defer g.running.Done()
	g.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.done:
		return nil
	}
}

// Close stops all, without a word to the others, and waits. It may be called more than once.
func (g *Gossip) Close() (err error) {
	g.closing.Do(func() {
		g.mu.Lock()
		g.closed = true
		g.mu.Unlock()
		close(g.done)
		if g.list != nil {
			err = g.list.Shutdown()
		}
	})
	g.running.Wait()
	return err
}

// goDo runs f in the background, unless Close was called, which waits for it.
func (g *Gossip) goDo(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.running.Go(f)
	}
	return !g.closed
}

// Leave deletes all records of this node, tells the members that it goes, and waits that long for the word to get out.
// Only Close is of use afterwards.
func (g *Gossip) Leave(timeout time.Duration) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	for id := range g.tables {
		if !id.IsZero() {
			g.exit(id)
		}
	}
	err := g.write(g.cluster(), nodeKey, nil, true)
	g.mu.Unlock()
	g.spread(time.Now())
	return errors.Join(err, g.list.Leave(timeout))
}

// Enter makes this node take part in a network. Called again it replaces the network's keys.
func (g *Gossip) Enter(network state.NetworkID, keys state.Keyring) error {
	if network.IsZero() {
		return fmt.Errorf("gossip: enter network %s: the zero ID names no network", network)
	}
	ring, err := record.NewRing(keys)
	if err != nil {
		return fmt.Errorf("gossip: enter network %s: %w", network, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.tables[network]; t != nil {
		t.ring = ring
		return nil
	}
	t := newTable(network, time.Now())
	t.ring = ring
	g.tables[network] = t
	delete(g.peers, network)
	poke(g.nudge)
	return g.write(g.cluster(), network.String(), nil, false)
}

// Exit ends taking part: this node's records of the network vanish everywhere, and all of the network's vanish here.
func (g *Gossip) Exit(network state.NetworkID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tables[network] != nil && !network.IsZero() {
		g.exit(network)
	}
}

func (g *Gossip) exit(network state.NetworkID) {
	delete(g.tables, network)
	delete(g.peers, network)
	for at := range g.strays {
		if at.network == network {
			delete(g.strays, at)
		}
	}
	if err := g.write(g.cluster(), network.String(), nil, true); err != nil {
		g.log.Error("gossip: exit", "network", network, "err", err)
	}
	g.notify()
}

// Put publishes a record of this node, in place of the one it had under this key.
func (g *Gossip) Put(network state.NetworkID, key string, value []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tables[network]
	if t == nil || network.IsZero() {
		return fmt.Errorf("gossip: put %q in network %s: %w", key, network, ErrNotEntered)
	}
	if e := t.get(g.cfg.Self, key); e != nil && !e.Deleted && string(e.Value) == string(value) {
		return nil
	}
	if o := t.owners[g.cfg.Self]; o != nil && o.records[key] == nil && len(o.records) >= maxRecords {
		return fmt.Errorf("gossip: put %q in network %s: this node has %d records there, the most there may be; "+
			"delete some and wait %s", key, network, maxRecords, tombstoneLife)
	}
	if err := g.write(t, key, value, false); err != nil {
		return fmt.Errorf("gossip: put in network %s: %w", network, err)
	}
	return nil
}

// Delete withdraws a record of this node.
func (g *Gossip) Delete(network state.NetworkID, key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tables[network]
	if t == nil || network.IsZero() {
		return
	}
	if e := t.get(g.cfg.Self, key); e == nil || e.Deleted {
		return
	}
	if err := g.write(t, key, nil, true); err != nil {
		g.log.Error("gossip: delete", "network", network, "key", key, "err", err)
	}
}

// Changed returns a channel that is closed at the next change of any record or member.
func (g *Gossip) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// notify wakes those who wait on Changed. g.mu is held.
func (g *Gossip) notify() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// poke wakes the goroutine that reads c.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
