package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/cluster/state"
)

// ID tells one proposal from another that asks for the same. Whoever proposes draws it at random, and keeps it when it
// tries again.
type ID [16]byte

// entry is one command in the log.
type entry struct {
	ID      ID            `json:"id"`
	Command state.Command `json:"command"`
}

// Outcome is what became of a command.
type Outcome struct {
	Result state.Result
	Index  uint64 // of the state that has it
	Err    error  // why state.Apply refused it
}

// memory is how many commands a machine remembers by ID. A proposal is tried again for seconds, not for thousands of commands.
const memory = 2048

// done is a command that was applied.
type done struct {
	ID     ID           `json:"id"`
	Result state.Result `json:"result"`
	Index  uint64       `json:"index"`
}

// machine is the state machine that Raft drives: state.Apply, and a memory of what was applied lately, so that a proposal
// whose answer was lost with its leader is not done twice. Raft calls it from one goroutine.
type machine struct {
	state   atomic.Pointer[state.State]
	changed func(*state.State)
	recent  []done // a ring once it is full
	next    int    // where the ring goes on
	known   map[ID]int
}

func newMachine(changed func(*state.State)) *machine {
	return &machine{changed: changed, known: make(map[ID]int)}
}

// Apply does one command of the log (raft.FSM). It returns an Outcome.
func (m *machine) Apply(log *raft.Log) any {
	var e entry
	if err := json.Unmarshal(log.Data, &e); err != nil {
		return Outcome{Err: fmt.Errorf("log entry %d: %w", log.Index, err)}
	}
	return m.apply(e)
}

func (m *machine) apply(e entry) Outcome {
	if i, again := m.known[e.ID]; again {
		return Outcome{Result: m.recent[i].Result, Index: m.recent[i].Index}
	}
	before := m.state.Load()
	after, result, err := before.Apply(&e.Command)
	if err != nil {
		return Outcome{Err: err}
	}
	m.remember(done{ID: e.ID, Result: result, Index: after.Index})
	m.state.Store(after)
	if after != before {
		m.changed(after)
	}
	return Outcome{Result: result, Index: after.Index}
}

// remember keeps one command, in the place of the oldest if there are enough.
func (m *machine) remember(d done) {
	if len(m.recent) < memory {
		m.known[d.ID] = len(m.recent)
		m.recent = append(m.recent, d)
		return
	}
	delete(m.known, m.recent[m.next].ID)
	m.known[d.ID] = m.next
	m.recent[m.next] = d
	m.next = (m.next + 1) % memory
}

// image is a snapshot as it is on disk and goes to managers that are far behind.
type image struct {
	Version int             `json:"version"`
	State   json.RawMessage `json:"state"`
	Recent  []done          `json:"recent"` // oldest first
}

const imageVersion = 1

// Snapshot returns what Persist writes (raft.FSM). States are immutable: it only takes the pointer.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	s := &snapshot{state: m.state.Load()}
	s.recent = append(append(s.recent, m.recent[m.next:]...), m.recent[:m.next]...)
	return s, nil
}

// Restore takes another machine's snapshot in the place of what there is (raft.FSM).
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	s, recent, err := decode(b)
	if err != nil {
		return err
	}
	m.recent, m.next, m.known = nil, 0, make(map[ID]int)
	for _, d := range recent {
		m.remember(d)
	}
	m.state.Store(s)
	m.changed(s)
	return nil
}

func decode(b []byte) (*state.State, []done, error) {
	var i image
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, nil, fmt.Errorf("snapshot: %w", err)
	}
	if i.Version != imageVersion {
		return nil, nil, fmt.Errorf("snapshot: version %d; expected %d: it was written by another version of weft", i.Version, imageVersion)
	}
	s, err := state.Decode(i.State)
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot: %w", err)
	}
	return s, i.Recent, nil
}

type snapshot struct {
	state  *state.State
	recent []done
}

func (s *snapshot) encode() ([]byte, error) {
	if s.state == nil {
		return nil, errors.New("snapshot: there is no state yet")
	}
	return json.Marshal(image{Version: imageVersion, State: s.state.Encode(), Recent: s.recent})
}

// Persist writes the snapshot (raft.FSMSnapshot).
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	b, err := s.encode()
	if err == nil {
		_, err = sink.Write(b)
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release has nothing to give up (raft.FSMSnapshot).
func (s *snapshot) Release() {}
