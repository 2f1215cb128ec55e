package agent_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
)

func TestContainersEndHarmsNobodyElse(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	cfg := a.config(c2, c3).with(b, c4)
	n := start(t, a, cfg)
	start(t, b, b.config(c4).with(a, c2, c3))
	s := startStream(t, c2, c4, c4.v4)
	s.flows(t)

	flood := c4.packets(t, netip.AddrPortFrom(c4.v4, 0))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = flood.WriteToUDPAddrPort(make([]byte, 1000), netip.AddrPortFrom(c3.v4, 9)) // refused later on, rightly
			}
		}
	}()
	before := n.port("c3").TxFrames
	lab.Eventually(t, func() bool { return n.port("c3").TxFrames > before+100 }, patience)
	lab.Must(t, c3.Close())
	lab.Eventually(t, func() bool { return n.port("c3").State == api.StateGone }, patience)
	s.flows(t)
	close(stop)
	<-stopped
	status, err := n.Status(t.Context())
	lab.Must(t, err)
	if p := status.Problems; len(p) != 1 || !strings.Contains(p[0], "c3") || status.Ports != (api.PortCount{Up: 1, Gone: 1}) {
		t.Errorf("the problems are %q and the ports %+v; expected the one that c3 is gone", p, status.Ports)
	}

	// Its successor has the same name and addresses, and another namespace.
	again := newContainer(t, 3)
	cfg.Networks[0].Endpoints[1] = again.here()
	n.reload(cfg)
	ping(t, c2, c3.v4, 56)
	ping(t, c4, c3.v6, 56)
	s.end(t)
}

func TestRestartedContainerInTheSameNamespaceFileIsAttachedByReload(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	file := t.TempDir() + "/netns"
	bind := func(c *container) {
		lab.Must(t, os.WriteFile(file, nil, 0o600))
		lab.Must(t, unix.Mount(c.Path(), file, "", unix.MS_BIND, ""))
	}
	unbind := func() { _ = unix.Unmount(file, unix.MNT_DETACH) }
	bind(c3)
	t.Cleanup(unbind)
	cfg := a.config(c2, c3)
	cfg.Networks[0].Endpoints[1].NetNS = file
	n := start(t, a, cfg)
	ping(t, c2, c3.v4, 56)
	unbind()
	lab.Must(t, c3.Close())
	lab.Eventually(t, func() bool { return n.port("c3").State == api.StateGone }, patience)
	again := newContainer(t, 3)
	bind(again)
	n.reload(cfg)
	ping(t, c2, c3.v4, 56)
	ping(t, again, c2.v6, 56)
}

// usage counts what an agent's process holds.
type usage struct{ files, threads, goroutines int }

func (n *node) usage() (u usage) {
	n.t.Helper()
	count := func(what string) int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", n.cmd.Process.Pid, what))
		lab.Must(n.t, err)
		return len(entries)
	}
	const said = "goroutines: "
	times := strings.Count(n.log.String(), said)
	lab.Must(n.t, n.cmd.Process.Signal(unix.SIGUSR1))
	n.await(said, times+1)
	log := n.log.String()
	_, err := fmt.Sscan(log[strings.LastIndex(log, said)+len(said):], &u.goroutines)
	lab.Must(n.t, err)
	u.files, u.threads = count("fd"), count("task")
	return u
}

func TestAttachingAndDetachingLeavesNothingBehind(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	with, without := a.config(c2, c3).with(b, c4), a.config(c2)
	n := start(t, a, with)
	round := func() {
		n.reload(without)
		n.reload(with)
		ping(t, c2, c3.v4, 56)
	}
	for range 5 {
		round() // until the runtime has the threads that it needs at once
	}
	before := n.usage()
	for range 20 {
		round()
	}
	// Threads that entered a namespace end a little after what they did, and queues' descriptors with the next collection.
	var after usage
	lab.Eventually(t, func() bool {
		round()
		after = n.usage()
		return after.files <= before.files+3 && after.threads <= before.threads+3 && after.goroutines <= before.goroutines
	}, patience)
	t.Logf("before %+v, after %+v", before, after)
}

func TestInterfaceSetDownAndUpWorksAgain(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	n := start(t, a, a.config(c2, c4).with(b, c3))
	start(t, b, b.config(c3).with(a, c2, c4))
	s := startStream(t, c4, c3, c3.v4)
	ping(t, c3, c2.v4, 56)
	eth0 := c2.link(t, "eth0")
	lab.Must(t, c2.Netlink().LinkSetDown(eth0))
	before := n.drops(drop.PortClosed)
	if reaches(c3, c2.v4) {
		t.Error("a container whose interface is down answers")
	}
	n.counts(drop.PortClosed, before)
	s.flows(t)
	lab.Must(t, c2.Netlink().LinkSetUp(eth0))
	ping(t, c3, c2.v4, 56)
	ping(t, c2, c4.v4, 56)
	if p := n.port("c2"); p.State != api.StateUp {
		t.Errorf("the port is %s: %s", p.State, p.Error)
	}
	s.end(t)
}

func TestTerminatedAgentTakesItsInterfacesAlong(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	cfg := a.config(c2, c3)
	cfg.Networks[0].Endpoints[1].Persistent = true
	n := start(t, a, cfg)
	lab.Must(t, n.stop(unix.SIGTERM))
	if !c2.absent("eth0") {
		t.Error("the agent has ended, and its container still has an interface")
	}
	if c3.absent("eth0") {
		t.Error("the persistent interface went with the agent")
	}
}

func TestPersistentInterfacesCarryAConnectionOverARestart(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			a, b := lay(t, wire{})
			c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
			cfg := a.config(c2, c4).with(b, c3)
			for i := range cfg.Networks[0].Endpoints {
				cfg.Networks[0].Endpoints[i].Persistent = true
			}
			n := start(t, a, cfg)
			start(t, b, b.config(c3).with(a, c2, c4))
			streams := []*stream{startStream(t, c2, c3, c3.v4), startStream(t, c3, c2, c2.v6), startStream(t, c2, c4, c4.v4)}
			for range 3 {
				for _, s := range streams {
					s.flows(t)
				}
				if err := n.stop(sig); sig == unix.SIGTERM && err != nil {
					t.Fatal(err)
				}
				n.exec()
				n.ready()
			}
			for _, s := range streams {
				s.flows(t)
				s.end(t)
			}
			cfg = a.config(c4).with(b, c3)
			cfg.Networks[0].Endpoints[0].Persistent = true
			n.reload(cfg)
			if !c2.absent("eth0") {
				t.Error("a persistent interface outlives its endpoint")
			}
		})
	}
}

func TestPersistentInterfaceTakenUpAgainEndsWithItsContainer(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	cfg := a.config(c2, c3)
	cfg.Networks[0].Endpoints[1].Persistent = true
	n := start(t, a, cfg)
	_ = n.stop(unix.SIGKILL)
	n.exec()
	n.ready()
	ping(t, c2, c3.v4, 56)
	lab.Must(t, c3.Close())
	lab.Eventually(t, func() bool { return n.port("c3").State == api.StateGone }, patience)
}

func TestContainerThatStartsLateIsAttached(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	late := t.TempDir() + "/netns"
	cfg := a.config(c2, c3)
	cfg.Networks[0].Endpoints[1].NetNS = late
	n := start(t, a, cfg)
	if p := n.port("c3"); p.State != api.StateGone || !strings.Contains(p.Error, late) {
		t.Fatalf("c3 is %s (%s) before its namespace exists; expected gone, with the path", p.State, p.Error)
	}
	lab.Must(t, os.Symlink(c3.Path(), late))
	lab.Eventually(t, func() bool { return n.port("c3").State == api.StateUp }, patience)
	ping(t, c2, c3.v4, 56)
}
