package member_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/internal/lab"
)

// impatient is for tests that wait for what cannot be done.
var impatient = cluster.Timing{Tick: 200 * time.Millisecond, Propose: 3 * time.Second}

// managers makes so many nodes, all of them managers but the last ones, which are workers.
func (l *lan) managers(workers int, names ...string) []*node {
	l.t.Helper()
	var all []*node
	for i, name := range names {
		n := l.node(name)
		all = append(all, n)
		if i == 0 {
			_, err := n.Init(l.t.Context(), api.InitRequest{Name: name})
			lab.Must(l.t, err)
			continue
		}
		n.join(all[0], i < len(names)-workers)
	}
	voters := len(names) - workers - 1
	all[0].eventually("all managers have a vote", func() error {
		if n := strings.Count(all[0].log.String(), `step="add voter"`); n != voters {
			return errorf("%d of the others have", n)
		}
		return nil
	})
	for _, n := range all {
		n.sees(len(names))
		n.quorum(true)
	}
	return all
}

// quorum waits until a node knows, or knows that there is none.
func (n *node) quorum(want bool) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("quorum: %t", want), func() error {
		d, err := n.Cluster(n.t.Context())
		if err == nil && d.Quorum != want {
			err = errorf("it is %t: %s", d.Quorum, d.Problem)
		}
		return err
	})
}

// connect takes a node's port of the wire up or down.
func (l *lan) connect(n *node, up bool) {
	l.t.Helper()
	nl := l.wire.Netlink()
	link, err := nl.LinkByName(n.Name())
	lab.Must(l.t, err)
	change := nl.LinkSetDown
	if up {
		change = nl.LinkSetUp
	}
	lab.Must(l.t, change(link))
	if up {
		// A host has no address of another's before it asks for it; it asks at once.
		flush(l.t, n.Host)
	}
}

// flush forgets who was not there.
func flush(t testing.TB, h *lab.Host) {
	all, err := h.Netlink().NeighList(0, netlink.FAMILY_V4)
	lab.Must(t, err)
	for _, x := range all {
		if x.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0 {
			_ = h.Netlink().NeighDel(&x) // it may be on its way already
		}
	}
}

func TestLostQuorumStopsChangesAndNothingElse(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	l.timing = impatient
	nodes := l.managers(1, "a", "b", "c", "w")
	a, b, c, w := nodes[0], nodes[1], nodes[2], nodes[3]
	a.network(api.NetworkRequest{Name: "net1"}, nodes...)
	ca, cb, cw := a.contain("ca", "net1"), b.contain("cb", "net1"), w.contain("cw", "net1")
	cw.reaches(ca, cb)
	conn := dial(t, cw, ca)
	lab.Must(t, b.stop(unix.SIGKILL))
	lab.Must(t, c.stop(unix.SIGKILL))
	for _, n := range []*node{a, w} {
		n.quorum(false)
		begin := time.Now()
		_, err := n.CreateNetwork(t.Context(), api.NetworkRequest{Name: "net2"})
		refused(t, err, "no quorum", "of 3 managers", "running containers are not affected")
		if d := time.Since(begin); d > impatient.Propose+2*time.Second {
			t.Errorf("node %s took %s to say that there is no quorum", n.Name(), d)
		}
	}
	conn.echo("without a quorum")
	more := []*box{ca, cw, a.contain("ca2", "net1"), w.contain("cw2", "net1")} // spare addresses
	for _, x := range more {
		x.reaches(more...)
	}

	// The agents of a manager and of a worker come back with what they have on disk.
	for _, n := range []*node{w, a} {
		lab.Must(t, n.stop(unix.SIGKILL))
	}
	w.start()
	a.start()
	for _, n := range []*node{w, a} {
		n.lists("net1", "ca", "ca2", "cw", "cw2")
	}
	for _, x := range more {
		x.reaches(more...)
	}
	conn.echo("after a restart without a quorum")
	more = append(more, w.contain("cw3", "net1"))
	lab.Must(t, w.Detach(t.Context(), "cw2"))
	more = append(more[:3], more[4:]...)

	// A majority is enough again.
	b.start()
	more = append(more, cb)
	for _, n := range []*node{a, b, w} {
		n.quorum(true)
		n.lists("net1", "ca", "ca2", "cb", "cw", "cw3")
	}
	w.network(api.NetworkRequest{Name: "w-own", Driver: "bridge"}, a, b)
	a.network(api.NetworkRequest{Name: "net3"}, b, w)
	c.start()
	for _, n := range nodes {
		n.sees(4)
	}
	c.eventually("c knows net3", func() error { _, err := c.Segment(t.Context(), "net3"); return err })
	more = append(more, c.contain("cc", "net1", "net3"))
	for _, x := range more {
		x.reaches(more...)
	}
	conn.echo("with a quorum again")
	sound(nodes)
}

func TestWorkerWithoutAnyManagerTakesUpWhatItHas(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "w1", "w2")
	a, w1, w2 := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, w1, w2)
	c1, c2 := w1.contain("c1", "net1"), w2.contain("c2", "net1")
	c1.reaches(c2)
	for _, n := range nodes {
		lab.Must(t, n.stop(unix.SIGKILL))
	}
	w1.start()
	w2.start()
	c1.reaches(c2)
	c3 := w1.contain("c3", "net1")
	c3.reaches(c1, c2)
	_, err := w1.try(lab.T(t, "c4"), "c4", api.Attachment{Network: "ingress"})
	refused(t, err, "ingress")
	a.start()
	for _, n := range nodes {
		n.sees(3)
	}
	ca := a.contain("ca", "net1")
	ca.reaches(c1, c2, c3)
	sound(nodes)
}

func TestPartitionHealsWithoutLosingWhatWasAcknowledged(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	l.timing = cluster.Timing{Tick: 200 * time.Millisecond} // a new leader takes its time
	nodes := l.managers(0, "a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, b, c)
	boxes := []*box{a.contain("a1", "net1"), b.contain("b1", "net1"), c.contain("c1", "net1")}
	for _, x := range boxes {
		x.reaches(boxes...)
	}
	l.connect(c, false)
	boxes = append(boxes, c.contain("c2", "net1"), a.contain("a2", "net1"))
	c.quorum(false)
	a.quorum(true)
	a.eventually("c is down", func() error {
		m, err := a.Member(t.Context(), "c")
		if err == nil && m.Status != api.NodeDown {
			err = errorf("it is %s", m.Status)
		}
		return err
	})
	c.lists("net1", "c1", "c2")
	boxes = append(boxes, c.contain("c3", "net1"), b.contain("b2", "net1"))
	a.network(api.NetworkRequest{Name: "made"}, b)
	_, err := c.CreateNetwork(t.Context(), api.NetworkRequest{Name: "refused"})
	refused(t, err, "no quorum")
	lab.Must(t, a.Detach(t.Context(), "a1"))
	lab.Must(t, c.Detach(t.Context(), "c1"))
	for _, x := range []*box{boxes[0], boxes[2]} {
		lab.Must(t, x.Close())
	}
	boxes = append(append(boxes[1:2:2], boxes[3:]...), a.contain("a3", "made"))
	l.connect(c, true)
	for _, n := range nodes {
		n.sees(3)
		n.quorum(true)
		n.lists("net1", "a2", "b1", "b2", "c2", "c3")
	}
	c.eventually("what was made meanwhile is there", func() error { _, err := c.Segment(t.Context(), "made"); return err })
	if _, err := a.Segment(t.Context(), "refused"); err == nil {
		t.Log("a change without a quorum was made after all, as its error allows")
	}
	same := boxes[:len(boxes)-1]
	for _, x := range same {
		x.reaches(same...)
	}
	taken := make(map[string]string)
	for _, e := range func() []api.Endpoint { all, err := b.Endpoints(t.Context(), "net1"); lab.Must(t, err); return all }() {
		for _, p := range e.Addresses {
			if taken[p.String()] != "" {
				t.Errorf("%s and %s have both %s", e.Name, taken[p.String()], p)
			}
			taken[p.String()] = e.Name
		}
	}
	sound(nodes)
}

func TestAgentTakesUpManyContainersAgain(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "red"}, b)
	a.network(api.NetworkRequest{Name: "blue"}, b)
	c := a.contain("c", "red", "blue")
	var boxes []*box
	for i := range 20 {
		boxes = append(boxes, b.contain(fmt.Sprint("c", i), "red", "blue"))
	}
	conn := dial(t, c, boxes[7])
	conn.echo("before")
	for _, s := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		lab.Must(t, b.stop(s))
		have := interfaces(t, boxes[3].Host)
		if len(have) != 2 {
			t.Errorf("without its agent a container has %v", have)
		}
		conn.send(fmt.Sprint("while the agent is away by ", s))
		b.start()
		b.eventually("all ports are up", func() error {
			s, err := b.Status(t.Context())
			if err == nil && (s.Ports.Up != 40 || s.Ports.Gone != 0) {
				err = errorf("%+v", s.Ports)
			}
			return err
		})
		conn.expect(fmt.Sprint("while the agent is away by ", s))
		for _, x := range boxes {
			if err := x.ping(c); err != nil {
				t.Error(err)
			}
		}
		sound(nodes)
	}
}
