package gossip_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/internal/simnet"
)

// failer is what the world needs of a test.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// world is a simulated cluster beside a model of what it is to come to: who is up, who takes part in what, and what each has
// put. What the nodes know is compared with it.
type world struct {
	t      failer
	net    *simnet.Network
	actors []*actor
	ever   map[fact]bool // all that was ever put
	number int           // of the last put

	mu      sync.Mutex
	members map[identity.NodeID]ed25519.PublicKey
}

// fact is a record without its time.
type fact struct {
	network state.NetworkID
	owner   identity.NodeID
	key     string
	value   string
}

// actor is one person with the life it leads, if it leads one.
type actor struct {
	w        *world
	i        int
	id       identity.NodeID
	key      ed25519.PrivateKey
	addr     netip.AddrPort
	expelled bool // removed from the cluster
	strayed  bool // it has taken part in something that it does not now: messages for that may still be on their way

	g       *gossip.Gossip // nil: not running
	records map[state.NetworkID]map[string]string
	seen    map[slot]version // by this life
	cancel  context.CancelFunc
	tasks   *sync.WaitGroup
}

// slot is where records replace each other, and version is what was last there.
type slot struct {
	network state.NetworkID
	owner   identity.NodeID
	key     string
}

type version struct {
	value string
	gone  bool // it is not there any more
}

// simNetworks is what the actors take part in.
var simNetworks = []state.NetworkID{{0: 1}, {0: 2}, {0: 3}}

// newWorld makes a cluster of n actors, none of whom runs.
func newWorld(t failer, n int, seed uint64, link simnet.Link) *world {
	w := &world{t: t, net: simnet.New(seed, link), ever: make(map[fact]bool), members: make(map[identity.NodeID]ed25519.PublicKey)}
	for i := range n {
		b := make([]byte, ed25519.SeedSize)
		b[0], b[1] = byte(seed), byte(i)
		key := ed25519.NewKeyFromSeed(b)
		public := key.Public().(ed25519.PublicKey)
		a := &actor{w: w, i: i, id: identity.IDOf(public), key: key, addr: simnet.Addr(i)}
		w.actors = append(w.actors, a)
		w.members[a.id] = public
	}
	return w
}

// PublicKey makes the world a directory.
func (w *world) PublicKey(id identity.NodeID) (ed25519.PublicKey, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key, ok := w.members[id]
	return key, ok
}

// close ends all lives and lets memberlist's stragglers end.
func (w *world) close() {
	for _, a := range w.actors {
		if a.g != nil {
			a.end()
		}
	}
	time.Sleep(time.Minute)
}

// keys is a network's keyring: two keys that everybody has, sealed with either.
func keys(network state.NetworkID, primary uint64) state.Keyring {
	ring := state.Keyring{Primary: primary}
	for epoch := range uint64(2) {
		secret := slices.Repeat([]byte{network[0], byte(epoch)}, 16)
		ring.Keys = append(ring.Keys, state.Key{Epoch: epoch, Secret: secret})
	}
	return ring
}

// those returns the actors of whom ok is true.
func (w *world) those(ok func(*actor) bool) (some []*actor) {
	for _, a := range w.actors {
		if ok(a) {
			some = append(some, a)
		}
	}
	return some
}

// addresses returns where everybody is to be found, as each node's own copy of the cluster's state tells it.
func (w *world) addresses() (all []netip.AddrPort) {
	for _, a := range w.actors {
		if !a.expelled {
			all = append(all, a.addr)
		}
	}
	return all
}

// start begins a life, which has put nothing yet. done is closed when it has joined others, or has found nobody.
func (a *actor) start() (done chan struct{}) {
	tr, err := a.w.net.Listen(a.addr)
	if err != nil {
		a.w.t.Fatalf("start %d: %v", a.i, err)
	}
	g, err := gossip.New(gossip.Config{
		Self: a.id, Key: a.key, Bind: a.addr, Advertise: a.addr, Directory: a.w, Profile: gossip.LAN, Transport: tr,
		Keys: keys(state.NetworkID{}, 0), Rand: rand.New(rand.NewPCG(uint64(a.i), 1)),
	})
	if err != nil {
		a.w.t.Fatalf("start %d: %v", a.i, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.g, a.cancel, a.tasks = g, cancel, new(sync.WaitGroup)
	a.records, a.seen = make(map[state.NetworkID]map[string]string), make(map[slot]version)
	done = make(chan struct{})
	a.tasks.Go(func() { g.Run(ctx) })
	peers := a.w.addresses()
	a.tasks.Go(func() {
		g.Join(peers) // goes on in the background if nobody is there
		close(done)
	})
	return done
}

// end ends the life without a word.
func (a *actor) end() {
	a.cancel()
	a.g.Close()
	a.tasks.Wait()
	a.strayed = a.strayed || len(a.records) > 0
	a.g, a.records, a.seen = nil, nil, nil
}

func (a *actor) crash() {
	a.w.net.Crash(a.addr)
	a.end()
}

func (a *actor) leave() {
	a.g.Leave(5 * time.Second) // across a partition nobody acknowledges it
	a.end()
}

// expel removes it from the cluster; its node does not know yet.
func (a *actor) expel() {
	a.expelled = true
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	delete(a.w.members, a.id)
}

func (a *actor) enter(network state.NetworkID, primary uint64) {
	if err := a.g.Enter(network, keys(network, primary)); err != nil {
		a.w.t.Fatalf("enter: %v", err)
	}
	if a.records[network] == nil {
		a.records[network] = make(map[string]string)
	}
}

func (a *actor) exit(network state.NetworkID) {
	a.g.Exit(network)
	delete(a.records, network)
	maps.DeleteFunc(a.seen, func(s slot, _ version) bool { return s.network == network })
	a.strayed = true
}

func (a *actor) put(network state.NetworkID, key string) {
	a.w.number++
	value := fmt.Sprintf("%09d", a.w.number)
	if err := a.g.Put(network, key, []byte(value)); err != nil {
		a.w.t.Fatalf("put: %v", err)
	}
	a.records[network][key] = value
	a.w.ever[fact{network, a.id, key, value}] = true
}

func (a *actor) remove(network state.NetworkID, key string) {
	a.g.Delete(network, key)
	delete(a.records[network], key)
}

// networks is what the actor takes part in.
func (a *actor) networks() (all []state.NetworkID) {
	for _, network := range simNetworks {
		if a.records[network] != nil {
			all = append(all, network)
		}
	}
	return all
}

// truth is what a network is to hold: what its live participants have put.
func (w *world) truth(network state.NetworkID) map[fact]bool {
	all := make(map[fact]bool)
	for _, a := range w.actors {
		if !a.expelled {
			maps.Copy(all, a.own(network))
		}
	}
	return all
}

// own is what an actor has put into a network, by the model.
func (a *actor) own(network state.NetworkID) map[fact]bool {
	all := make(map[fact]bool)
	for key, value := range a.records[network] {
		all[fact{network, a.id, key, value}] = true
	}
	return all
}

// knows is what an actor's node holds of a network, hidden records apart.
func (a *actor) knows(network state.NetworkID) (visible, hidden map[fact]bool) {
	visible, hidden = make(map[fact]bool), make(map[fact]bool)
	for _, r := range a.g.Records(network) {
		f := fact{network, r.Owner, r.Key, string(r.Value)}
		if r.Hidden {
			hidden[f] = true
		} else {
			visible[f] = true
		}
	}
	return visible, hidden
}

// differences says what is missing from, and what should not be in, what a node knows.
func (w *world) differences(have, want map[fact]bool) string {
	var all []string
	for f := range want {
		if !have[f] {
			all = append(all, "misses "+w.name(f))
		}
	}
	for f := range have {
		if !want[f] {
			all = append(all, "has "+w.name(f))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (w *world) name(f fact) string {
	i := slices.IndexFunc(w.actors, func(a *actor) bool { return a.id == f.owner })
	return fmt.Sprintf("%d's %s=%s in %d", i, f.key, f.value, f.network[0])
}

// check is what holds at any time, whatever happens.
func (w *world) check() {
	for _, a := range w.actors {
		if a.g == nil {
			continue
		}
		for _, network := range simNetworks {
			a.checkNetwork(network)
		}
		if refused := a.g.Stats().Refused; !a.strayed && refused["unknown network"] > 0 {
			w.t.Errorf("%d was sent messages of a network that it never took part in: %v", a.i, refused)
		}
	}
}

func (a *actor) checkNetwork(network state.NetworkID) {
	visible, hidden := a.knows(network)
	if a.records[network] == nil && len(visible)+len(hidden) > 0 {
		a.w.t.Errorf("%d takes no part in %d, but %s", a.i, network[0], a.w.differences(visible, nil))
	}
	mine := make(map[fact]bool)
	now := make(map[slot]string)
	for _, f := range append(slices.Collect(maps.Keys(visible)), slices.Collect(maps.Keys(hidden))...) {
		if !a.w.ever[f] {
			a.w.t.Errorf("%d has what nobody put: %s", a.i, a.w.name(f))
		}
		if _, member := a.w.PublicKey(f.owner); !member && f.owner != a.id {
			a.w.t.Errorf("%d has a record of a node that was removed: %s", a.i, a.w.name(f))
		}
		if f.owner == a.id {
			mine[f] = true
		}
		now[slot{network, f.owner, f.key}] = f.value
	}
	if diff := a.w.differences(mine, a.own(network)); diff != "" {
		a.w.t.Errorf("%d, of its own records, %s", a.i, diff)
	}
	for s, v := range a.seen {
		if value, ok := now[s]; s.network == network && !ok {
			a.seen[s] = version{v.value, true}
		} else if ok && (value < v.value || value == v.value && v.gone) {
			a.w.t.Errorf("%d went back to %s after %s (gone: %t)", a.i, a.w.name(fact{network, s.owner, s.key, value}), v.value, v.gone)
		}
	}
	for s, value := range now {
		a.seen[s] = version{value: value}
	}
}

// unsettled says what is not yet as the model has it; empty if nothing is.
func (w *world) unsettled() string {
	var all []string
	for _, network := range simNetworks {
		want := w.truth(network)
		for _, a := range w.actors {
			if a.g == nil || a.expelled || a.records[network] == nil {
				continue
			}
			visible, hidden := a.knows(network)
			if diff := w.differences(visible, want); diff != "" {
				all = append(all, fmt.Sprintf("%d %s", a.i, diff))
			}
			for f := range hidden {
				if w.running(f.owner) {
					all = append(all, fmt.Sprintf("%d hides %s", a.i, w.name(f)))
				}
			}
		}
	}
	for _, a := range w.actors {
		if a.g != nil && !a.expelled {
			all = append(all, a.strangers()...)
		}
	}
	return strings.Join(all, "\n")
}

// strangers says which nodes an actor does not see as they are.
func (a *actor) strangers() (all []string) {
	sees := make(map[identity.NodeID]gossip.Liveness)
	for _, m := range a.g.Members() {
		sees[m.ID] = m.State
	}
	for _, b := range a.w.actors {
		state, known := sees[b.id]
		alive := known && state == gossip.Alive
		switch {
		case b.expelled && known && b != a:
			all = append(all, fmt.Sprintf("%d still knows %d, which was removed", a.i, b.i))
		case !b.expelled && alive != (b.g != nil):
			all = append(all, fmt.Sprintf("%d sees %d as %s", a.i, b.i, state))
		}
	}
	return all
}

func (w *world) running(id identity.NodeID) bool {
	return slices.ContainsFunc(w.actors, func(a *actor) bool { return a.id == id && a.g != nil })
}

// settle lets time pass until all is as the model has it, and returns how long that took.
func (w *world) settle(limit time.Duration) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for {
		rest := w.unsettled()
		took := time.Since(begin)
		switch {
		case rest == "":
			return took
		case took > limit:
			w.t.Fatalf("not settled after %s:\n%s", took, rest)
		}
		time.Sleep(250 * time.Millisecond)
		w.check()
	}
}
