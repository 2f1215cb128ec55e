package gossip_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/internal/simnet"
)

// healing is how long the cluster has after the last fault until all is as it should be: a partition that lasted long is
// noticed by the next redial, which memberlist gives some seconds and gossip at most 25 s.
const healing = time.Minute

// noticing is how long a node may take to find out that another one is down.
const noticing = 5 * time.Second

// Whatever nodes, network and users do: at no time does a node have what is not its to have, and after a quiet time everybody
// has what the owners have, no more and no less.
func TestWhateverHappensTheClusterComesToWhatItsOwnersPut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			link := links.Draw(t, "link")
			w := newWorld(t, rapid.IntRange(3, 10).Draw(t, "nodes"), rapid.Uint64().Draw(t, "seed"), link)
			defer w.close()
			for _, a := range w.actors[1:] { // the last to come is the one at the end
				a.start()
				for _, network := range simNetworks {
					if rapid.Bool().Draw(t, "takes part") {
						a.enter(network, 0)
					}
				}
			}
			for range 2 {
				w.net.SetLink(link)
				t.Repeat(w.actions())
				w.net.Heal()
				w.net.SetLink(simnet.Link{Latency: time.Millisecond})
				w.settle(healing)
			}
			time.Sleep(5 * time.Second) // who takes part in what is to be known to those who take part in nothing, too
			w.welcome(w.actors[0])
		})
	})
}

// links are networks that are still of use.
var links = rapid.SampledFrom([]simnet.Link{
	{Latency: time.Millisecond},
	{Latency: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.01},
	{Latency: 40 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.02, Duplicate: 0.05, Reorder: 0.05},
	{Latency: time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1},
})

// one draws one of some networks.
func one(t *rapid.T, of []state.NetworkID) state.NetworkID {
	return of[rapid.IntRange(0, len(of)-1).Draw(t, "network")]
}

// actions is what may happen.
func (w *world) actions() map[string]func(*rapid.T) {
	names := rapid.SampledFrom([]string{"10.0.1.2", "10.0.1.3", "10.0.1.4"})
	up := func(a *actor) bool { return a.g != nil }
	// An action that finds nobody must skip before it draws anything: rapid ends the sequence soon otherwise.
	who := func(t *rapid.T, ok func(*actor) bool) *actor {
		some := w.those(ok)
		if len(some) == 0 {
			t.Skip("nobody")
		}
		numbers := make([]int, len(some))
		for i, a := range some {
			numbers[i] = a.i
		}
		return w.actors[rapid.SampledFrom(numbers).Draw(t, "who")]
	}
	// spare is true of an actor that can go, for half of them are to stay.
	spare := func(a *actor) bool { return up(a) && len(w.those(up)) > len(w.actors)/2 }
	member := func(t *rapid.T) (*actor, state.NetworkID) {
		a := who(t, func(a *actor) bool { return up(a) && len(a.records) > 0 })
		return a, one(t, a.networks())
	}
	put := func(t *rapid.T) {
		a, network := member(t)
		a.put(network, names.Draw(t, "key"))
	}
	start := func(t *rapid.T) {
		a := who(t, func(a *actor) bool { return !up(a) && !a.expelled && a != w.actors[0] })
		a.start()
		a.enter(one(t, simNetworks), 0)
	}
	enter := func(t *rapid.T) { // an actor that takes part already changes its key
		who(t, up).enter(one(t, simNetworks), rapid.Uint64Range(0, 1).Draw(t, "sealed with"))
	}
	return map[string]func(*rapid.T){
		"": func(*rapid.T) {
			time.Sleep(time.Millisecond)
			w.check()
		},
		"start": start, "start too": start,
		"crash": func(t *rapid.T) { who(t, spare).crash() },
		"leave": func(t *rapid.T) { who(t, spare).leave() },
		"restart": func(t *rapid.T) {
			a := who(t, func(a *actor) bool { return up(a) && !a.expelled })
			a.crash()
			time.Sleep(rapid.SampledFrom([]time.Duration{0, time.Second, 20 * time.Second}).Draw(t, "down for"))
			a.start()
		},
		"expel": func(t *rapid.T) {
			a := who(t, func(a *actor) bool { return spare(a) && !a.expelled })
			if rapid.IntRange(0, 3).Draw(t, "seldom") == 0 {
				a.expel()
			}
		},
		"enter": enter, "enter too": enter,
		"exit": func(t *rapid.T) {
			a, network := member(t)
			a.exit(network)
		},
		"put": put, "put too": put, "put as well": put,
		"delete": func(t *rapid.T) {
			a, network := member(t)
			a.remove(network, names.Draw(t, "key"))
		},
		"burst": func(t *rapid.T) {
			a, network := member(t)
			key := names.Draw(t, "key")
			for range rapid.IntRange(2, 10).Draw(t, "writes") {
				if rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
					a.remove(network, key)
				} else {
					a.put(network, key)
				}
				time.Sleep(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
				w.check()
			}
			for range 20 {
				time.Sleep(5 * time.Millisecond)
				w.check()
			}
		},
		"partition": func(t *rapid.T) {
			var side []netip.AddrPort
			for _, a := range w.actors {
				if rapid.Bool().Draw(t, "other side") {
					side = append(side, a.addr)
				}
			}
			w.net.Partition(side)
		},
		"heal": func(*rapid.T) { w.net.Heal() },
		"flap": func(t *rapid.T) {
			a := who(t, up)
			for range rapid.IntRange(1, 5).Draw(t, "times") {
				w.net.Partition([]netip.AddrPort{a.addr})
				time.Sleep(time.Duration(rapid.IntRange(1, 8).Draw(t, "away")) * time.Second)
				w.net.Heal()
				time.Sleep(time.Duration(rapid.IntRange(1, 8).Draw(t, "back")) * time.Second)
			}
		},
		"wait": func(t *rapid.T) {
			time.Sleep(rapid.SampledFrom([]time.Duration{
				50 * time.Millisecond, time.Second, 10 * time.Second, 2 * time.Minute,
			}).Draw(t, "for"))
		},
	}
}

// welcome has a node join and attach: when Sync returns it has everything, so that a first lookup cannot miss.
func (w *world) welcome(a *actor) {
	<-a.start()
	for _, network := range simNetworks {
		a.enter(network, 0)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := a.g.Sync(ctx, network); err != nil {
			w.t.Errorf("sync of %d: %v", network[0], err)
		}
		cancel()
		if took := time.Since(begin); took > 5*time.Second {
			w.t.Errorf("sync of %d took %s", network[0], took)
		}
		visible, _ := a.knows(network)
		for f := range w.truth(network) {
			if !visible[f] {
				w.t.Errorf("the newcomer, in sync with %d, misses %s", network[0], w.name(f))
			}
		}
	}
	// What it has too much is of nodes that are down: it has to find that out like everybody else.
	time.Sleep(noticing)
	for _, network := range simNetworks {
		visible, hidden := a.knows(network)
		if diff := w.differences(visible, w.truth(network)); diff != "" {
			w.t.Errorf("the newcomer to %d %s; it hides: %s", network[0], diff, w.differences(hidden, nil))
		}
	}
}
