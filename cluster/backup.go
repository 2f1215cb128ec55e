package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

const (
	backupFormat  = "weft-backup"
	backupVersion = 1
)

// incarnation returns how often a cluster was restored, in the only way that all hosts know without asking: the upper half of
// the state's index, which is the second of the last restoration. So nodes that have seen later states than the backup's take
// the restored one all the same, and managers know logs from before, which tell another story from the backup on.
func incarnation(s *state.State) uint64 { return s.Index >> 32 }

// reincarnate returns the first index of the next incarnation.
func reincarnate(index uint64, now time.Time) uint64 {
	return max(index>>32+1, uint64(now.Unix())) << 32
}

// backup is the file of weft cluster backup, JSON.
type backup struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	Weft    string          `json:"weft"` // the version that wrote it
	Cluster string          `json:"cluster"`
	Time    time.Time       `json:"time"`
	Index   uint64          `json:"index"`
	State   json.RawMessage `json:"state"` // state.Encode
}

// Backup returns the whole state, with the cluster's secrets, as Restore takes it. Only managers have it.
func (m *Member) Backup(ctx context.Context) ([]byte, error) {
	if _, err := m.standing(); err != nil {
		return nil, err
	}
	s, err := m.manager()
	if err != nil {
		return nil, fmt.Errorf("cluster: backup: %w", err)
	}
	b, err := json.Marshal(backup{
		Format: backupFormat, Version: backupVersion, Weft: m.cfg.Version,
		Cluster: s.Cluster.ID, Time: m.cfg.Now(), Index: s.Index, State: s.Encode(),
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: backup: %w", err)
	}
	return b, nil
}

// readBackup returns the state in a backup.
func readBackup(text []byte) (*state.State, error) {
	var b backup
	if err := json.Unmarshal(text, &b); err != nil || b.Format != backupFormat {
		return nil, fmt.Errorf("this is no backup of weft's; expected a file that weft cluster backup wrote: %w", state.ErrInvalid)
	}
	if b.Version != backupVersion {
		return nil, fmt.Errorf("the backup has version %d, written by weft %s; this weft reads version %d: %w", b.Version, b.Weft, backupVersion, state.ErrInvalid)
	}
	s, err := state.Decode(b.State)
	if err != nil {
		return nil, fmt.Errorf("the backup's state: %w", err)
	}
	if s.Cluster.ID != b.Cluster || s.Index != b.Index || len(s.Cluster.CAKey) == 0 {
		return nil, fmt.Errorf("the backup was changed: its state is not the one that it announces: %w", state.ErrInvalid)
	}
	return s, nil
}

// Restore makes this node the only manager of the cluster in the backup; the managers that it had become workers. On a node
// that is a member it needs force.
func (m *Member) Restore(ctx context.Context, backup []byte, force bool) error {
	if err := m.restore(ctx, backup, force); err != nil {
		return fmt.Errorf("cluster: restore: %w", err)
	}
	return nil
}

func (m *Member) restore(ctx context.Context, text []byte, force bool) error {
	if err := m.running(ctx); err != nil {
		return err
	}
	s, err := readBackup(text)
	if err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	if m.State() != nil && !force {
		return fmt.Errorf("%w, or use --force: the cluster's state as this node knows it gives way to the backup's", ErrMember)
	}
	if err := m.reachable(); err != nil {
		return err
	}
	if s, err = m.takeOver(s); err != nil {
		return err
	}
	return m.establish(ctx, s)
}

// takeOver returns a backup's state with this node as the only manager. s is the caller's own, and is changed.
func (m *Member) takeOver(s *state.State) (*state.State, error) {
	id := m.Identity()
	if at, removed := s.Removed[id.ID()]; removed {
		return nil, fmt.Errorf("the backup's cluster removed this node at %s; run weft leave --force, which makes it a new node, and restore again: %w",
			at.Format(time.RFC3339), state.ErrDenied)
	}
	var former []identity.NodeID // what this host was before it lost its key
	for _, n := range s.Nodes {
		n.Role = state.Worker
		if n.API == m.addr && n.ID != id.ID() {
			former = append(former, n.ID)
		}
	}
	n := s.Nodes[id.ID()]
	if n == nil {
		fresh := m.self(id, "", state.Manager)
		n = &fresh
		s.Nodes[n.ID] = n
	}
	n.Role = state.Manager
	last := s.Index
	if here := m.State(); here != nil {
		last = max(last, here.Index)
	}
	s.Index = reincarnate(last, m.cfg.Now())
	var err error
	for _, old := range former {
		if n.Name == "" {
			n.Name = s.Nodes[old].Name
		}
		if s, _, err = s.Apply(&state.Command{At: m.cfg.Now(), By: n.ID, RemoveNode: &state.RemoveNode{ID: old}}); err != nil {
			return nil, err
		}
	}
	if n.Name == "" {
		if n.Name, err = freeName(s); err != nil {
			return nil, err
		}
	}
	if s, err = state.Decode(s.Encode()); err != nil {
		return nil, errors.Join(errors.New("the backup's state with this node as its manager"), err)
	}
	return s, nil
}

// freeName returns this host's name, or one like it that no node has.
func freeName(s *state.State) (string, error) {
	host, err := hostName("")
	name := host
	for i := 2; err == nil; i++ {
		if _, taken := s.NodeByRef(name); taken != nil {
			break
		}
		name = fmt.Sprintf("%s-%d", host, i)
	}
	return name, err
}
