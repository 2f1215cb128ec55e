package agent_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

// absent reports whether the container has no interface of the name.
func (c *container) absent(name string) bool {
	links, err := c.Netlink().LinkList()
	return err == nil && !slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name })
}

// said fails the test unless the last thing that the agent has said holds all of words.
func (n *node) said(words ...string) {
	n.t.Helper()
	lines := strings.Split(strings.TrimSpace(n.log.String()), "\n")
	last := lines[len(lines)-1]
	for _, w := range words {
		if !strings.Contains(last, w) {
			n.t.Errorf("agent %s said %q; expected %q in it", n.cfg.Node, last, w)
		}
	}
}

func TestReloadChangesWhatTheFileChanges(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	na := start(t, a, a.config(c2, c3).with(b, c4))
	nb := start(t, b, b.config(c4).with(a, c2, c3))
	remote, local := startStream(t, c2, c4, c4.v4), startStream(t, c4, c2, c2.v6)
	remote.flows(t)
	local.flows(t)
	unharmed := func() {
		t.Helper()
		remote.flows(t)
		local.flows(t)
	}

	// Order within a list means nothing.
	cfg := a.config(c3, c2).with(b, c4)
	na.reload(cfg)
	unharmed()

	c5 := newContainer(t, 5)
	na.reload(a.config(c3, c2, c5).with(b, c4))
	na.said("reloaded")
	ping(t, c5, c2.v4, 56)
	ping(t, c2, c5.v6, 56)
	if reaches(c5, c4.v4) {
		t.Error("a container is heard on a node whose file does not know it")
	}
	unharmed()

	nb.reload(b.config(c4).with(a, c2, c3, c5))
	ping(t, c5, c4.v4, 1000)
	ping(t, c4, c5.v6, 1000)
	unharmed()

	na.reload(a.config(c2, c5).with(b, c4))
	if !c3.absent("eth0") {
		t.Error("a container that the file has lost still has its interface")
	}
	if reaches(c2, c3.v4) {
		t.Error("a container that the file has lost still answers")
	}
	unharmed()

	// A container moves: the same addresses, another node.
	c5.move(t, na, nb, a.config(c2).with(b, c4, c5), b.config(c4, c5).with(a, c2))
	ping(t, c2, c5.v4, 1000)
	ping(t, c4, c5.v6, 1000)
	unharmed()

	remote.end(t)
	local.end(t)
}

// move reloads both nodes, and fails the test unless the container has its interface from the second one then.
func (c *container) move(t *testing.T, from, to *node, cfgFrom, cfgTo config) {
	t.Helper()
	from.reload(cfgFrom)
	to.reload(cfgTo)
	if p := to.port(c.Name()); p.State != api.StateUp {
		t.Errorf("the container's port on its new node is %s: %s", p.State, p.Error)
	}
}

func TestReloadOfAFaultyFileChangesNothing(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	cfg := a.config(c2, c3)
	n := start(t, a, cfg)
	s := startStream(t, c2, c3, c3.v4)
	s.flows(t)
	before := describe(t, n)

	otherPort, otherThreads, twice, elsewhere := cfg, cfg, a.config(c2, c3, c3), a.config(c2)
	otherPort.Underlay.Port = 4790
	otherThreads.Threads = 3
	elsewhere.Underlay.Address = b.vtep
	for _, c := range []struct {
		name string
		cfg  config
		says []string
	}{
		{"another port of the underlay", otherPort, []string{"underlay changed from 192.0.2.1:4789 to 192.0.2.1:4790", "restart the agent"}},
		{"another address of the underlay", elsewhere, []string{"underlay changed", "192.0.2.2"}},
		{"another number of threads", otherThreads, []string{"threads changed from 0 to 3", "restart the agent"}},
		{"an endpoint twice", twice, []string{"c3", "twice"}},
	} {
		n.reload(c.cfg)
		n.said(append(c.says, "level=ERROR")...)
		if now := describe(t, n); now != before {
			t.Errorf("%s: the node was\n%s\nand is\n%s", c.name, before, now)
		}
		s.flows(t)
	}
	lab.Must(t, os.WriteFile(n.file, []byte("networks: [{"), 0o600))
	n.hangup()
	n.said("level=ERROR", n.file)
	lab.Must(t, os.Remove(n.file))
	n.hangup()
	n.said("level=ERROR", n.file)
	if now := describe(t, n); now != before {
		t.Errorf("the node was\n%s\nand is\n%s", before, now)
	}
	n.reload(cfg)
	n.said("level=INFO", "reloaded")
	s.flows(t)
	s.end(t)
}

// describe tells what a node is, without what it counts.
func describe(t *testing.T, n *node) string {
	t.Helper()
	var b strings.Builder
	s, err := n.Status(t.Context())
	lab.Must(t, err)
	b.WriteString(strings.Join(append(s.Problems, s.Underlay.String()), "\n"))
	fdb, err := n.FDB(t.Context(), "")
	lab.Must(t, err)
	for _, e := range fdb {
		b.WriteString("\n" + strings.Join([]string{e.Network, e.MAC.String(), e.Where, e.Port, e.Name}, " "))
	}
	ports, err := n.Ports(t.Context(), "")
	lab.Must(t, err)
	for _, p := range ports {
		b.WriteString("\n" + strings.Join([]string{p.Network, p.Name, p.State, p.Error}, " "))
	}
	return b.String()
}

func TestReloadTakesANewMTUOver(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	cfg := a.config(c2, c3)
	n := start(t, a, cfg)
	cfg.Networks[0].MTU = 1300
	n.reload(cfg)
	n.said("reloaded")
	if got := c2.link(t, "eth0").Attrs().MTU; got != 1300 {
		t.Errorf("the container's MTU is %d; expected the file's 1300", got)
	}
	ping(t, c2, c3.v4, 1300-28, "-M", "do")
}

func TestReloadTakesASecondNetworkInAndOut(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	ca, cb := a.config(c2).with(b, c3), b.config(c3).with(a, c2)
	na, nb := start(t, a, ca), start(t, b, cb)
	s := startStream(t, c2, c3, c3.v4)
	second := func(local, remote endpoint) network {
		for _, e := range []*endpoint{&local, &remote} {
			e.Addresses, e.MAC = []netip.Addr{netip.AddrFrom4([4]byte{10, 88, 0, byte(e.MAC)})}, e.MAC+0x1_0000
		}
		local.Interface = "eth1"
		return network{Name: "second", VNI: 200, Subnets: []netip.Prefix{netip.MustParsePrefix("10.88.0.0/24")},
			Endpoints: []endpoint{local}, Remotes: []endpoint{remote}}
	}
	na.reload(ca.plus(second(c2.here(), c3.there(b.vtep))))
	nb.reload(cb.plus(second(c3.here(), c2.there(a.vtep))))
	ping(t, c2, netip.MustParseAddr("10.88.0.3"), 56)
	s.flows(t)
	na.reload(ca)
	if !c2.absent("eth1") || c2.absent("eth0") {
		t.Error("with its network the container's eth1 should go, and nothing else")
	}
	s.flows(t)
	s.end(t)
}

// plus adds a network.
func (c config) plus(n network) config {
	c.Networks = append(slices.Clip(c.Networks), n)
	return c
}
