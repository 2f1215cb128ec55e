package cluster

import (
	"errors"
	"testing"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

func TestAWorkerFollowsWhatTheManagerDoes(t *testing.T) {
	a := start(t, "a").found()
	w := start(t, "w").join(a, state.Worker)
	a.propose(network("blue"))
	until(t, "w has the network", func() bool { return w.has("blue") })
	if s := w.State(); len(s.Cluster.CAKey) > 0 || len(s.Cluster.Tokens) > 0 {
		t.Error("a worker knows the cluster's secrets")
	}
	if leader, err := w.Quorum(); err != nil || leader != a.ID() {
		t.Errorf("w thinks that %s leads (%v), expected a", leader, err)
	}
	_, err := w.Propose(t.Context(), network("red"))
	says(t, err, state.ErrDenied)
	_, _, err = w.JoinTokens(t.Context())
	says(t, err, nil, "a (127.0.0.1:")
	_, err = w.Backup(t.Context())
	says(t, err, nil, "no manager")
}

func TestAProposalReturnsWhenThisNodeKnowsIt(t *testing.T) {
	hosts := trio(t)
	for _, h := range hosts {
		h.propose(network("of-" + h.name))
		if !h.has("of-" + h.name) {
			t.Errorf("%s does not know its own network", h.name)
		}
	}
}

func TestWorkersBecomeManagersAndBack(t *testing.T) {
	a := start(t, "a").found()
	b, c := start(t, "b").join(a, state.Worker), start(t, "c").join(a, state.Worker)
	role := func(h *host, r state.Role) state.Command {
		return state.Command{UpdateNode: &state.UpdateNode{ID: h.ID(), Role: r}}
	}
	a.propose(role(b, state.Manager))
	a.propose(role(c, state.Manager))
	voting(t, a, b, c)
	until(t, "b has the CA's key", func() bool { return len(b.State().Cluster.CAKey) > 0 })

	a.propose(role(b, state.Worker))
	voting(t, a, c)
	until(t, "b ends its part in Raft", func() bool { return b.quorum.Load() == nil })
	a.propose(network("after"))
	until(t, "b follows again", func() bool { return b.has("after") })
	if len(b.State().Cluster.CAKey) > 0 {
		t.Error("a worker has the CA's key")
	}

	leader, others := leading(t, []*host{a, c})
	leader.propose(role(leader, state.Worker)) // it hands over first
	voting(t, others[0])
	until(t, "the former leader ends its part in Raft", func() bool { return leader.quorum.Load() == nil })
	_, err := others[0].Propose(t.Context(), role(others[0], state.Worker))
	says(t, err, state.ErrDenied, "only manager")
	voting(t, others[0])
}

func TestARemovedNodeIsRefusedAtOnce(t *testing.T) {
	a := start(t, "a").found()
	b := start(t, "b").join(a, state.Manager)
	w := start(t, "w").join(a, state.Worker)
	voting(t, a, b)
	until(t, "w follows", func() bool { return w.State().Index == a.State().Index })
	conn, err := w.dial(t.Context(), a.ID(), identity.NodeALPN)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "w knows a manager", func() bool { return w.State().Nodes[a.ID()] != nil })
	b.propose(state.Command{RemoveNode: &state.RemoveNode{ID: w.ID()}})
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes on a connection that should be closed", n)
	}
	until(t, "w knows that it was removed", func() bool { return w.State().Nodes[w.ID()] == nil })
	_, err = w.Propose(t.Context(), network("red"))
	says(t, err, ErrRemoved, "weft leave")
	for _, h := range []*host{a, b} {
		conn, err := w.dial(t.Context(), h.ID(), identity.NodeALPN)
		if err == nil { // TLS 1.3: the client learns by its first read
			_, err = conn.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s still talks to a removed node", h.name)
		}
	}
	w.kill()
	w.boot()
	_, err = w.Quorum()
	says(t, err, ErrRemoved)
	says(t, w.tryJoin(a, state.Worker), ErrRemoved)
	old := w.ID()
	if err := w.Leave(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	w.join(a, state.Worker)
	if w.ID() == old {
		t.Error("the node kept the key that was removed")
	}
}

func TestManagersLeave(t *testing.T) {
	hosts := trio(t)
	leader, others := leading(t, hosts)
	for _, h := range []*host{leader, others[0]} {
		if err := h.Leave(t.Context(), false); err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		if h.State() != nil {
			t.Errorf("%s still has a state", h.name)
		}
		_, err := h.Quorum()
		says(t, err, ErrNoMember)
	}
	last := others[1]
	voting(t, last)
	if n := len(last.State().Nodes); n != 1 {
		t.Errorf("%d nodes are left, expected 1", n)
	}
	says(t, last.Leave(t.Context(), false), state.ErrDenied, "last manager", "--force")
	if err := last.Leave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	last.found() // nothing of the former cluster is in the way
}

func TestMembersAreInNoSecondCluster(t *testing.T) {
	a, b := start(t, "a").found(), start(t, "b").found()
	says(t, b.tryJoin(a, state.Worker), ErrMember, "weft leave")
	says(t, a.Init(t.Context(), InitOptions{Name: "a"}), ErrMember)
	says(t, start(t, "c").Leave(t.Context(), false), ErrNoMember)
}

func TestWhatANodeReportsIsKnown(t *testing.T) {
	mtu := make(chan int, 1)
	now := 1500
	a := start(t, "a", func(c *Config) {
		c.Report = func() state.Report {
			select {
			case now = <-mtu:
			default:
			}
			return state.Report{MTU: now}
		}
	}).found()
	mtu <- 9000
	until(t, "the MTU is reported", func() bool {
		n := a.State().Nodes[a.ID()]
		return n.MTU == 9000 && n.API == a.Addr() && n.Version == "test"
	})
}

func TestAMemberRunsOnce(t *testing.T) {
	h := start(t, "a").found()
	if err := h.Close(); err != nil { // it ends Run
		t.Error(err)
	}
	h.kill()
	if err := h.Run(t.Context()); err == nil {
		t.Error("it runs again")
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
	m, err := Open(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(h.cfg); err == nil {
		t.Error("two members use one directory")
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
}
