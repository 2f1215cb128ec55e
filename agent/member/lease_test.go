package member_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/internal/lab"
)

// usage returns how full a network with one subnet is, as a node sees it.
func (n *node) usage(network string) api.Usage {
	n.t.Helper()
	all, err := n.Usage(n.t.Context())
	lab.Must(n.t, err)
	i := slices.IndexFunc(all, func(u api.Usage) bool { return u.Network == network })
	if i < 0 {
		n.t.Fatalf("no usage of network %s in %+v", network, all)
	}
	return all[i]
}

func TestSmallNetworkServesAllNodesUntilItIsFull(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1", Subnets: subnet("10.1.0.0/29")}, b, c) // 5 addresses
	boxes := []*box{a.contain("c1", "net1"), b.contain("c2", "net1"), c.contain("c3", "net1"), a.contain("c4", "net1"), b.contain("c5", "net1")}
	begin := time.Now()
	_, err := c.try(lab.T(t, "c6"), "c6", api.Attachment{Network: "net1"})
	refused(t, err, "all 5 addresses", "10.1.0.0/29", "net1", "node a")
	if d := time.Since(begin); d > 6*time.Second {
		t.Errorf("it took %s to learn that the network is full", d)
	}
	for _, from := range boxes {
		from.reaches(boxes...)
	}
	if u := c.usage("net1"); u.Size != 5 || u.Leased != 5 || u.Used != 5 || u.Free != 0 || u.Reserved != 3 {
		t.Errorf("usage is %+v", u)
	}
	lab.Must(t, a.Detach(t.Context(), "c4"))
	c6 := c.contain("c6", "net1") // the address that has become free, of another node
	if c6.addr != boxes[3].addr {
		t.Errorf("c6 has %s; expected %s, the only one that is free", c6.addr, boxes[3].addr)
	}
	c6.reaches(boxes[0])
	sound(nodes)
}

func TestFullNetworkOfOneNodeIsAnErrorAtOnce(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	a := newLAN(t).cluster("a")[0]
	a.network(api.NetworkRequest{Name: "net1", Subnets: subnet("10.1.0.0/30")})
	a.contain("c1", "net1")
	begin := time.Now()
	_, err := a.try(lab.T(t, "c2"), "c2", api.Attachment{Network: "net1"})
	refused(t, err, "all 1 addresses", "10.1.0.0/30")
	if d := time.Since(begin); d > time.Second {
		t.Errorf("it took %s though nobody could give anything back", d)
	}
}

func TestTightNetworkGetsSpareAddressesBack(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1", Subnets: subnet("10.1.0.0/28")}, b) // 13 addresses
	a.contain("a0", "net1")
	for i := range 12 {
		b.contain(fmt.Sprintf("b%d", i), "net1")
	}
	a.holds("net1", 1, 1, 1)
	if u := b.usage("net1"); u.Size != 13 || u.Leased != 13 || u.Used != 13 {
		t.Errorf("usage is %+v", u)
	}
	sound(nodes)
}

func TestNetworkIsRemovedRightAfterTheLastDetach(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	for i := range 3 {
		name := fmt.Sprintf("net%d", i)
		a.network(api.NetworkRequest{Name: name}, b, c)
		for _, n := range nodes {
			n.contain("c-"+n.Name(), name)
		}
		for _, n := range nodes {
			lab.Must(t, n.Detach(t.Context(), "c-"+n.Name()))
		}
		lab.Must(t, nodes[i].removeWhenManager(a, name))
	}
	a.network(api.NetworkRequest{Name: "unused"}, b, c)
	gone, err := a.PruneNetworks(t.Context())
	if err != nil || !slices.Equal(gone, []string{"unused"}) {
		t.Errorf("pruned %v, %v; expected unused alone", gone, err)
	}
	sound(nodes)
}

// removeWhenManager removes a network by way of this node, which a worker is refused: then by the manager.
func (n *node) removeWhenManager(manager *node, network string) error {
	err := n.RemoveNetwork(n.t.Context(), network)
	if n == manager || err == nil {
		return err
	}
	refused(n.t, err, "is a worker", manager.Name())
	return manager.RemoveNetwork(n.t.Context(), network)
}

// shortLeases makes the leases of a cluster that has just begun live for a shorter time.
func (n *node) shortLeases(ttl time.Duration) {
	n.t.Helper()
	text, err := n.Backup(n.t.Context())
	lab.Must(n.t, err)
	var file map[string]json.RawMessage
	lab.Must(n.t, json.Unmarshal(text, &file))
	s, err := state.Decode(file["state"])
	lab.Must(n.t, err)
	s.Cluster.LeaseTTL = ttl
	file["state"] = s.Encode()
	text, err = json.Marshal(file)
	lab.Must(n.t, err)
	lab.Must(n.t, n.Restore(n.t.Context(), api.RestoreRequest{Backup: text, Force: true}))
}

func TestLeasesOfDeadNodeExpireAndAreAskedForAgain(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	a := l.cluster("a")[0]
	a.shortLeases(2 * time.Second)
	b := l.node("b")
	b.join(a, false)
	a.sees(2)
	b.sees(2)
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c1.reaches(c2)
	lab.Must(t, b.stop(unix.SIGKILL))
	a.eventually("b's addresses are free", func() error {
		d, err := a.Segment(t.Context(), "net1")
		if err == nil && len(d.Peers) != 1 {
			err = errorf("%+v take part", d.Peers)
		}
		return err
	})
	b.start()
	b.sees(2)
	c1.reaches(c2) // nobody took c2's address meanwhile: b leases it anew
	sound([]*node{a, b})

	lab.Must(t, b.stop(unix.SIGKILL))
	a.eventually("b's addresses are free", func() error {
		d, err := a.Segment(t.Context(), "net1")
		if err == nil && len(d.Peers) != 1 {
			err = errorf("%+v take part", d.Peers)
		}
		return err
	})
	h := lab.T(t, "c3")
	_, err := a.try(h, "c3", api.Attachment{Network: "net1", Addresses: []netip.Addr{c2.addr}})
	lab.Must(t, err)
	begin := time.Now()
	b.start()
	b.eventually("c2 is cut off: its address is another's now", func() error {
		s, err := b.Status(t.Context())
		if err == nil && !strings.Contains(strings.Join(s.Problems, "\n"), "c2 has "+c2.addr.String()) {
			err = errorf("problems are %q", s.Problems)
		}
		return err
	})
	c3 := &box{h, a, "c3", c2.addr}
	c1.reaches(c3)
	a.lists("net1", "c1", "c3")
	if asked, d := strings.Count(b.log.String(), "an address in use is leased by another node"), time.Since(begin); asked > 1+int(d/(5*time.Second)) {
		t.Errorf("the address was asked for %d times in %s; each is a write on all managers", asked, d)
	}
	lab.Must(t, a.Detach(t.Context(), "c3"))
	c1.reaches(c2) // b gets the address back as soon as it is free
	sound([]*node{a, b})
}

func TestContainerKeepsItsInterfaceWhileItsLeaseIsLost(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	a := l.cluster("a")[0]
	a.shortLeases(2 * time.Second)
	b := l.node("b")
	b.join(a, false)
	a.sees(2)
	b.sees(2)
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c1.reaches(c2)
	var more []*box
	for i := range 70 { // more than can be asked for at once
		more = append(more, b.contain(fmt.Sprint("m", i), "net1"))
	}
	names := []string{"c1"}
	for _, x := range more {
		names = append(names, x.name)
	}
	eth0 := func() int {
		t.Helper()
		link, err := c2.Netlink().LinkByName("eth0")
		lab.Must(t, err)
		return link.Attrs().Index
	}
	before := eth0()
	l.connect(b, false)
	a.eventually("b's addresses are free", func() error {
		d, err := a.Segment(t.Context(), "net1")
		if err == nil && len(d.Peers) != 1 {
			err = errorf("%+v take part", d.Peers)
		}
		return err
	})
	h := lab.T(t, "c3")
	_, err := a.try(h, "c3", api.Attachment{Network: "net1", Addresses: []netip.Addr{c2.addr}})
	lab.Must(t, err)
	l.connect(b, true)
	b.eventually("c2 is cut off", func() error {
		all, err := b.Endpoint(t.Context(), "c2")
		if err == nil && (all[0].State != api.StateGone || !strings.Contains(all[0].Error, "leased by this node no longer")) {
			err = errorf("it is %+v", all)
		}
		return err
	})
	c3 := &box{h, a, "c3", c2.addr}
	c1.reaches(c3)
	a.lists("net1", append(names, "c3")...) // the others are there again all the same
	more[0].reaches(c3, c1)
	more[69].reaches(c3, c1)
	if err := c2.pingAddr(c1.addr); err == nil {
		t.Error("a container whose address is another's reaches others")
	}
	lab.Must(t, a.Detach(t.Context(), "c3"))
	lab.Must(t, c3.Close())
	c1.reaches(c2)
	if after := eth0(); after != before {
		t.Errorf("its interface was made anew")
	}
	sound([]*node{a, b})
}

func TestAttachingAndDetachingLeaksNothing(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	a.network(api.NetworkRequest{Name: "net2"}, b)
	stay, other := b.contain("stay", "net1"), a.contain("other", "net1")
	h := lab.T(t, "c")
	cycle := func(times int) {
		for i := range times {
			nets := []api.Attachment{{Network: "net1"}}
			if i%8 == 0 {
				nets = append(nets, api.Attachment{Network: "net2"}) // taken part in anew each time
			}
			b.containAt(h, "c", nets...)
			lab.Must(t, b.Detach(t.Context(), "c"))
		}
	}
	cycle(10)
	b.holds("net2", -1, -1, 0)
	fds, before := b.files(), b.usage("net1").Leased
	cycle(200)
	b.holds("net1", 1, 16, 1)
	b.holds("net2", -1, -1, 0)
	b.lists("net1", "stay", "other")
	a.lists("net1", "stay", "other")
	if have := interfaces(t, h); len(have) != 0 {
		t.Errorf("the container has %v", have)
	}
	if after := b.usage("net1").Leased; after != before {
		t.Errorf("%d addresses of net1 are leased; there were %d", after, before)
	}
	b.eventually("as many files are open as before", func() error {
		if now := b.files(); now > fds+3 { // connections of this test's and other nodes' come and go
			return errorf("%d are, %d were: %v", now, fds, b.open())
		}
		return nil
	})
	stay.reaches(other)
	sound(nodes)
	used := b.goroutines()
	b.start()
	stay.reaches(other)
	sound(nodes)
	if fresh := b.goroutines(); used > fresh+10 { // connections, as above
		t.Errorf("%d goroutines are left; an agent that has just started has %d", used, fresh)
	}
}

// goroutines ends the agent and returns how many it had.
func (n *node) goroutines() int {
	_ = n.stop(unix.SIGQUIT) // ends it with their stacks
	return strings.Count(n.log.String(), "\ngoroutine ")
}

// open returns what the agent's open files are, with how often.
func (n *node) open() map[string]int {
	n.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid)
	all, err := os.ReadDir(dir)
	lab.Must(n.t, err)
	kinds := make(map[string]int)
	for _, f := range all {
		target, err := os.Readlink(filepath.Join(dir, f.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		kind, _, _ := strings.Cut(target, ":[")
		kinds[kind]++
	}
	return kinds
}

// files returns how many files the agent has open; those that wait for a collection soon not.
func (n *node) files() int {
	n.t.Helper()
	lab.Must(n.t, n.cmd.Process.Signal(unix.SIGUSR1))
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	lab.Must(n.t, err)
	return len(all)
}
