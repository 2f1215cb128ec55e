package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip"
)

// How attaching waits for the other nodes, so that the container's names lead to it everywhere before its command starts:
//
//	enter ── record ──► gossip ──────────────────► plan ──► Apply ──► in force
//	  └───── Known ───► every node of the network that is alive ────────┘
//
// A node that gossip gives up meanwhile is not waited for, nor is one of an older version; what a node has not got in time it gets by
// gossip's digests, within seconds.

// knownTime is how long attaching waits in all.
const knownTime = 3 * time.Second

// source names a record of another node.
type source struct {
	owner nodeID
	key   string
}

// view is what of a network's records is in a plan: the empty text, or why it is left out for good.
type view map[source]string

// known answers another node's question (cluster.Known).
func (m *Member) known(ctx context.Context, owner nodeID, network state.NetworkID, key string) error {
	for {
		m.mu.Lock()
		applied := m.applied
		why, in := m.sees(network, source{owner, key})
		m.mu.Unlock()
		switch {
		case in && why == "":
			return nil
		case in:
			return deny(state.ErrInvalid, "%s", why)
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return errors.New("the record has not come, or is refused for now")
		case <-m.ctx.Done():
			return errors.New("this node's agent ends")
		}
	}
}

// sees reports whether a record is in force. In a network without containers here it is enough to have it: whoever is attached next
// finds it. The caller holds the lock.
func (m *Member) sees(network state.NetworkID, s source) (why string, in bool) {
	if v := m.views[network]; v != nil {
		why, in = v[s]
		return why, in
	}
	g := m.gossip.Load()
	return "", g != nil && slices.ContainsFunc(g.Records(network), func(r gossip.Record) bool { return r.Owner == s.owner && r.Key == s.key })
}

// announce waits until every node of the container's networks knows it, and warns of those that do not.
func (a *attaching) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, knownTime)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	for i := range a.parts {
		p := &a.parts[i]
		g := a.m.gossip.Load()
		if p.network.Driver == state.Bridge || g == nil {
			continue // nobody else has it; or sync has warned
		}
		all.Go(func() {
			late := a.m.await(ctx, g, p.network.ID, p.endpoint.ID)
			if len(late) == 0 {
				return
			}
			a.m.log.Warn("attached before all nodes know of it", "network", p.network.Name, "container", a.container.Name, "nodes", late)
			names := slices.Sorted(maps.Keys(late))
			p.warn(fmt.Sprintf("the names of container %s may lead nowhere yet on %s, which did not say in time that it knows them", a.container.Name, strings.Join(names, ", ")))
		})
	}
}

// warn adds to what the user is told of an attachment that succeeds.
func (p *part) warn(text string) {
	if p.warning != "" {
		text = p.warning + "; " + text
	}
	p.warning = text
}

// errAway ends the wait for a node that gossip has given up, or that takes part no longer.
var errAway = errors.New("the node is away")

// await asks all nodes that take part in a network and are alive for a record of this node's, until they have it or ctx ends, and returns
// those that do not have it by name, with the reason. A node that begins to take part meanwhile is asked too.
func (m *Member) await(ctx context.Context, g *gossip.Gossip, network state.NetworkID, key string) (late map[string]error) {
	type reply struct {
		node nodeID
		err  error
	}
	replies, pending := make(chan reply), 0
	asked := make(map[nodeID]context.CancelCauseFunc)
	late = make(map[string]error)
	for {
		heard, changed, st := g.Changed(), m.cluster.Changed(), m.cluster.State()
		present := m.present(g, st, network)
		for id := range present {
			if asked[id] != nil || ctx.Err() != nil {
				continue
			}
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			asked[id] = cancel
			pending++
			go func() { replies <- reply{id, m.ask(ctx, id, network, key)} }()
		}
		for id, cancel := range asked {
			if !present[id] {
				cancel(errAway)
			}
		}
		if pending == 0 {
			return late
		}
		select { // ctx ends the replies, too
		case r := <-replies:
			if pending--; r.err != nil {
				late[nodeName(st, r.node)] = r.err
			}
		case <-heard:
		case <-changed:
		}
	}
}

// present returns the other nodes that take part in a network, as far as they are alive.
func (m *Member) present(g *gossip.Gossip, st *state.State, network state.NetworkID) map[nodeID]bool {
	present := make(map[nodeID]bool)
	if st == nil {
		return present
	}
	for _, other := range g.Members() {
		if other.State == gossip.Alive && other.ID != m.cluster.ID() && st.Lease(network, other.ID) != nil {
			present[other.ID] = true
		}
	}
	return present
}

// ask asks one node until it has a record, refuses it, or ctx ends.
func (m *Member) ask(ctx context.Context, id nodeID, network state.NetworkID, key string) (last error) {
	for {
		err := m.cluster.Known(ctx, id, network, key)
		switch {
		case err == nil, errors.Is(err, cluster.ErrUnasked), errors.Is(context.Cause(ctx), errAway):
			return nil
		case errors.Is(err, state.ErrInvalid), errors.Is(err, state.ErrDenied):
			return err
		case ctx.Err() != nil:
			return cmp.Or(last, err)
		}
		last = err
		pause(ctx, again)
	}
}
