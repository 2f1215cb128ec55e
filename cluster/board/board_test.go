package board

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

var quiet = slog.New(slog.DiscardHandler)

func at(index uint64) *state.State { return &state.State{Index: index} }

func TestOnlyANewerStateIsHungUp(t *testing.T) {
	b := New(t.TempDir(), nil, quiet)
	changed := b.Next()
	b.Set(at(5))
	select {
	case <-changed:
	default:
		t.Error("nobody is told")
	}
	changed = b.Next()
	b.Set(at(5))
	b.Set(at(4))
	select {
	case <-changed:
		t.Error("an older state is news")
	default:
	}
	b.Put(at(4))
	if got := b.Get().Index; got != 4 {
		t.Errorf("the state has the index %d; expected the one that was put there, 4", got)
	}
	b.Put(nil)
	if err := b.Await(t.Context(), 1); !errors.Is(err, ErrEmpty) {
		t.Errorf("waiting at an empty board: %v", err)
	}
}

func TestAStateIsOnDiskBeforeWhoAwaitsItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		var broken atomic.Bool
		file := func(_ string, text []byte) error {
			time.Sleep(50 * time.Millisecond) // a slow disk
			if broken.Load() {
				return errors.New("no space")
			}
			written.Add(1)
			return nil
		}
		b := New(t.TempDir(), file, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Keep(ctx) }()
		b.Set(at(1))
		if err := b.Await(t.Context(), 1); err != nil || written.Load() != 1 {
			t.Errorf("awaited with the error %v, %d copies written", err, written.Load())
		}
		for i := range uint64(100) {
			b.Set(at(2 + i)) // the one that rests writes the last of them
		}
		begin := time.Now()
		if err := b.Await(t.Context(), 101); err != nil || written.Load() > 3 {
			t.Errorf("awaited with the error %v, %d copies written; expected the newest, and at most one before it", err, written.Load())
		}
		if took := time.Since(begin); took > 200*time.Millisecond {
			t.Errorf("who waits waits %s for the copy's rest", took)
		}
		broken.Store(true)
		b.Set(at(102))
		if err := b.Await(t.Context(), 102); err != nil {
			t.Errorf("a full disk stops who waits: %v", err)
		}
		before := written.Load()
		broken.Store(false)
		time.Sleep(2 * time.Second)
		if written.Load() != before+1 {
			t.Errorf("%d copies are written since the disk was full; expected one more attempt when there is room", written.Load()-before)
		}
		short, done := context.WithTimeout(t.Context(), time.Second)
		defer done()
		if err := b.Await(short, 103); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("awaiting what never comes: %v", err)
		}
		cancel()
		<-ended
	})
}

func TestTheLastStateIsWrittenAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		b := New(t.TempDir(), func(string, []byte) error { written++; return nil }, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.Set(at(1))
		b.Keep(ctx)
		if written != 1 {
			t.Errorf("%d copies are written, expected 1", written)
		}
	})
}

func TestAWriteThatFailsLeavesTheOldFileWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := replaceFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("new")); err == nil {
		t.Error("the write succeeds")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "old" {
		t.Errorf("the file has %q (%v)", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v); expected that only its owner may read it", info.Mode(), err)
	}
}

func TestADirectoryIsLockedOnce(t *testing.T) {
	dir := t.TempDir()
	f, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil {
		t.Error("it is locked twice")
	}
	f.Close()
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestWhatIsSavedIsRead(t *testing.T) {
	dir := t.TempDir()
	b := New(dir, nil, quiet)
	if _, err := b.Read(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading nothing: %v", err)
	}
	s := founded(t)
	if err := b.Save(s); err != nil {
		t.Fatal(err)
	}
	got, err := New(dir, nil, quiet).Read()
	if err != nil || string(got.Encode()) != string(s.Encode()) {
		t.Errorf("read %v (%v)", got, err)
	}
	if err := errors.Join(b.Wipe(), b.Wipe()); err != nil {
		t.Error(err)
	}
	if _, err := b.Read(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading what was wiped: %v", err)
	}
}

// founded returns the state of a cluster of one manager.
func founded(t *testing.T) *state.State {
	t.Helper()
	id, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca, err := identity.NewCA("test", now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.MarshalKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	s, _, err := (*state.State)(nil).Apply(&state.Command{At: now, By: id.ID(), Init: &state.Init{
		Cluster: state.Cluster{
			ID: identity.NewSecret(), Created: now, CACert: ca.Cert.Raw, CAKey: key,
			Tokens: map[state.Role]string{state.Worker: identity.NewSecret(), state.Manager: identity.NewSecret()},
			Gossip: state.Keyring{Keys: []state.Key{{Epoch: 1, Secret: secret, Created: now}}, Primary: 1},
		},
		Node: state.Node{
			ID: id.ID(), Name: "a", Role: state.Manager, Key: id.Key.Public().(ed25519.PublicKey),
			Report: state.Report{API: netip.MustParseAddrPort("127.0.0.1:7373")},
		},
		IngressID: state.NetworkID{1}, Secret: secret,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
