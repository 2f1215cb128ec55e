package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/state"
)

// keepRole does what each new state asks of this node, until ctx ends: it ends connections to nodes that are members no
// longer, and its own part in Raft begins and ends with its being a manager.
func (m *Member) keepRole(ctx context.Context) {
	var demoted time.Time
	for ctx.Err() == nil {
		changed := m.Changed()
		m.mux.Drop()
		if err := m.fitRole(&demoted); err != nil {
			m.cfg.Log.Error("this node's part in Raft", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(m.cfg.Timing.Tick):
		}
	}
}

// fitRole starts or ends Raft. A manager no longer waits until it has left Raft's configuration: the leader may need its
// vote to get there.
func (m *Member) fitRole(demoted *time.Time) error {
	m.change.Lock()
	defer m.change.Unlock()
	q, manager := m.quorum.Load(), manages(m.State(), m.ID())
	switch {
	case manager:
		*demoted = time.Time{}
		if q != nil && q.Incarnation() < incarnation(m.State()) {
			if err := m.stopQuorum(); err != nil {
				return err
			}
			q = nil
		}
		if q == nil {
			return m.startQuorum()
		}
	case q != nil:
		if demoted.IsZero() {
			*demoted = time.Now()
		}
		if !q.Part() || time.Since(*demoted) > m.cfg.Timing.Demoted {
			if err := m.stopQuorum(); err != nil {
				return err
			}
			return os.RemoveAll(m.raftDir())
		}
	}
	return nil
}

// startQuorum starts Raft; m.change is held.
func (m *Member) startQuorum() error {
	self, now := m.ID(), incarnation(m.State())
	if err := m.forgetLogs(now); err != nil {
		return err
	}
	q, err := quorum.Open(quorum.Config{
		Dir:         m.logDir(now),
		Incarnation: now,
		Self:        self,
		Timing:      m.cfg.Timing.Raft,
		Listener:    m.mux.Listen(identity.RaftALPN),
		Dial: func(ctx context.Context, id identity.NodeID) (net.Conn, error) {
			c, err := m.dial(ctx, id, identity.RaftALPN)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Changed: func(s *state.State) { m.board.Set(s.View(self)) },
		Log:     m.cfg.Log,
	})
	if err != nil {
		return err
	}
	m.quorum.Store(q)
	return nil
}

// forgetLogs removes the logs of other incarnations than this one.
func (m *Member) forgetLogs(but uint64) error {
	dirs, err := os.ReadDir(m.raftDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		if path := filepath.Join(m.raftDir(), d.Name()); path != m.logDir(but) {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopQuorum ends Raft; m.change is held.
func (m *Member) stopQuorum() error {
	q := m.quorum.Swap(nil)
	if q == nil {
		return nil
	}
	return q.Close()
}

// elected waits until this node, the only voter, leads.
func (m *Member) elected(ctx context.Context) error {
	for {
		q := m.quorum.Load()
		if q != nil && q.Leading() {
			return q.Barrier()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("this node does not become the leader: %w", context.Cause(ctx))
		case <-time.After(m.cfg.Timing.Raft / 10):
		}
	}
}
