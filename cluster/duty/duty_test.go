package duty

import (
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

func TestRotationWaitsForNodesThatAreThere(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	here, gone := identity.NodeID{1}, identity.NodeID{2}
	timing := Timing{Rotate: 12 * time.Hour, Step: 10 * time.Second, Behind: 5 * time.Minute}
	ring := func(primary uint64, epochs ...uint64) state.Keyring {
		r := state.Keyring{Primary: primary}
		for _, e := range epochs {
			r.Keys = append(r.Keys, state.Key{Epoch: e, Created: start})
		}
		return r
	}
	for name, tc := range map[string]struct {
		ring        state.Keyring
		herE, goneE uint64
		goneSeen    time.Duration // ago
		waited      time.Duration
		want        state.RotateStep
	}{
		"a young key stays":                         {ring(1, 1), 1, 1, 0, timing.Rotate - time.Second, ""},
		"an old key is replaced":                    {ring(1, 1), 1, 1, 0, timing.Rotate, state.StepInstall},
		"a new key waits a step":                    {ring(1, 1, 2), 2, 2, 0, timing.Step - 1, ""},
		"a new key that all have is used":           {ring(1, 1, 2), 2, 2, 0, timing.Step, state.StepUse},
		"a new key waits for a node that is there":  {ring(1, 1, 2), 2, 1, 0, timing.Step, ""},
		"it waits for none that is gone":            {ring(1, 1, 2), 2, 1, time.Hour, timing.Step, state.StepUse},
		"it does not wait for ever":                 {ring(1, 1, 2), 1, 1, 0, timing.Behind, state.StepUse},
		"the old key stays while nodes change over": {ring(2, 1, 2), 2, 2, 0, timing.Step, ""},
		"the old key goes":                          {ring(2, 1, 2), 2, 2, 0, 3 * timing.Step, state.StepRemove},
	} {
		t.Run(name, func(t *testing.T) {
			s := &state.State{
				Cluster: state.Cluster{Gossip: tc.ring},
				Nodes: map[identity.NodeID]*state.Node{
					here: {Report: state.Report{KeyEpoch: tc.herE}},
					gone: {Report: state.Report{KeyEpoch: tc.goneE}},
				},
			}
			now := start.Add(tc.waited)
			seen := Sight{here: now, gone: now.Add(-tc.goneSeen)}
			term := Begin(start)
			term.Rotate(s, seen, start, timing) // the stage begins
			if got := term.Rotate(s, seen, now, timing); got != tc.want {
				t.Errorf("the step is %q, expected %q", got, tc.want)
			}
		})
	}
}

func TestLeasesOfNodesThatNobodySeesExpire(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	seen, unseen, without, fresh, bridge := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}, identity.NodeID{4}, identity.NodeID{5}
	s := &state.State{
		Cluster: state.Cluster{LeaseTTL: time.Hour},
		Networks: map[state.NetworkID]*state.Network{
			{1}: {NetworkSpec: state.NetworkSpec{Driver: state.Overlay}},
			{2}: {NetworkSpec: state.NetworkSpec{Driver: state.Bridge}},
		},
		Leases: map[state.NetworkID][]*state.Lease{{1}: {{Node: seen}, {Node: unseen}, {Node: fresh}}, {2}: {{Node: bridge}}},
	}
	sight := Sight{seen: now.Add(-time.Minute), unseen: now.Add(-2 * time.Hour), without: now.Add(-2 * time.Hour)}
	long := Begin(now.Add(-time.Hour - time.Second))
	got := long.Expired(s, sight, now)
	slices.SortFunc(got, func(a, b identity.NodeID) int { return int(a[0]) - int(b[0]) })
	if want := []identity.NodeID{unseen, fresh}; !slices.Equal(got, want) {
		t.Errorf("expired are %v, expected %v", got, want)
	}
	short := Begin(now.Add(-time.Minute)) // it cannot know yet
	if got := short.Expired(s, sight, now); len(got) > 0 {
		t.Errorf("a leader of a minute expires %v", got)
	}
}

func TestARemovedNodeEndsTheKeysThatItKnows(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	timing := Timing{Rotate: 12 * time.Hour, Step: time.Second, Behind: time.Minute}
	for name, tc := range map[string]struct {
		removed time.Duration // after the newest key was made
		keys    []uint64
		want    state.RotateStep
	}{
		"one removed later":                {time.Second, []uint64{1}, state.StepInstall},
		"one removed before":               {-time.Second, []uint64{1}, ""},
		"one removed in between, later on": {time.Second, []uint64{1, 2}, ""}, // first this rotation comes to its end
	} {
		t.Run(name, func(t *testing.T) {
			s := &state.State{Removed: map[identity.NodeID]time.Time{{1}: made.Add(tc.removed)}}
			for _, e := range tc.keys {
				s.Cluster.Gossip.Keys = append(s.Cluster.Gossip.Keys, state.Key{Epoch: e, Created: made})
				s.Cluster.Gossip.Primary = e
			}
			if got := Begin(made).Rotate(s, nil, made.Add(2*time.Second), timing); got != tc.want {
				t.Errorf("the step is %q, expected %q", got, tc.want)
			}
		})
	}
}
