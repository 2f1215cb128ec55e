package quorum

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// begin returns a machine of a cluster with one manager.
func begin(t testing.TB) (*machine, identity.NodeID) {
	t.Helper()
	s, self := newState(t)
	m := newMachine(func(*state.State) {})
	m.state.Store(s)
	return m, self
}

// newState returns the state of a cluster with one manager.
func newState(t testing.TB) (*state.State, identity.NodeID) {
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
	secret := bytes.Repeat([]byte{1}, 32)
	c := &state.Command{At: now, By: id.ID(), Init: &state.Init{
		Cluster: state.Cluster{
			ID: identity.NewSecret(), Created: now, CACert: ca.Cert.Raw, CAKey: key,
			Tokens:   map[state.Role]string{state.Worker: identity.NewSecret(), state.Manager: identity.NewSecret()},
			Gossip:   state.Keyring{Keys: []state.Key{{Epoch: 1, Secret: secret, Created: now}}, Primary: 1},
			LeaseTTL: time.Hour, CertLife: 24 * time.Hour,
		},
		Node:      node(id, "a"),
		IngressID: state.NetworkID{1},
		Secret:    secret,
	}}
	s, _, err := (*state.State)(nil).Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, id.ID()
}

// log returns a log entry that makes a network.
func log(t testing.TB, id uint64, by identity.NodeID, name string) *raft.Log {
	t.Helper()
	e := entry{Command: state.Command{At: time.Now(), By: by, CreateNetwork: &state.CreateNetwork{
		Secret: bytes.Repeat([]byte{1}, 32), Spec: state.NetworkSpec{Name: name, Driver: state.Overlay},
	}}}
	binary.BigEndian.PutUint64(e.ID[:], id)
	binary.BigEndian.PutUint64(e.Command.CreateNetwork.ID[:], id)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: id, Data: b}
}

func TestACommandIsDoneOnceAlsoByAMachineFromASnapshot(t *testing.T) {
	m, self := begin(t)
	first := m.Apply(log(t, 7, self, "blue")).(Outcome)
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := snap.(*snapshot).encode()
	if err != nil {
		t.Fatal(err)
	}
	other := newMachine(func(*state.State) {})
	if err := other.Restore(io.NopCloser(bytes.NewReader(b))); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*machine{"the machine": m, "one from its snapshot": other} {
		again := m.Apply(log(t, 7, self, "blue")).(Outcome)
		if again.Err != nil || again.Index != first.Index || again.Result.Network == nil {
			t.Errorf("%s says %+v, expected %+v", name, again, first)
		}
		if as := m.Apply(log(t, 8, self, "blue")).(Outcome); !errors.Is(as.Err, state.ErrExists) {
			t.Errorf("%s does another proposal for the same: %+v", name, as)
		}
	}
	if !bytes.Equal(m.state.Load().Encode(), other.state.Load().Encode()) {
		t.Error("the states differ")
	}
}

func TestAMachineForgetsTheOldestCommands(t *testing.T) {
	m := newMachine(func(*state.State) {})
	id := func(n int) (id ID) {
		binary.BigEndian.PutUint64(id[:], uint64(n))
		return id
	}
	const more = 10
	for n := range memory + more {
		m.remember(done{ID: id(n), Index: uint64(n)})
	}
	if len(m.recent) != memory || len(m.known) != memory {
		t.Errorf("it knows %d and %d commands, expected %d", len(m.recent), len(m.known), memory)
	}
	for n := range memory + more {
		i, known := m.known[id(n)]
		if known != (n >= more) || known && m.recent[i].Index != uint64(n) {
			t.Fatalf("command %d is known: %v", n, known)
		}
	}
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range snap.(*snapshot).recent {
		if d.Index != uint64(more+i) {
			t.Fatalf("command %d of the snapshot is %d; expected the oldest first", i, d.Index)
		}
	}
}

func TestWhatIsNoCommandChangesNothing(t *testing.T) {
	m, self := begin(t)
	before := m.state.Load()
	for name, data := range map[string][]byte{
		"garbage":        {0xff},
		"no command":     []byte(`{"id":[1]}`),
		"one by nobody":  log(t, 1, identity.NodeID{9}, "blue").Data,
		"a refused name": log(t, 1, self, "no name").Data,
	} {
		if out := m.Apply(&raft.Log{Data: data}).(Outcome); out.Err == nil {
			t.Errorf("%s is done", name)
		}
	}
	if m.state.Load() != before {
		t.Error("the state is another one")
	}
}

func FuzzDecode(f *testing.F) {
	s, _ := newState(f)
	b, err := (&snapshot{state: s}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"state":null}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, _, err := decode(b); err == nil && s == nil {
			t.Error("neither a state nor an error")
		}
	})
}
