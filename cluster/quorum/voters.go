package quorum

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/cluster/identity"
)

// Part reports whether this node is in Raft's configuration, as far as it knows: a manager that was taken out of it hears
// nothing more.
func (q *Quorum) Part() bool {
	_, in := q.servers()[q.cfg.Self]
	return in
}

// Voters returns who votes, and who only learns yet.
func (q *Quorum) Voters() (voters, learners []identity.NodeID) {
	for id, s := range q.servers() {
		if s.Suffrage == raft.Voter {
			voters = append(voters, id)
		} else {
			learners = append(learners, id)
		}
	}
	return voters, learners
}

func (q *Quorum) servers() map[identity.NodeID]raft.Server {
	f := q.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	servers := make(map[identity.NodeID]raft.Server)
	for _, s := range f.Configuration().Servers {
		if id, err := identity.ParseNodeID(string(s.ID)); err == nil {
			servers[id] = s
		}
	}
	return servers
}

// Reconcile brings the voters one step nearer to want; the leader calls it again and again. applied says how far a node's
// log is applied, and whether it takes part in Raft at all: a node that cannot be reached would only make the quorum harder
// to reach, so it does not count before it has what this leader had when it was asked.
func (q *Quorum) Reconcile(want []identity.NodeID, applied func(identity.NodeID) (uint64, bool)) error {
	have := q.servers()
	for id := range have {
		if !slices.Contains(want, id) && id != q.cfg.Self {
			return q.Remove(id)
		}
	}
	for _, id := range want {
		s, in := have[id]
		if in && s.Suffrage == raft.Voter {
			continue
		}
		mine := q.Applied()
		theirs, ready := applied(id)
		switch {
		case !ready:
		case !in:
			return q.settle("add learner", id, q.raft.AddNonvoter(serverID(id), address(id), 0, q.patience()))
		case theirs >= mine:
			return q.settle("add voter", id, q.raft.AddVoter(serverID(id), address(id), 0, q.patience()))
		}
	}
	return nil
}

// Remove takes a node out of Raft.
func (q *Quorum) Remove(id identity.NodeID) error {
	if _, in := q.servers()[id]; !in {
		return nil
	}
	return q.settle("remove", id, q.raft.RemoveServer(serverID(id), 0, q.patience()))
}

func (q *Quorum) settle(what string, id identity.NodeID, f raft.IndexFuture) error {
	if err := f.Error(); err != nil {
		return fmt.Errorf("quorum: %s %s: %w", what, id, leaderError(err))
	}
	q.cfg.Log.Info("quorum changed", "step", what, "node", id)
	return nil
}

func (q *Quorum) patience() time.Duration { return 5 * q.cfg.Timing }

func serverID(id identity.NodeID) raft.ServerID { return raft.ServerID(id.String()) }

func address(id identity.NodeID) raft.ServerAddress { return raft.ServerAddress(id.String()) }
