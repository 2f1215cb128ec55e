package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// Propose has the cluster do a command, by the leader, and returns when this node's State includes it. While there is no
// leader it tries until ctx ends, or for Timing.Propose if ctx has no deadline. A command is done at most once; after an error
// that is ErrNoQuorum it may still be done, when a majority is back.
func (m *Member) Propose(ctx context.Context, c state.Command) (state.Result, error) {
	if err := m.running(ctx); err != nil {
		return state.Result{}, err
	}
	ctx, cancel := m.patience(ctx)
	defer cancel()
	a, err := m.carry(ctx, c)
	if err != nil {
		return state.Result{}, err
	}
	if err := m.board.Await(ctx, a.Index); err != nil {
		return a.Result, fmt.Errorf("cluster: %w", err)
	}
	return a.Result, nil
}

// patience gives a context without a deadline one.
func (m *Member) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, m.cfg.Timing.Propose)
}

// carry brings a command of this node's to the leader, by way of whatever manager can.
func (m *Member) carry(ctx context.Context, c state.Command) (*rpc.Answer, error) {
	p := &rpc.Proposal{Command: c}
	p.Command.By = m.ID()
	rand.Read(p.ID[:])
	var last error
	for {
		s, err := m.standing()
		if err != nil {
			return nil, err
		}
		for _, to := range m.route(s) {
			a, err := m.attempt(ctx, to, p)
			if err == nil || final(err) {
				return a, err
			}
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return nil, fmt.Errorf("cluster: %w", context.Cause(ctx))
			}
			return nil, m.noQuorum(last)
		case <-time.After(m.cfg.Timing.Raft/8 + mrand.N(m.cfg.Timing.Raft/8)):
		}
	}
}

// attempt asks one manager, which may be this node.
func (m *Member) attempt(ctx context.Context, to identity.NodeID, p *rpc.Proposal) (*rpc.Answer, error) {
	if to == m.ID() {
		return m.decide(ctx, p)
	}
	ctx, cancel := context.WithTimeout(ctx, max(m.cfg.Timing.Propose/3, 3*m.cfg.Timing.Raft))
	defer cancel()
	return m.client.Propose(ctx, to, p)
}

// final reports whether trying again could not help: the command itself is refused.
func final(err error) bool {
	for _, kind := range []error{state.ErrNotFound, state.ErrExists, state.ErrInUse, state.ErrInvalid, state.ErrExhausted, state.ErrDenied} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// route returns the managers in the order to try them: the leader, if one is known, then the others at random.
func (m *Member) route(s *state.State) []identity.NodeID {
	managers := s.Managers()
	mrand.Shuffle(len(managers), func(i, j int) { managers[i], managers[j] = managers[j], managers[i] })
	leader := m.leader()
	ids := make([]identity.NodeID, 0, len(managers)+1)
	for _, n := range managers {
		if n.ID == leader {
			ids = append([]identity.NodeID{n.ID}, ids...)
		} else {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// decide does a command here, if this node is the leader.
func (m *Member) decide(ctx context.Context, p *rpc.Proposal) (*rpc.Answer, error) {
	q := m.quorum.Load()
	if q == nil || !q.Leading() {
		return nil, fmt.Errorf("this manager is not the leader: %w", rpc.ErrUnavailable)
	}
	c := p.Command
	c.At = m.cfg.Now()
	release, err := m.unseat(q, c)
	if err != nil {
		return nil, err
	}
	defer release()
	out, err := q.Apply(ctx, p.ID, c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", rpc.ErrUnavailable, err)
	}
	if out.Err != nil {
		return nil, out.Err
	}
	return &rpc.Answer{Result: out.Result, Index: out.Index}, nil
}

// unseat prepares for a command that ends a manager's being one. It loses its vote first: a state that refuses its connections
// while its vote still counts could leave the others without a majority. A leader hands over, so that its successor does it.
func (m *Member) unseat(q *quorum.Quorum, c state.Command) (release func(), err error) {
	release = func() {}
	var id identity.NodeID
	switch {
	case c.RemoveNode != nil:
		id = c.RemoveNode.ID
	case c.UpdateNode != nil && c.UpdateNode.Role == state.Worker:
		id = c.UpdateNode.ID
	default:
		return release, nil
	}
	m.seats.Lock()
	if err = m.takeVote(q, c, id); err != nil {
		m.seats.Unlock()
		return nil, err
	}
	return m.seats.Unlock, nil
}

func (m *Member) takeVote(q *quorum.Quorum, c state.Command, id identity.NodeID) error {
	if err := q.Barrier(); err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrUnavailable, err)
	}
	s := q.State()
	if !manages(s, id) {
		return nil
	}
	if _, _, err := s.Apply(&c); err != nil {
		return err
	}
	var err error
	if id == m.ID() {
		if err = q.Transfer(); err == nil {
			err = errors.New("the leader hands over before it goes")
		}
	} else {
		err = q.Remove(id)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrUnavailable, err)
	}
	return nil
}

// Quorum returns the leader, or why there is none.
func (m *Member) Quorum() (leader identity.NodeID, err error) {
	if _, err := m.standing(); err != nil {
		return leader, err
	}
	if leader = m.leader(); leader.IsZero() {
		return leader, m.noQuorum(nil)
	}
	return leader, nil
}

// leader returns who leads, as far as this node knows; zero if it does not.
func (m *Member) leader() identity.NodeID {
	if q := m.quorum.Load(); q != nil {
		if leader := q.Leader(); !leader.IsZero() {
			return leader
		}
	}
	if h := m.heard.Load(); h != nil && time.Since(h.at) < 3*m.cfg.Timing.Beat {
		return h.leader
	}
	return identity.NodeID{}
}

// noQuorum says what is wrong when nobody leads.
func (m *Member) noQuorum(last error) error {
	s, err := m.standing()
	if err != nil {
		return err
	}
	managers := s.Managers()
	there, refused := m.reach(managers)
	const rest = "changes are refused until a majority is back; running containers are not affected"
	switch {
	case refused == len(managers) && refused > 0:
		return fmt.Errorf("%w: all %d managers refuse this node's certificate: it was removed from the cluster, or its certificate expired; "+
			"run weft leave --force, then join again; running containers are not affected", ErrNoQuorum, refused)
	case len(there) <= len(managers)/2:
		return fmt.Errorf("%w: %d of %d managers reachable (%s); %s", ErrNoQuorum, len(there), len(managers), cmp.Or(strings.Join(there, ", "), "none"), rest)
	case last != nil:
		return fmt.Errorf("%w: %d of %d managers reachable, but no leader did it in time (%w); try again", ErrNoQuorum, len(there), len(managers), last)
	}
	return fmt.Errorf("%w: %d of %d managers reachable, and none leads yet; an election takes some seconds; %s", ErrNoQuorum, len(there), len(managers), rest)
}

// reach asks all managers whether they are there, at once, and returns the names of those that are, and how many refuse
// this node.
func (m *Member) reach(managers []*state.Node) (there []string, refused int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	errs := make([]error, len(managers))
	var asks sync.WaitGroup
	for i, n := range managers {
		if n.ID == m.ID() {
			continue
		}
		asks.Go(func() { _, errs[i] = m.client.Status(ctx, n.ID) })
	}
	asks.Wait()
	for i, n := range managers {
		switch {
		case errs[i] == nil:
			there = append(there, n.Name)
		case identity.Refused(errs[i]):
			refused++
		}
	}
	return there, refused
}
