package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

func TestALostLeaderIsReplaced(t *testing.T) {
	hosts := trio(t)
	w := start(t, "w").join(hosts[0], state.Worker)
	leader, others := leading(t, hosts)
	leader.kill()
	for i, h := range others {
		h.propose(network(fmt.Sprintf("n%d", i)))
	}
	until(t, "the worker follows the new leader", func() bool { return w.has("n0") && w.has("n1") })
	leader.boot()
	voting(t, hosts...)
	until(t, "the old leader has caught up", func() bool { return leader.has("n1") })
	leader.propose(network("back"))
}

func TestWithoutAQuorumOnlyChangesStop(t *testing.T) {
	hosts := trio(t)
	a, b, c := hosts[0], hosts[1], hosts[2]
	w := start(t, "w").join(a, state.Worker)
	a.propose(network("blue"))
	until(t, "w has the network", func() bool { return w.has("blue") && a.has("blue") })
	b.kill()
	c.kill()
	for _, h := range []*host{a, w} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := h.Propose(ctx, network("red"))
		cancel()
		says(t, err, ErrNoQuorum, "1 of 3 managers reachable (a)", "until a majority is back", "running containers are not affected")
		if !h.has("blue") || h.has("red") {
			t.Errorf("%s does not have the state from before", h.name)
		}
	}
	until(t, "a knows that nobody leads", func() bool { _, err := a.Quorum(); return errors.Is(err, ErrNoQuorum) })

	a.kill()
	w.kill()
	for _, h := range []*host{a, w} {
		h.boot()
		if !h.has("blue") {
			t.Errorf("%s lost its state by a restart", h.name)
		}
	}
	b.boot()
	voting2(t, a, b)
	a.propose(network("green")) // red may have been done by now: it was in a's log
	until(t, "w follows again", func() bool { return w.has("green") })
}

// voting2 waits until these hosts agree on a leader, whoever else votes.
func voting2(t *testing.T, hosts ...*host) {
	t.Helper()
	until(t, "they agree on a leader", func() bool {
		first, err := hosts[0].Quorum()
		for _, h := range hosts {
			if l, e := h.Quorum(); e != nil || l != first {
				return false
			}
		}
		return err == nil
	})
}

func TestOfTwoNodesWithOneNameOneJoins(t *testing.T) {
	hosts := trio(t)
	one, two := start(t, "x"), start(t, "x")
	errs := make([]error, 2)
	var joins sync.WaitGroup
	for i, h := range []*host{one, two} {
		joins.Go(func() { errs[i] = h.tryJoin(hosts[i], state.Worker) })
	}
	joins.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("the errors of the two joins are %v; expected exactly one", errs)
	}
	loser := two
	if errs[0] != nil {
		loser = one
	}
	says(t, errors.Join(errs...), state.ErrExists, "weft node rm")
	if loser.State() != nil {
		t.Error("the one that may not join has a state")
	}
	if cert, _ := loser.Identity().Certificates(); cert != nil {
		t.Error("the one that may not join has a certificate")
	}
}

func TestANodeWithAWipedDiskComesBackAsAnother(t *testing.T) {
	a := start(t, "a").found()
	w := start(t, "w").join(a, state.Worker)
	old := w.ID()
	w.kill()
	if err := os.RemoveAll(w.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	w.boot()
	if w.ID() == old || w.State() != nil {
		t.Fatal("a wiped node is what it was")
	}
	says(t, w.tryJoin(a, state.Worker), state.ErrExists, "weft node rm w")
	a.propose(state.Command{RemoveNode: &state.RemoveNode{ID: old}})
	w.join(a, state.Worker)
}

func TestAcknowledgedChangesOutliveTheirLeader(t *testing.T) {
	hosts := trio(t)
	var made sync.Map
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var count atomic.Int64
	leader, others := leading(t, hosts)
	for i, h := range others {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("n%d-%d", i, n)
				// What a proposal says that exists already would have been done twice.
				if _, err := h.Propose(ctx, network(name)); err == nil {
					made.Store(name, true)
					count.Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	until(t, "some changes are made", func() bool { return count.Load() >= 20 })
	leader.kill()
	before := count.Load()
	until(t, "changes go on", func() bool { return count.Load() >= before+20 })
	stop()
	writers.Wait()
	for _, h := range hosts {
		if h != leader {
			h.kill()
		}
	}
	for _, h := range hosts {
		h.boot()
	}
	voting(t, hosts...)
	leader.propose(network("last"))
	made.Range(func(name, _ any) bool {
		if !leader.has(name.(string)) {
			t.Errorf("the acknowledged network %s is lost", name)
		}
		return true
	})
}

func TestAProposalIsDoneOnce(t *testing.T) {
	a := start(t, "a").found()
	p := &rpc.Proposal{ID: quorum.ID{1}, Command: network("blue")}
	p.Command.By = a.ID()
	first, err := a.decide(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	a.kill()
	a.boot()
	until(t, "a leads again", func() bool { q := a.quorum.Load(); return q != nil && q.Leading() })
	again, err := a.decide(t.Context(), p)
	if err != nil {
		t.Fatalf("the same proposal again: %v", err)
	}
	if again.Index != first.Index || again.Result.Network == nil || again.Result.Network.ID != p.Command.CreateNetwork.ID {
		t.Errorf("again it gives %+v, expected %+v", again, first)
	}
	other := *p
	other.ID = quorum.ID{2}
	_, err = a.decide(t.Context(), &other)
	says(t, err, state.ErrExists)
}

func TestAManagerForwardsForWhoAsked(t *testing.T) {
	hosts := trio(t)
	w := start(t, "w").join(hosts[0], state.Worker)
	_, others := leading(t, hosts)
	until(t, "the manager knows w", func() bool { return others[0].State().Nodes[w.ID()] != nil })
	// A worker says that it is the leader's and that a manager forwards it: neither is believed.
	forged := &rpc.Proposal{ID: quorum.ID{1}, Command: network("red"), Forwarded: true}
	forged.Command.By = hosts[0].ID()
	ask := func(p *rpc.Proposal) (err error) {
		until(t, "a leader answers", func() bool {
			_, err = w.client.Propose(t.Context(), others[0].ID(), p)
			return !errors.Is(err, rpc.ErrUnavailable)
		})
		return err
	}
	says(t, ask(forged), state.ErrDenied)
	report := w.own()
	report.MTU = 1234
	if err := ask(&rpc.Proposal{ID: quorum.ID{2}, Command: state.Command{Report: &report}}); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskStopsNothingThatRuns(t *testing.T) {
	dir := smallDisk(t)
	if dir == "" {
		return
	}
	a := start(t, "a").found()
	w := start(t, "w", func(c *Config) { c.Dir = filepath.Join(dir, "w") }).join(a, state.Worker)
	a.propose(network("before"))
	until(t, "the worker's disk has the network", func() bool {
		s, err := w.board.Read()
		return err == nil && s.Index == a.State().Index
	})
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	c := network("during")
	c.CreateNetwork.Spec.Labels = make(map[string]string) // more than may be left of the ballast's last block
	for i := range 50 {
		c.CreateNetwork.Spec.Labels[fmt.Sprintf("l%d", i)] = strings.Repeat("x", 1000)
	}
	a.propose(c)
	until(t, "the worker has the network, and its disk does not", func() bool { return w.has("during") && w.log.says("cannot be kept on disk") })
	w.kill()
	w.boot()
	if !w.has("before") {
		t.Error("the state on disk was damaged")
	}
	until(t, "the worker follows", func() bool { return w.has("during") })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	until(t, "the disk is used again", func() bool {
		s, err := w.board.Read()
		return err == nil && s.Index == a.State().Index
	})
}

func TestANodeThatCannotKeepItsStateDoesNotJoin(t *testing.T) {
	a := start(t, "a").found()
	w := start(t, "w", func(c *Config) { c.file = func(string, []byte) error { return unix.ENOSPC } })
	says(t, w.tryJoin(a, state.Worker), unix.ENOSPC, "no member", "join again")
	if w.State() != nil {
		t.Error("it is a member")
	}
	w.kill()
	w.cfg.file = nil
	w.boot()
	if cert, _ := w.Identity().Certificates(); cert != nil || w.State() != nil {
		t.Error("it is half a member")
	}
	w.join(a, state.Worker) // the same node under the same key
}

// smallDisk returns a directory that takes no more than 1 MiB. The test that asks for it runs once more in a process whose
// mounts are its own; there it gets the directory, here an empty string.
func smallDisk(t *testing.T) string {
	t.Helper()
	const inside = "WEFT_TEST_SMALL_DISK"
	if os.Getenv(inside) != "" {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
		return dir
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	again.Env = append(os.Environ(), inside+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return ""
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func TestADamagedStateIsAnErrorWithARemedy(t *testing.T) {
	a := start(t, "a").found()
	a.kill()
	if err := os.WriteFile(filepath.Join(a.cfg.Dir, "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(a.cfg)
	says(t, err, nil, "state.json", "restore a backup")
}

func TestLeavingWithoutAnyManagerTakesForce(t *testing.T) {
	a := start(t, "a").found()
	w := start(t, "w").join(a, state.Worker)
	a.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	says(t, w.Leave(ctx, false), ErrNoQuorum, "--force", "weft node rm")
	if w.State() == nil {
		t.Fatal("it left")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	old := w.ID()
	if err := w.Leave(ctx, true); err != nil {
		t.Fatal(err)
	}
	if w.State() != nil || w.ID() == old || w.ID() == (identity.NodeID{}) {
		t.Error("it did not forget what it was")
	}
}
