package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/weftnet/weft/cluster/state"
)

func backupOf(t *testing.T, h *host) []byte {
	t.Helper()
	b, err := h.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestARestoredClusterGoesOnWithOneManager(t *testing.T) {
	hosts := trio(t)
	a, b, c := hosts[0], hosts[1], hosts[2]
	w := start(t, "w").join(a, state.Worker)
	a.propose(network("blue"))
	backup := backupOf(t, a)
	a.propose(network("later")) // the backup does not know
	until(t, "w has seen a later state", func() bool { return w.has("later") })
	b.kill()
	c.kill()
	says(t, a.Restore(t.Context(), backup, false), ErrMember, "--force")
	if err := a.Restore(t.Context(), backup, true); err != nil {
		t.Fatal(err)
	}
	if !a.has("blue") || a.has("later") {
		t.Error("a does not have the backup's state")
	}
	a.propose(network("new"))
	until(t, "w takes the restored state", func() bool { return w.has("new") && !w.has("later") })
	b.boot()
	until(t, "b comes back as a worker", func() bool {
		return b.has("new") && b.State().Nodes[b.ID()].Role == state.Worker && b.quorum.Load() == nil
	})
	a.propose(state.Command{UpdateNode: &state.UpdateNode{ID: b.ID(), Role: state.Manager}})
	voting(t, a, b)
}

func TestAManagersLogFromBeforeARestorationCountsNoMore(t *testing.T) {
	a := start(t, "a").found()
	b := start(t, "b").join(a, state.Manager)
	voting(t, a, b)
	backup := backupOf(t, a)
	for _, name := range []string{"later", "latest"} {
		a.propose(network(name)) // b's log is the longer one
	}
	until(t, "b has it all", func() bool { return b.has("latest") })
	b.kill()
	if err := a.Restore(t.Context(), backup, true); err != nil {
		t.Fatal(err)
	}
	// b never hears that it was a worker in between.
	a.propose(state.Command{UpdateNode: &state.UpdateNode{ID: b.ID(), Role: state.Manager}})
	b.boot()
	voting(t, a, b)
	b.propose(network("new"))
	until(t, "a has the network", func() bool { return a.has("new") })
	for _, h := range []*host{a, b} {
		if h.has("later") || h.has("latest") {
			t.Errorf("%s has what was made after the backup", h.name)
		}
	}
}

func TestABackupIsRestoredOnAnEmptyHost(t *testing.T) {
	a := start(t, "a").found()
	a.propose(network("blue"))
	w := start(t, "w").join(a, state.Worker)
	backup := backupOf(t, a)
	old := a.ID()
	a.kill()
	if err := os.RemoveAll(a.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	a.boot()
	if err := a.Restore(t.Context(), backup, false); err != nil {
		t.Fatal(err)
	}
	s := a.State()
	if n := s.Nodes[a.ID()]; a.ID() == old || n == nil || n.Name != "a" || n.Role != state.Manager {
		t.Errorf("this node is %+v; expected the manager a with a new key", n)
	}
	if s.Nodes[old] != nil || s.Nodes[w.ID()] == nil || !a.has("blue") {
		t.Error("the state is not the backup's with the old key removed")
	}
	says(t, a.Init(t.Context(), InitOptions{}), ErrMember)

	other := start(t, "other")
	if err := other.Restore(t.Context(), backup, false); err != nil {
		t.Fatal(err)
	}
	if n := other.State().Nodes[other.ID()]; n == nil || n.Role != state.Manager || len(other.State().Managers()) != 1 {
		t.Errorf("another host is %+v; expected the only manager", n)
	}
}

func TestWhatIsNoBackupIsRefused(t *testing.T) {
	a, x := start(t, "a").found(), start(t, "x")
	good := backupOf(t, a)
	changed := func(change func(*backup)) []byte {
		var b backup
		if err := json.Unmarshal(good, &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	redacted := a.State().View(x.ID()).Encode()
	for name, tc := range map[string]struct {
		text []byte
		word string
	}{
		"nothing":                      {nil, "no backup"},
		"garbage":                      {bytes.Repeat([]byte{0xff}, 100), "no backup"},
		"half of one":                  {good[:len(good)/2], "no backup"},
		"another version":              {changed(func(b *backup) { b.Version = 7 }), "version 7"},
		"an empty state":               {changed(func(b *backup) { b.State = []byte("{}") }), "state"},
		"another index":                {changed(func(b *backup) { b.Index++ }), "was changed"},
		"a state without the CA's key": {changed(func(b *backup) { b.State = redacted }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			says(t, x.Restore(t.Context(), tc.text, false), state.ErrInvalid, tc.word)
			if x.State() != nil {
				t.Error("it has a state")
			}
		})
	}
}

func FuzzReadBackup(f *testing.F) {
	f.Add([]byte(`{"format":"weft-backup","version":1,"cluster":"x","index":1,"state":{"index":1}}`))
	f.Add([]byte(`{"format":"weft-backup","version":1,"state":null}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readBackup(text)
		if err == nil && len(s.Cluster.CAKey) == 0 {
			t.Error("a state without the CA's key")
		}
		if err != nil && !errors.Is(err, state.ErrInvalid) {
			t.Errorf("the error %q is not of the kind %q", err, state.ErrInvalid)
		}
	})
}
