package cluster

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// present is how long ago gossip may have seen a node that a rotation of keys waits for.
const present = time.Minute

// term is what a leader keeps in mind while it leads.
type term struct {
	since time.Time // nodes that nobody has seen count as seen then
	stage stage     // of the rotation of keys
	moved time.Time // when the stage began
}

// stage is how far a rotation is.
type stage struct {
	newest, primary uint64
	keys            int
}

// lead does the leader's duties while this node is the leader, until ctx ends.
func (m *Member) lead(ctx context.Context) {
	var t *term
	for ctx.Err() == nil {
		changed := m.Changed()
		var elected <-chan bool
		q := m.quorum.Load()
		if q != nil {
			elected = q.Elected()
		}
		switch {
		case q == nil || !q.Leading():
			t = nil
		case t == nil:
			if q.Barrier() == nil {
				now := m.cfg.Now()
				t = &term{since: now, moved: now}
				m.cfg.Log.Info("this node leads the cluster")
			}
		}
		if t != nil {
			m.duties(ctx, q, t)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-elected:
		case <-time.After(m.cfg.Timing.Tick):
		}
	}
}

// duties does each duty once, as far as it can be done now.
func (m *Member) duties(ctx context.Context, q *quorum.Quorum, t *term) {
	s := q.State()
	if s == nil {
		return
	}
	m.reconcile(ctx, q)
	now := m.cfg.Now()
	var seen map[identity.NodeID]time.Time
	if m.cfg.Seen != nil {
		seen = m.cfg.Seen()
		seen[m.ID()] = now
		if ids := t.expired(s, seen, now); len(ids) > 0 {
			m.order(ctx, state.Command{Expire: &state.Expire{Nodes: ids}})
		}
	}
	if c := t.rotate(s, seen, now, m.cfg.Timing); c != nil {
		m.order(ctx, state.Command{RotateKeys: c})
	}
}

// order does a command of the leader's own. What fails is tried again at the next tick, if it is still due.
func (m *Member) order(ctx context.Context, c state.Command) {
	ctx, cancel := m.patience(ctx)
	defer cancel()
	c.By = m.ID()
	p := &rpc.Proposal{Command: c}
	rand.Read(p.ID[:])
	if _, err := m.decide(ctx, p); err != nil {
		m.cfg.Log.Warn("a leader's duty", "error", err)
	}
}

// reconcile brings the voters nearer to the managers, unless a command is doing that just now.
func (m *Member) reconcile(ctx context.Context, q *quorum.Quorum) {
	if !m.seats.TryLock() {
		return
	}
	defer m.seats.Unlock()
	var want []identity.NodeID
	for _, n := range q.State().Managers() {
		want = append(want, n.ID)
	}
	err := q.Reconcile(want, func(id identity.NodeID) (uint64, bool) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		st, err := m.client.Status(ctx, id)
		if err != nil {
			return 0, false
		}
		return st.Applied, st.Raft && st.Incarnation == q.Incarnation()
	})
	if err != nil {
		m.cfg.Log.Warn("voters", "error", err)
	}
}

// expired returns the nodes whose leases are to be freed: nobody has seen them for the leases' lifetime.
func (t *term) expired(s *state.State, seen map[identity.NodeID]time.Time, now time.Time) []identity.NodeID {
	leasing := make(map[identity.NodeID]bool)
	for id, leases := range s.Leases {
		if n := s.Networks[id]; n == nil || n.Driver == state.Bridge {
			continue // a bridge's leases do not expire: nobody else could use them
		}
		for _, l := range leases {
			leasing[l.Node] = true
		}
	}
	var ids []identity.NodeID
	for id := range leasing {
		last := t.since
		if seen[id].After(last) {
			last = seen[id]
		}
		if now.Sub(last) > s.Cluster.LeaseTTL {
			ids = append(ids, id)
		}
	}
	return ids
}

// rotate returns the next step of a rotation of keys if it is due. Between two steps the nodes get time to hear of the
// first, and a key is used only when all nodes that are there report it, or do not for too long.
func (t *term) rotate(s *state.State, seen map[identity.NodeID]time.Time, now time.Time, timing Timing) *state.RotateKeys {
	ring := s.Cluster.Gossip
	if len(ring.Keys) == 0 {
		return nil
	}
	newest := ring.Keys[len(ring.Keys)-1]
	if st := (stage{newest: newest.Epoch, primary: ring.Primary, keys: len(ring.Keys)}); st != t.stage {
		t.stage, t.moved = st, now
	}
	waited := now.Sub(t.moved)
	switch {
	case newest.Epoch != ring.Primary:
		if waited >= timing.Behind || waited >= timing.Step && reported(s, newest.Epoch, seen, now) {
			return &state.RotateKeys{Step: state.StepUse}
		}
	case len(ring.Keys) > 1:
		if waited >= 3*timing.Step { // no node reports which key it seals with: they follow the state within a step
			return &state.RotateKeys{Step: state.StepRemove}
		}
	case now.Sub(newest.Created) >= timing.Rotate || removedSince(s, newest.Created):
		return NewKeys(s)
	}
	return nil
}

// removedSince says whether a node was removed that knows the keys of that time.
func removedSince(s *state.State, t time.Time) bool {
	for _, at := range s.Removed {
		if at.After(t) {
			return true
		}
	}
	return false
}

// reported says whether all nodes that are there have the key of that epoch.
func reported(s *state.State, epoch uint64, seen map[identity.NodeID]time.Time, now time.Time) bool {
	for id, n := range s.Nodes {
		there := seen == nil || now.Sub(seen[id]) < present
		if there && n.KeyEpoch < epoch {
			return false
		}
	}
	return true
}

// NewKeys returns the first step of a rotation of all of a cluster's keys, with new secrets; the leader does the next ones.
func NewKeys(s *state.State) *state.RotateKeys {
	c := &state.RotateKeys{Step: state.StepInstall, Gossip: newSecret(), Network: make(map[state.NetworkID][]byte)}
	for id := range s.Networks {
		c.Network[id] = newSecret()
	}
	return c
}

func newSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret)
	return secret
}
