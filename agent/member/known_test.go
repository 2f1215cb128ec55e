package member_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

// knows reports whether a node's data path has a container, now.
func (n *node) knows(network, name string) bool {
	n.t.Helper()
	all, err := n.FDB(n.t.Context(), network)
	lab.Must(n.t, err)
	return slices.ContainsFunc(all, func(e api.FDBEntry) bool { return e.Name == name })
}

// deaf keeps gossip from reaching a node until the function that it returns is called.
func (n *node) deaf() (hear func()) {
	n.t.Helper()
	out, err := n.Command("nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; "+
		"add rule inet deaf in meta l4proto { tcp, udp } th dport 7946 drop").CombinedOutput()
	if err != nil {
		n.t.Fatalf("nft: %v: %s", err, out)
	}
	return func() {
		n.t.Helper()
		if out, err := n.Command("nft", "delete table inet deaf").CombinedOutput(); err != nil {
			n.t.Fatalf("nft: %v: %s", err, out)
		}
	}
}

// Gossip about the container reaches one node late. What attaching waits for is there when it returns: nobody looks twice here.
func TestAttachedContainerIsKnownOnEveryNode(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "red"}, b, c)
	a.network(api.NetworkRequest{Name: "blue"}, b, c)
	for _, n := range nodes {
		n.contain("first-"+n.Name(), "red", "blue")
	}
	for i := 0; ; i++ {
		name := fmt.Sprint("late", i)
		h, hear := lab.T(t, name), b.deaf()
		got := make(chan []api.Endpoint, 1)
		go func() {
			all, err := a.try(h, name, api.Attachment{Network: "red"}, api.Attachment{Network: "blue"})
			if err != nil {
				t.Error(err)
			}
			got <- all
		}()
		a.eventually("a itself knows it", func() error {
			if !a.knows("red", name) {
				return errorf("it does not")
			}
			return nil
		})
		hear()
		all := <-got
		missing := ""
		for _, other := range nodes {
			for _, network := range []string{"red", "blue"} {
				if !other.knows(network, name) {
					missing += " " + other.Name() + " in " + network
				}
			}
		}
		m, err := a.Member(t.Context(), "b")
		lab.Must(t, err)
		if m.Status != api.NodeReady && i < 10 {
			t.Logf("gossip has given b up, which was deaf for too long: once more")
			a.sees(3)
			continue
		}
		if missing != "" {
			t.Errorf("%s is attached, and not known on%s; warnings %q and %q", name, missing, all[0].Warning, all[1].Warning)
		}
		break
	}
	sound(nodes)
}

func TestNodeThatHangsHoldsAttachingUpForAWhileOnly(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, b, c)
	for _, n := range nodes {
		n.contain("first-"+n.Name(), "net1")
	}
	lab.Must(t, c.cmd.Process.Signal(unix.SIGSTOP))
	defer func() { _ = c.cmd.Process.Signal(unix.SIGCONT) }()
	begin := time.Now()
	_, got := a.containAt(lab.T(t, "c1"), "c1", api.Attachment{Network: "net1"})
	took := time.Since(begin)
	if w := got[0].Warning; w != "" && !strings.Contains(w, "on c,") {
		t.Errorf("the warning is %q; expected it to name c alone, or none once c is given up", w)
	}
	if !b.knows("net1", "c1") {
		t.Error("b, which is well, does not know it")
	}
	t.Logf("attaching took %s; it warns %q", took, got[0].Warning)

	// Once gossip has given it up, nobody waits for it.
	a.eventually("c is not ready", func() error {
		m, err := a.Member(t.Context(), "c")
		if err == nil && m.Status == api.NodeReady {
			err = errorf("it is")
		}
		return err
	})
	_, got = a.containAt(lab.T(t, "c2"), "c2", api.Attachment{Network: "net1"})
	if got[0].Warning != "" {
		t.Errorf("c is given up, and the warning is %q", got[0].Warning)
	}
	lab.Must(t, c.cmd.Process.Signal(unix.SIGCONT))
	for _, n := range nodes {
		n.sees(3)
	}
	c.lists("net1", "c1", "c2", "first-a", "first-b", "first-c")
	_, got = a.containAt(lab.T(t, "c3"), "c3", api.Attachment{Network: "net1"})
	if got[0].Warning != "" || !c.knows("net1", "c3") {
		t.Errorf("after c came back: warning %q, known there: %t", got[0].Warning, c.knows("net1", "c3"))
	}
	sound(nodes)
}

// A node that gave its last address of the network back hangs.
func TestNodeWithoutTheNetworkIsNotWaitedFor(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	b.contain("c1", "net1")
	a.contain("c2", "net1")
	lab.Must(t, b.Detach(t.Context(), "c1"))
	b.holds("net1", -1, -1, 0)
	a.eventually("b takes part no longer", func() error {
		d, err := a.Segment(t.Context(), "net1")
		if err == nil && len(d.Peers) != 1 {
			err = errorf("the peers are %+v", d.Peers)
		}
		return err
	})
	lab.Must(t, b.cmd.Process.Signal(unix.SIGSTOP))
	defer func() { _ = b.cmd.Process.Signal(unix.SIGCONT) }()
	_, got := a.containAt(lab.T(t, "c3"), "c3", api.Attachment{Network: "net1"})
	if got[0].Warning != "" {
		t.Errorf("the warning is %q", got[0].Warning)
	}
}

func BenchmarkAttach(b *testing.B) {
	needsRoot(b)
	for _, count := range []int{1, 3, 10} {
		b.Run(fmt.Sprint(count, " nodes"), func(b *testing.B) {
			names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}[:count]
			nodes := newLAN(b).cluster(names...)
			nodes[0].network(api.NetworkRequest{Name: "net1"}, nodes...)
			for _, n := range nodes {
				n.contain("first-"+n.Name(), "net1")
			}
			h, i := lab.T(b, "c"), 0
			for b.Loop() {
				name, at := fmt.Sprint("c", i), nodes[i%count]
				if _, err := at.try(h, name, api.Attachment{Network: "net1"}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				lab.Must(b, at.Detach(b.Context(), name))
				b.StartTimer()
				i++
			}
		})
	}
}
