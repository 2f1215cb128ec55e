package member_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

func needsRoot(t testing.TB) {
	t.Helper()
	if lab.Unprivileged() {
		t.Skip("takes root, for network namespaces")
	}
}

func TestContainersOfThreeNodesReachEachOther(t *testing.T) {
	needsRoot(t)
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, nodes...)
	boxes := []*box{a.contain("c1", "net1"), b.contain("c2", "net1"), c.contain("c3", "net1"), a.contain("c4", "net1")}
	for _, from := range boxes {
		from.reaches(boxes...)
	}
	for _, n := range nodes {
		n.eventually("all endpoints are known", func() error {
			_, err := n.Endpoint(t.Context(), "c3")
			return err
		})
	}
	if err := c.Detach(t.Context(), "c3"); err != nil {
		t.Fatal(err)
	}
	a.eventually("c3 is gone", func() error {
		all, err := a.Endpoints(t.Context(), "net1")
		if err == nil && len(all) != 3 {
			err = errorf("%d endpoints", len(all))
		}
		return err
	})
}

func TestKilledAgentLeavesContainersTalkingAndTakesThemUpAgain(t *testing.T) {
	needsRoot(t)
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, nodes...)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c1.reaches(c2)
	conn := dial(t, c1, c2)
	for _, n := range []*node{b, a} {
		conn.echo("before " + n.Name())
		lab.Must(t, n.stop(unix.SIGKILL))
		conn.send("while " + n.Name() + " is away")
		n.start()
		conn.expect("while " + n.Name() + " is away")
	}
	c2.reaches(c1)
}

func TestNetworkInUseIsNotRemoved(t *testing.T) {
	needsRoot(t)
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, nodes...)
	b.contain("c1", "net1")
	err := a.RemoveNetwork(t.Context(), "net1")
	if err == nil || !strings.Contains(err.Error(), "b") || !strings.Contains(err.Error(), "net1") {
		t.Fatalf("removing a network in use: %v", err)
	}
	lab.Must(t, b.Detach(t.Context(), "c1"))
	lab.Must(t, a.RemoveNetwork(t.Context(), "net1"))
}

func TestGarbageAtTheNodePortIsRefusedAndShown(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	before, err := a.Cluster(t.Context())
	lab.Must(t, err)
	lab.Must(t, b.Do(func() error {
		c, err := net.Dial("tcp", netip.AddrPortFrom(a.addr, 7373).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		return err
	}))
	a.eventually("it is counted", func() error {
		now, err := a.Cluster(t.Context())
		if err == nil && now.Refused["handshake"] <= before.Refused["handshake"] {
			err = errorf("refused: %v", now.Refused)
		}
		return err
	})
	if before.Gossip == nil || before.Gossip.Received == nil {
		t.Errorf("gossip's counters are not shown: %+v", before)
	}
}
