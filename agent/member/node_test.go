package member_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

// joinAs asks for membership under a name.
func (n *node) joinAs(name string, manager *node) error {
	n.t.Helper()
	tokens, err := manager.Tokens(n.t.Context())
	lab.Must(n.t, err)
	_, err = n.Join(n.t.Context(), api.JoinRequest{Token: tokens.Worker, Remote: tokens.Remote.String(), Name: name})
	return err
}

func TestNameIsTakenUntilItsNodeIsRemoved(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	nodes := l.cluster("a", "b")
	a, b := nodes[0], nodes[1]
	c := l.node("c")
	refused(t, c.joinAs("b", a), "b", "another")
	if _, err := c.Cluster(t.Context()); err == nil {
		t.Error("a node whose name was refused is a member")
	}
	lab.Must(t, c.joinAs("c", a))
	a.sees(3)

	// A node that lost its disk comes back as another.
	a.network(api.NetworkRequest{Name: "net1"}, b, c)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c1.reaches(c2)
	refused(t, a.RemoveMember(t.Context(), "b", false), "b is ready", "--force")
	lab.Must(t, b.stop(unix.SIGKILL))
	lab.Must(t, os.RemoveAll(b.Dir))
	b.start()
	refused(t, b.joinAs("b", a), "b", "weft node rm")
	a.eventually("the audit finds the addresses of the lost node", func() error {
		d, err := a.Segment(t.Context(), "net1")
		lab.Must(t, err)
		all, err := a.Audit(t.Context())
		i := slices.IndexFunc(d.Peers, func(p api.NetworkPeer) bool { return p.Node == "b" })
		if err == nil && (i < 0 || len(all) != d.Peers[i].Leased || len(all) == 0 || all[0].Node != "b") {
			err = errorf("it finds %+v among %+v", all, d.Peers)
		}
		return err
	})
	a.eventually("the lost node can be removed", func() error { return a.RemoveMember(t.Context(), "b", false) })
	a.holds("net1", 1, 16, 1)
	a.lists("net1", "c1")
	lab.Must(t, b.joinAs("b", a))
	a.sees(3)
	b.eventually("net1 is there", func() error { _, err := b.Segment(t.Context(), "net1"); return err })
	again, _ := b.containAt(c2.Host, "c2", api.Attachment{Network: "net1"}) // its old interface is still there
	if have := interfaces(t, c2.Host); len(have) != 1 || !strings.Contains(have["eth0"], again.addr.String()) {
		t.Errorf("c2 has %v; expected eth0 with %s alone", have, again.addr)
	}
	c1.reaches(again)
	again.reaches(c1)
	sound([]*node{a, b, c})
}

func TestRemovedNodeIsCutOff(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, b, c)
	c1, c2, c3 := a.contain("c1", "net1"), b.contain("c2", "net1"), c.contain("c3", "net1")
	c2.reaches(c1, c3)
	lab.Must(t, a.RemoveMember(t.Context(), "b", true))
	for _, n := range []*node{a, c} {
		n.lists("net1", "c1", "c3")
	}
	for _, to := range []*box{c1, c3} {
		to.node.eventually("a container of a removed node reaches nobody", func() error { // within milliseconds
			if c2.ping(to) == nil {
				return errorf("it reaches %s", to.name)
			}
			return nil
		})
		if err := to.ping(c2); err == nil {
			t.Errorf("%s reaches a container of a removed node", to.name)
		}
	}
	b.eventually("the node says that it was removed", func() error {
		d, err := b.Cluster(t.Context())
		if err == nil && !(strings.Contains(d.Problem, "removed") && strings.Contains(d.Problem, "weft leave")) {
			err = errorf("its problem is %q", d.Problem)
		}
		return err
	})
	_, err := b.try(lab.T(t, "c4"), "c4", api.Attachment{Network: "net1"})
	refused(t, err, "removed")
	c1.reaches(c3)

	lab.Must(t, b.Leave(t.Context(), api.LeaveRequest{Force: true}))
	if have := interfaces(t, c2.Host); len(have) != 0 {
		t.Errorf("after leaving, the container has %v", have)
	}
	lab.Must(t, b.joinAs("b", a))
	a.sees(3)
	b.eventually("net1 is there", func() error { _, err := b.Segment(t.Context(), "net1"); return err })
	again, _ := b.containAt(c2.Host, "c2", api.Attachment{Network: "net1"})
	again.reaches(c1, c3)
	sound(nodes)
}

func TestNodeThatLeavesDetachesAll(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	a.network(api.NetworkRequest{Name: "own", Driver: "bridge"})
	b.network(api.NetworkRequest{Name: "bs", Driver: "bridge"}, a)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1", "bs")
	c1.reaches(c2)
	refused(t, a.Leave(t.Context(), api.LeaveRequest{}), "only manager", "weft node promote")
	if have := interfaces(t, c1.Host); len(have) != 1 {
		t.Errorf("a refused leave left the container with %v", have)
	}
	lab.Must(t, b.Leave(t.Context(), api.LeaveRequest{}))
	if have := interfaces(t, c2.Host); len(have) != 0 {
		t.Errorf("the container has %v", have)
	}
	a.lists("net1", "c1")
	a.sees(1)
	a.eventually("the bridge network of a node that left is gone", func() error {
		if _, err := a.Segment(t.Context(), "bs"); err == nil {
			return errorf("it is still there")
		}
		return nil
	})
	if _, err := b.try(c2.Host, "c2", api.Attachment{Network: "net1"}); err == nil || !strings.Contains(err.Error(), "weft join") {
		t.Errorf("attaching on a node that left: %v", err)
	}
	sound([]*node{a})
	refused(t, a.Leave(t.Context(), api.LeaveRequest{}), "last", "--force")
	lab.Must(t, a.Leave(t.Context(), api.LeaveRequest{Force: true}))
	if have := interfaces(t, c1.Host); len(have) != 0 {
		t.Errorf("the last container has %v", have)
	}
}

func TestLeaveThatNobodyHearsOfLeavesAllAsItIs(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2, c3 := a.contain("c1", "net1"), b.contain("c2", "net1"), b.contain("c3", "net1")
	lab.Must(t, a.stop(unix.SIGKILL))
	b.quorum(false)
	refused(t, b.Leave(t.Context(), api.LeaveRequest{}), "no quorum", "--force")
	c2.reaches(c3)
	a.start()
	c2.reaches(c1, c3)
	lab.Must(t, a.stop(unix.SIGKILL))
	lab.Must(t, b.Leave(t.Context(), api.LeaveRequest{Force: true}))
	if have := interfaces(t, c2.Host); len(have) != 0 {
		t.Errorf("the container has %v", have)
	}
	a.start()
	a.eventually("the node that left can be removed", func() error { return a.RemoveMember(t.Context(), "b", false) })
	lab.Must(t, b.joinAs("b", a))
	a.sees(2)
	sound(nodes)
}

func TestNodeThatMovesIsFoundAtItsNewAddress(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	nodes := l.cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, b, c)
	c1, c2, c3 := a.contain("c1", "net1"), b.contain("c2", "net1"), c.contain("c3", "net1")
	c2.reaches(c1, c3)
	lab.Must(t, b.stop(unix.SIGTERM))
	link, err := b.Netlink().LinkByName("eth0")
	lab.Must(t, err)
	old, err := netlink.ParseAddr(netip.PrefixFrom(b.addr, 24).String())
	lab.Must(t, err)
	lab.Must(t, b.Netlink().AddrDel(link, old))
	b.addr = addr("192.0.2.99")
	b.Advertise = b.addr
	lab.Must(t, b.Address("eth0", netip.PrefixFrom(b.addr, 24)))
	b.start()
	for _, n := range nodes {
		n.eventually("b is at its new address", func() error {
			m, err := n.Member(t.Context(), "b")
			if err == nil && (m.VTEP.Addr() != b.addr || m.Status != api.NodeReady) {
				err = errorf("it is %s at %s", m.Status, m.VTEP)
			}
			return err
		})
	}
	c2.reaches(c1, c3)
	c3.reaches(c2)
	c4 := b.contain("c4", "net1")
	c1.reaches(c4)
	sound(nodes)
}

func TestDrainedNodeTakesNothingNew(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	drain := func(to string) {
		t.Helper()
		_, err := a.ChangeMember(t.Context(), "b", api.MemberChange{Availability: to})
		lab.Must(t, err)
		b.eventually("b is "+to, func() error {
			m, err := b.Member(t.Context(), "b")
			if err == nil && m.Availability != to {
				err = errorf("it is %s", m.Availability)
			}
			return err
		})
	}
	drain("drain")
	h := lab.T(t, "c3")
	_, err := b.try(h, "c3", api.Attachment{Network: "net1"}) // though spare addresses are there
	refused(t, err, "b is drained", "weft node activate")
	c2.reaches(c1)
	drain("active")
	c3, _ := b.containAt(h, "c3", api.Attachment{Network: "net1"})
	c3.reaches(c1)
	sound(nodes)
}
