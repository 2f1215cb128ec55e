package cluster

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/weftnet/weft/cluster/duty"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// lead does the leader's duties while this node is the leader, until ctx ends.
func (m *Member) lead(ctx context.Context) {
	var t *duty.Term
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
				t = duty.Begin(m.cfg.Now())
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
func (m *Member) duties(ctx context.Context, q *quorum.Quorum, t *duty.Term) {
	s := q.State()
	if s == nil {
		return
	}
	m.reconcile(ctx, q)
	now := m.cfg.Now()
	var seen duty.Sight
	if m.cfg.Seen != nil {
		seen = m.cfg.Seen()
		seen[m.ID()] = now
		if ids := t.Expired(s, seen, now); len(ids) > 0 {
			m.order(ctx, state.Command{Expire: &state.Expire{Nodes: ids}})
		}
	}
	timing := m.cfg.Timing
	switch step := t.Rotate(s, seen, now, duty.Timing{Rotate: timing.Rotate, Step: timing.Step, Behind: timing.Behind}); step {
	case "":
	case state.StepInstall:
		m.order(ctx, state.Command{RotateKeys: NewKeys(s)})
	default:
		m.order(ctx, state.Command{RotateKeys: &state.RotateKeys{Step: step}})
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
