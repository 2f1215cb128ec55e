package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// heard is what a node that follows knows of the leader.
type heard struct {
	leader identity.NodeID
	at     time.Time
}

// errEnough ends a watch that is needed no longer.
var errEnough = errors.New("cluster: followed enough")

// follow keeps the state of a node that does not get it by Raft, until ctx ends: that of a worker, and of a manager that
// hears no leader, because it was demoted or removed, or its state is too old to know the others.
func (m *Member) follow(ctx context.Context) {
	for ctx.Err() == nil {
		changed := m.Changed()
		if m.follows() {
			m.followOne(ctx)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(m.cfg.Timing.Tick/2 + mrand.N(m.cfg.Timing.Tick/2)):
		}
	}
}

// follows reports whether this node needs a manager to tell it the state.
func (m *Member) follows() bool {
	if _, err := m.standing(); err != nil {
		return false
	}
	q := m.quorum.Load()
	return q == nil || q.Leader().IsZero() || !q.Part()
}

// followOne follows the first manager, in random order, that answers, until it does so no longer.
func (m *Member) followOne(ctx context.Context) {
	s := m.State()
	if s == nil {
		return
	}
	for _, to := range m.route(s) {
		if to == m.ID() {
			continue
		}
		began := false
		err := m.client.Watch(ctx, to, m.index(), 3*m.cfg.Timing.Beat, func(b rpc.Beat) error {
			began = true
			return m.hear(b)
		})
		m.cfg.Log.Debug("a watch ended", "manager", to, "error", err)
		if began || ctx.Err() != nil || errors.Is(err, errEnough) {
			return
		}
	}
}

func (m *Member) index() uint64 {
	if s := m.State(); s != nil {
		return s.Index
	}
	return 0
}

// hear takes in one beat.
func (m *Member) hear(b rpc.Beat) error {
	m.heard.Store(&heard{leader: b.Leader, at: time.Now()})
	if b.Removed {
		m.expelled()
		return errEnough
	}
	if b.State != nil {
		s, err := state.Decode(b.State)
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		m.board.Set(s)
	}
	if !m.follows() {
		return errEnough
	}
	return nil
}

// expelled takes this node out of its own state: another removed it.
func (m *Member) expelled() {
	m.change.Lock()
	defer m.change.Unlock()
	old := m.State()
	if old == nil || old.Nodes[m.ID()] == nil {
		return
	}
	s := *old
	s.Nodes = maps.Clone(old.Nodes)
	delete(s.Nodes, m.ID())
	s.Removed = maps.Clone(old.Removed)
	if s.Removed == nil {
		s.Removed = make(map[identity.NodeID]time.Time)
	}
	s.Removed[m.ID()] = m.cfg.Now()
	m.board.Put(&s)
	m.cfg.Log.Error("this node was removed from the cluster; its containers stay as they are; run weft leave")
}

// node is what other members ask of this one (rpc.Node).
type node struct{ *Member }

// Forward does a command of a peer's, here or by the leader. Who asks is known from the connection; a manager is believed
// who asked it.
func (n node) Forward(ctx context.Context, peer identity.NodeID, p *rpc.Proposal) (*rpc.Answer, error) {
	s, err := n.manager()
	if err != nil {
		return nil, err
	}
	forwarded := p.Forwarded && manages(s, peer)
	if !forwarded {
		p.Command.By = peer
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Propose)
	defer cancel()
	q := n.quorum.Load()
	if forwarded || q == nil || q.Leading() {
		return n.decide(ctx, p)
	}
	leader := q.Leader()
	if leader.IsZero() || leader == n.ID() {
		return nil, fmt.Errorf("there is no leader at the moment: %w", rpc.ErrUnavailable)
	}
	return n.client.Propose(ctx, leader, &rpc.Proposal{ID: p.ID, Command: p.Command, Forwarded: true})
}

// Renew signs a peer's certificate anew.
func (n node) Renew(peer identity.NodeID) (*rpc.Certificate, error) {
	s, err := n.manager()
	if err != nil {
		return nil, err
	}
	who := s.Nodes[peer]
	if who == nil {
		return nil, fmt.Errorf("node %s is no member: %w", peer, state.ErrDenied)
	}
	cert, err := n.sign(s, who)
	return &rpc.Certificate{Cert: cert}, err
}

// Status says how far this node is.
func (n node) Status() rpc.Status {
	st := rpc.Status{Index: n.index(), Leader: n.leader()}
	if q := n.quorum.Load(); q != nil {
		st.Raft, st.Applied, st.Incarnation = true, q.Applied(), q.Incarnation()
	}
	return st
}

// Beat returns what a watcher is to hear.
func (n node) Beat(peer identity.NodeID, index uint64) (rpc.Beat, uint64, error) {
	s, err := n.manager()
	if err != nil {
		return rpc.Beat{}, 0, err
	}
	b := rpc.Beat{Leader: n.leader()}
	switch {
	case s.Nodes[peer] == nil:
		b.Removed = true
	case s.Index > index:
		b.State = s.View(peer).Encode()
	}
	return b, s.Index, nil
}

// manager returns the state if this node is a manager, and so knows all of it.
func (m *Member) manager() (*state.State, error) {
	s := m.State()
	if !manages(s, m.ID()) {
		return nil, fmt.Errorf("this node is no manager; ask one of %s: %w", names(s), rpc.ErrUnavailable)
	}
	return s, nil
}

// names lists the managers for a message.
func names(s *state.State) string {
	if s == nil {
		return "the managers"
	}
	text := ""
	for i, n := range s.Managers() {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s (%s)", n.Name, n.API)
	}
	return text
}
