// Package quorum is a manager's part in Raft (Ongaro and Ousterhout, 2014) by hashicorp/raft: the log of commands in bbolt,
// the state machine that applies them, snapshots, and who votes.
//
//	DIR/raft.db       log and term
//	DIR/snapshots/    states, each with the commands applied last
//
//	no directory ──Seed──► one voter, a state      (the first manager, or one that restores a backup)
//	no directory ──Open──► no vote, no state ──the leader's Reconcile──► learner ──caught up──► voter
package quorum

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// ErrNotLeader is why a command was not done here: try again with the leader. It may have been done all the same if the
// leadership was lost meanwhile.
var ErrNotLeader = errors.New("this manager is not the leader")

// Config is what a manager brings.
type Config struct {
	Dir         string
	Self        identity.NodeID
	Timing      time.Duration // how long a leader may be silent
	Incarnation uint64        // of the cluster: restoring a backup begins another one
	Listener    net.Listener  // what other managers connect to; Close closes it
	Dial        func(ctx context.Context, id identity.NodeID) (net.Conn, error)
	Changed     func(*state.State) // told each state as it is reached; must not block
	Log         *slog.Logger
}

// Quorum is a running Raft node. Its methods may be called from any goroutine.
type Quorum struct {
	cfg     Config
	machine *machine
	store   *raftboltdb.BoltStore
	raft    *raft.Raft
}

const (
	snapshots = 2 // kept
	dbFile    = "raft.db"
)

// Seed writes a store in which this node is the only voter and has that state. What dir had before is lost.
func Seed(dir string, self identity.NodeID, s *state.State) error {
	if err := seed(dir, self, s); err != nil {
		return fmt.Errorf("quorum: %w", err)
	}
	return nil
}

func seed(dir string, self identity.NodeID, s *state.State) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	store, snaps, err := open(dir, logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer store.Close()
	// As raft.BootstrapCluster begins: term 1 is the one that nobody was elected in.
	if err := store.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		return err
	}
	voters := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: serverID(self), Address: address(self)}}}
	_, nowhere := raft.NewInmemTransport(address(self))
	defer nowhere.Close()
	sink, err := snaps.Create(raft.SnapshotVersionMax, 1, 1, voters, 1, nowhere)
	if err != nil {
		return err
	}
	return (&snapshot{state: s}).Persist(sink)
}

// open opens the files of dir, and makes them if there are none. Only their owner may read them: they have the CA's key.
func open(dir string, log hclog.Logger) (*raftboltdb.BoltStore, *raft.FileSnapshotStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	store, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, dbFile),
		BoltOptions: &bbolt.Options{Timeout: time.Second}, // another process has it open: say so, do not wait for ever
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, dbFile), err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshots, log)
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, snaps, nil
}

// Open starts Raft from what is in Dir. Without anything there it votes for nobody until a leader makes it a voter.
func Open(cfg Config) (*Quorum, error) {
	log := logger(cfg.Log)
	store, snaps, err := open(cfg.Dir, log)
	if err != nil {
		cfg.Listener.Close()
		return nil, fmt.Errorf("quorum: %w", err)
	}
	q := &Quorum{cfg: cfg, machine: newMachine(cfg.Changed), store: store}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  &stream{incarnation: cfg.Incarnation, Listener: cfg.Listener, dial: cfg.Dial, open: make(map[*accepted]struct{})},
		MaxPool: 3,
		Timeout: max(5*cfg.Timing, 2*time.Second),
		Logger:  log,
	})
	q.raft, err = raft.NewRaft(q.config(log), q.machine, store, store, snaps, trans)
	if err != nil {
		trans.Close()
		store.Close()
		return nil, fmt.Errorf("quorum: %w", err)
	}
	return q, nil
}

func (q *Quorum) config(log hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = serverID(q.cfg.Self)
	c.HeartbeatTimeout = q.cfg.Timing
	c.ElectionTimeout = q.cfg.Timing
	c.LeaderLeaseTimeout = q.cfg.Timing / 2
	c.CommitTimeout = q.cfg.Timing / 20
	c.Logger = log
	c.NoLegacyTelemetry = true
	return c
}

// Close ends this node's part, and waits. The store stays.
func (q *Quorum) Close() error {
	err := q.raft.Shutdown().Error()
	return errors.Join(err, q.store.Close())
}

// State returns the state that this manager has reached, nil if none yet.
func (q *Quorum) State() *state.State { return q.machine.state.Load() }

// Incarnation returns the one that Open was told.
func (q *Quorum) Incarnation() uint64 { return q.cfg.Incarnation }

// Applied returns how far in the log that is.
func (q *Quorum) Applied() uint64 { return q.raft.AppliedIndex() }

// Leading reports whether this node is the leader.
func (q *Quorum) Leading() bool { return q.raft.State() == raft.Leader }

// Elected returns a channel that tells when this node becomes the leader, and when it is no longer.
func (q *Quorum) Elected() <-chan bool { return q.raft.LeaderCh() }

// Leader returns the leader; it is zero while there is none that this node knows.
func (q *Quorum) Leader() identity.NodeID {
	_, name := q.raft.LeaderWithID()
	id, err := identity.ParseNodeID(string(name))
	if err != nil {
		return identity.NodeID{}
	}
	return id
}

// Apply has the managers agree on a command. Only the leader can; others return ErrNotLeader.
func (q *Quorum) Apply(ctx context.Context, id ID, c state.Command) (Outcome, error) {
	b, err := json.Marshal(entry{ID: id, Command: c})
	if err != nil {
		return Outcome{}, fmt.Errorf("quorum: %w", err)
	}
	wait := 5 * q.cfg.Timing
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Until(deadline), time.Millisecond)
	}
	f := q.raft.Apply(b, wait)
	if err := f.Error(); err != nil {
		return Outcome{}, leaderError(err)
	}
	return f.Response().(Outcome), nil
}

// Barrier returns when this leader's state has all that was committed before.
func (q *Quorum) Barrier() error {
	return leaderError(q.raft.Barrier(5 * q.cfg.Timing).Error())
}

// Transfer makes another voter the leader.
func (q *Quorum) Transfer() error { return leaderError(q.raft.LeadershipTransfer().Error()) }

// leaderError makes the many ways in which raft is not the leader one. A log that cannot be written to is among them: the
// leader steps down then, and another may do better.
func leaderError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNotLeader, err)
}

// logger passes what raft says on as debug messages: of what it calls errors and warnings nearly all are other nodes' absence.
func logger(log *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: lines{log}, Level: hclog.Debug, DisableTime: true})
}

type lines struct{ log *slog.Logger }

func (l lines) Write(b []byte) (int, error) {
	l.log.Debug("raft", "says", strings.TrimSpace(string(b)))
	return len(b), nil
}
