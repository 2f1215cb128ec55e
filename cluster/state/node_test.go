package state

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestNodeNames(t *testing.T) {
	c := newCluster(t)
	other := testNode("other", Worker)
	other.Name = "A"
	c.refuses(Command{AddNode: &AddNode{other}}, ErrExists, idOf("a").String(), "2026-01-02T03:04:07Z", "weft node rm a", "--name")
	for _, name := range []string{"", "-a", "a-", "a.b", "a_b", "é", string(make([]byte, 64))} {
		other.Name = name
		c.refuses(Command{AddNode: &AddNode{other}}, ErrInvalid, "--name")
	}
	other.Name = "node-7"
	c.do(Command{AddNode: &AddNode{other}})
	other.Key = testNode("a", Worker).Key
	c.refuses(Command{AddNode: &AddNode{other}}, ErrInvalid, "key")
}

func TestTheSameNodeComesBack(t *testing.T) {
	c := newCluster(t)
	report := Report{API: netip.MustParseAddrPort("192.0.2.1:7373"), MTU: 1500}
	c.do(Command{By: idOf("a"), Report: &report})
	c.do(Command{UpdateNode: &UpdateNode{ID: idOf("a"), Role: Manager, Availability: Drain}})

	before := c.State
	c.do(Command{AddNode: &AddNode{testNode("a", Worker)}})
	if c.State != before {
		t.Fatalf("coming back changed the node to %+v", c.Nodes[idOf("a")])
	}
	renamed := testNode("a", Worker)
	renamed.Name = "a2"
	c.do(Command{AddNode: &AddNode{renamed}})
	if n := c.Nodes[idOf("a")]; n.Name != "a2" || n.Role != Manager || n.Availability != Drain || n.API != report.API || !n.Joined.Equal(before.Nodes[n.ID].Joined) {
		t.Fatalf("came back under another name as %+v", n)
	}
	c.do(Command{AddNode: &AddNode{testNode("b", Manager)}})
	if n := c.Nodes[idOf("b")]; n.Role != Manager {
		t.Fatal("a manager's token did not promote")
	}
}

func TestARemovedNodeIsRefusedForEver(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"})
	own := create(NetworkSpec{Name: "own", Driver: Bridge})
	own.By = idOf("a")
	c.do(own)
	for _, id := range []NetworkID{web.ID, netID("own")} {
		c.do(Command{By: idOf("a"), Lease: &AskLease{Network: id, Count: 3}})
	}
	c.do(Command{By: idOf("b"), Lease: &AskLease{Network: web.ID, Count: 3}})

	c.do(Command{RemoveNode: &RemoveNode{idOf("a")}})
	if c.Networks[netID("own")] != nil || c.Leases[netID("own")] != nil {
		t.Error("its bridge is still there")
	}
	if p := c.Participants(web.ID); len(p) != 1 || p[0] != idOf("b") {
		t.Errorf("participants of web: %v", p)
	}
	c.refuses(Command{AddNode: &AddNode{testNode("a", Manager)}}, ErrDenied, "for ever", "weft leave --force")
	c.refuses(Command{By: idOf("a"), Report: &Report{}}, ErrDenied, "removed")
	c.refuses(Command{RemoveNode: &RemoveNode{idOf("a")}}, ErrNotFound)
	again := testNode("wiped", Worker)
	again.Name = "a"
	c.do(Command{AddNode: &AddNode{again}}) // a new identity may have the name
}

func TestThereIsAlwaysAManager(t *testing.T) {
	c := newCluster(t)
	c.refuses(Command{RemoveNode: &RemoveNode{idOf("m1")}}, ErrDenied, "weft node promote")
	c.refuses(Command{UpdateNode: &UpdateNode{ID: idOf("m1"), Role: Worker}}, ErrDenied, "weft node promote")
	c.do(Command{UpdateNode: &UpdateNode{ID: idOf("a"), Role: Manager}})
	c.do(Command{UpdateNode: &UpdateNode{ID: idOf("m1"), Role: Worker}})
	if m := c.Managers(); len(m) != 1 || m[0].Name != "a" {
		t.Fatalf("managers: %v", m)
	}
	for i := range MaxManagers - 1 {
		c.do(Command{By: idOf("a"), AddNode: &AddNode{testNode(fmt.Sprintf("x%d", i), Manager)}})
	}
	c.refuses(Command{By: idOf("a"), AddNode: &AddNode{testNode("eighth", Manager)}}, ErrInvalid, "at most 7")
	c.refuses(Command{By: idOf("a"), UpdateNode: &UpdateNode{ID: idOf("b"), Role: Manager}}, ErrInvalid, "at most 7")
	c.refuses(Command{By: idOf("a"), UpdateNode: &UpdateNode{ID: idOf("b"), Role: "king"}}, ErrInvalid, "king")
	c.refuses(Command{By: idOf("a"), UpdateNode: &UpdateNode{ID: idOf("b"), Availability: "maybe"}}, ErrInvalid, "maybe")
	c.refuses(Command{By: idOf("a"), UpdateNode: &UpdateNode{ID: idOf("nobody")}}, ErrNotFound)
}

func TestReportsChangeTheirOwnNode(t *testing.T) {
	c := newCluster(t)
	r := Report{VTEP: netip.MustParseAddrPort("192.0.2.1:4789"), MTU: 1500, Routes: []netip.Prefix{prefix("192.0.2.0/24")}, Version: "1", KeyEpoch: 1}
	before := c.State
	c.do(Command{By: idOf("a"), Report: &r})
	if n := c.Nodes[idOf("a")]; !n.Report.equal(r) || n.Name != "a" {
		t.Fatalf("a: %+v", n)
	}
	if c.Nodes[idOf("b")] != before.Nodes[idOf("b")] || before.Nodes[idOf("a")].MTU != 0 {
		t.Error("another node or state changed")
	}
	r.Routes[0] = prefix("198.51.100.0/24")
	if c.Nodes[idOf("a")].Routes[0] != prefix("192.0.2.0/24") {
		t.Error("the state keeps the command's slice")
	}
	r.Routes[0] = prefix("192.0.2.0/24")
	same := c.State
	if c.do(Command{By: idOf("a"), Report: &r}); c.State != same {
		t.Error("the same report made another state")
	}
	for name, r := range map[string]Report{
		"no port":            {API: netip.AddrPortFrom(addr("192.0.2.1"), 0)},
		"no address":         {API: netip.AddrPortFrom(netip.Addr{}, 80)},
		"all addresses":      {VTEP: netip.MustParseAddrPort("0.0.0.0:4789")},
		"a scoped address":   {Gossip: netip.MustParseAddrPort("[fe80::1%eth0]:7946")},
		"a negative MTU":     {MTU: -1},
		"a route of nothing": {Routes: []netip.Prefix{{}}},
		"too many routes":    {Routes: make([]netip.Prefix, maxRoutes+1)},
		"bytes for a text":   {Version: "\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			c.refuses(Command{By: idOf("a"), Report: &r}, ErrInvalid, "node a")
		})
	}
}

func TestADrainedNodeGetsNoAddresses(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"})
	c.do(Command{By: idOf("a"), Lease: &AskLease{Network: web.ID, Count: 1}})
	c.do(Command{UpdateNode: &UpdateNode{ID: idOf("a"), Availability: Drain}})
	c.refuses(Command{By: idOf("a"), Lease: &AskLease{Network: web.ID, Count: 1}}, ErrDenied, "weft node activate a")
	if len(c.Lease(web.ID, idOf("a")).Addresses) != 1 {
		t.Error("draining took what it had")
	}
	c.do(Command{UpdateNode: &UpdateNode{ID: idOf("a"), Availability: Active}})
	c.do(Command{By: idOf("a"), Lease: &AskLease{Network: web.ID, Count: 1}})
}

func TestTimesAreTheLeaders(t *testing.T) {
	c := newCluster(t)
	zone := time.FixedZone("far", 5*3600)
	c.do(Command{At: start.Add(time.Hour).In(zone), AddNode: &AddNode{testNode("x", Worker)}})
	if at := c.Nodes[idOf("x")].Joined; at.Location() != time.UTC || !at.Equal(start.Add(time.Hour)) {
		t.Errorf("joined %s", at)
	}
}
