// Package duty says what the leader of a cluster has to do besides what it is asked for: free the leases of nodes that nobody
// sees any more, and replace the keys that all nodes share. It decides from what it is told, and does nothing itself.
//
//	             Rotate, or a node was removed               all nodes there have it, or Behind
//	one key in use ──────────install──────────► two, older in use ──────────use──────────► two, newer in use
//	      ▲                                                                                       │
//	      └────────────────────────────────────────remove─────────────────────────────────────────┘
//	                                         after three Steps
package duty

import (
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// present is how long ago gossip may have seen a node that a rotation of keys waits for.
const present = time.Minute

// Timing is how long a rotation of keys takes.
type Timing struct {
	Rotate time.Duration // age at which keys are replaced
	Step   time.Duration // between two steps: the nodes hear of the first
	Behind time.Duration // how long a rotation waits for nodes that do not report the new key
}

// Sight is when each node was last seen alive; nil: nobody looks.
type Sight map[identity.NodeID]time.Time

// Term is what a leader keeps in mind while it leads. One goroutine uses it.
type Term struct {
	since time.Time // nodes that nobody has seen count as seen then
	stage stage     // of the rotation of keys
	moved time.Time // when the stage began
}

// stage is how far a rotation is.
type stage struct {
	newest, primary uint64
	keys            int
}

// Begin returns the term of a leader that was elected now.
func Begin(now time.Time) *Term { return &Term{since: now, moved: now} }

// Expired returns the nodes whose leases are to be freed: nobody has seen them for the leases' lifetime.
func (t *Term) Expired(s *state.State, seen Sight, now time.Time) []identity.NodeID {
	leasing := make(map[identity.NodeID]bool)
	for id, leases := range s.Leases {
		if n := s.Networks[id]; n == nil || n.Driver == state.Bridge {
			continue // a bridge's leases do not expire: nobody else could use them
		}
		for _, l := range leases {
			leasing[l.Node] = true
		}
	}
	var ids []identity.NodeID
	for id := range leasing {
		last := t.since
		if seen[id].After(last) {
			last = seen[id]
		}
		if now.Sub(last) > s.Cluster.LeaseTTL {
			ids = append(ids, id)
		}
	}
	return ids
}

// Rotate returns the next step of a rotation of keys if one is due, otherwise none. Between two steps the nodes get time to
// hear of the first, and a key is used only when all nodes that are there report it, or do not for too long.
func (t *Term) Rotate(s *state.State, seen Sight, now time.Time, timing Timing) state.RotateStep {
	ring := s.Cluster.Gossip
	if len(ring.Keys) == 0 {
		return ""
	}
	newest := ring.Keys[len(ring.Keys)-1]
	if st := (stage{newest: newest.Epoch, primary: ring.Primary, keys: len(ring.Keys)}); st != t.stage {
		t.stage, t.moved = st, now
	}
	waited := now.Sub(t.moved)
	switch {
	case newest.Epoch != ring.Primary:
		if waited >= timing.Behind || waited >= timing.Step && reported(s, newest.Epoch, seen, now) {
			return state.StepUse
		}
	case len(ring.Keys) > 1:
		if waited >= 3*timing.Step { // no node reports which key it seals with: they follow the state within a step
			return state.StepRemove
		}
	case now.Sub(newest.Created) >= timing.Rotate || removedSince(s, newest.Created):
		return state.StepInstall
	}
	return ""
}

// removedSince says whether a node was removed that knows the keys of that time.
func removedSince(s *state.State, t time.Time) bool {
	for _, at := range s.Removed {
		if at.After(t) {
			return true
		}
	}
	return false
}

// reported says whether all nodes that are there have the key of that epoch.
func reported(s *state.State, epoch uint64, seen Sight, now time.Time) bool {
	for id, n := range s.Nodes {
		there := seen == nil || now.Sub(seen[id]) < present
		if there && n.KeyEpoch < epoch {
			return false
		}
	}
	return true
}
