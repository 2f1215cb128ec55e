package quorum

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

func node(id *identity.Identity, name string) state.Node {
	return state.Node{
		ID: id.ID(), Name: name, Role: state.Manager, Availability: state.Active,
		Key: id.Key.Public().(ed25519.PublicKey), Joined: time.Now(),
		Report: state.Report{API: netip.MustParseAddrPort("127.0.0.1:7373")},
	}
}

// wires tells the managers of a test where the others listen.
type wires struct {
	mu sync.Mutex
	at map[identity.NodeID]string
}

func (w *wires) dial(ctx context.Context, id identity.NodeID) (net.Conn, error) {
	w.mu.Lock()
	at := w.at[id]
	w.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", at)
}

// launch starts a manager.
func launch(t *testing.T, w *wires, dir string, self identity.NodeID, incarnation uint64) *Quorum {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.at[self] = lis.Addr().String()
	w.mu.Unlock()
	q, err := Open(Config{
		Dir: dir, Self: self, Timing: 150 * time.Millisecond, Incarnation: incarnation,
		Listener: lis, Dial: w.dial, Changed: func(*state.State) {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// command returns what a log entry of the test has.
func command(t *testing.T, by identity.NodeID, n uint64, name string) (ID, state.Command) {
	t.Helper()
	var e entry
	if err := json.Unmarshal(log(t, n, by, name).Data, &e); err != nil {
		t.Fatal(err)
	}
	return e.ID, e.Command
}

func TestManagersAreAddedWhenTheyHaveCaughtUp(t *testing.T) {
	s, self := newState(t)
	w := &wires{at: make(map[identity.NodeID]string)}
	dir := filepath.Join(t.TempDir(), "raft")
	if err := Seed(dir, self, s); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the store's directory is %v (%v); expected that only its owner may read it", info.Mode(), err)
	}
	a := launch(t, w, dir, self, 0)
	until(t, "a leads", a.Leading)
	if !bytes.Equal(a.State().Encode(), s.Encode()) {
		t.Error("a does not begin with the state that was seeded")
	}
	id, c := command(t, self, 1, "blue")
	if out, err := a.Apply(t.Context(), id, c); err != nil || out.Err != nil {
		t.Fatal(err, out.Err)
	}

	other := identity.NodeID{2}
	b := launch(t, w, filepath.Join(t.TempDir(), "raft"), other, 0)
	absent := identity.NodeID{3}
	want := []identity.NodeID{self, other, absent}
	reach := func(id identity.NodeID) (uint64, bool) { return b.Applied(), id == other }
	until(t, "b votes", func() bool {
		if err := a.Reconcile(want, reach); err != nil {
			t.Log(err)
		}
		voters, learners := b.Voters()
		return len(voters) == 2 && len(learners) == 0
	})
	if voters, learners := a.Voters(); len(voters) != 2 || len(learners) != 0 {
		t.Errorf("%v vote and %v learn; expected that a node which cannot be reached does neither", voters, learners)
	}
	if _, err := b.State().Network("blue"); err != nil {
		t.Error(err)
	}
	if _, err := b.Apply(t.Context(), id, c); !errors.Is(err, ErrNotLeader) {
		t.Errorf("b, which does not lead, says %v", err)
	}
	if err := a.Transfer(); err != nil {
		t.Fatal(err)
	}
	until(t, "b leads", func() bool { return b.Leading() && b.Leader() == other && a.Leader() == other })
	until(t, "a is taken out", func() bool { return b.Reconcile([]identity.NodeID{other}, reach) == nil && !a.Part() })
	id, c = command(t, self, 2, "red")
	if out, err := b.Apply(t.Context(), id, c); err != nil || out.Err != nil {
		t.Error(err, out.Err)
	}
}

func TestLogsOfTwoIncarnationsDoNotMix(t *testing.T) {
	s, self := newState(t)
	w := &wires{at: make(map[identity.NodeID]string)}
	dir := filepath.Join(t.TempDir(), "raft")
	if err := Seed(dir, self, s); err != nil {
		t.Fatal(err)
	}
	a := launch(t, w, dir, self, 2)
	other := identity.NodeID{2}
	b := launch(t, w, filepath.Join(t.TempDir(), "raft"), other, 1)
	until(t, "a leads", a.Leading)
	// Were b's incarnation not checked here, a would reach it all the same.
	if err := a.Reconcile([]identity.NodeID{self, other}, func(identity.NodeID) (uint64, bool) { return 0, true }); err != nil {
		t.Fatal(err)
	}
	c, err := w.dial(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte{0, 0, 0, 0, 0, 0, 0, 2, 0}); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("b answers another incarnation: %v", err)
	}
	if b.State() != nil || b.Part() {
		t.Error("b has taken something from another incarnation")
	}
}

func TestAStoreThatIsInUseIsNotOpened(t *testing.T) {
	s, self := newState(t)
	dir := filepath.Join(t.TempDir(), "raft")
	if err := Seed(dir, self, s); err != nil {
		t.Fatal(err)
	}
	w := &wires{at: make(map[identity.NodeID]string)}
	launch(t, w, dir, self, 0)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Self: self, Timing: time.Second, Listener: lis, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("two managers use one store")
	}
}
