package member_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

// process starts a process that stays in a host of its own, whose namespace ends with it, and attaches it by its number. The namespace
// itself belongs to nobody else.
func (n *node) process(name, network string) (pid int, end func()) {
	n.t.Helper()
	cmd := n.Command("unshare", "--net", "sleep", "infinity")
	lab.Must(n.t, cmd.Start())
	var own string
	lab.Must(n.t, n.Do(func() (err error) { own, err = os.Readlink("/proc/thread-self/ns/net"); return err }))
	pid = cmd.Process.Pid
	n.eventually("the process has a namespace of its own", func() error {
		comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		ns, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
		if err == nil && (string(comm) != "sleep\n" || ns == own) {
			err = errorf("it is %q in %s", comm, ns)
		}
		return err
	})
	_, err := n.Attach(n.t.Context(), api.AttachRequest{Name: name, PID: pid, Networks: []api.Attachment{{Network: network}}})
	lab.Must(n.t, err)
	return pid, cmd.Stop
}

func TestEndpointEndsWithItsContainer(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1", Subnets: subnet("10.1.0.0/30")}, b) // one address
	_, end := b.process("c1", "net1")
	b.lists("net1", "c1")
	end()
	b.holds("net1", -1, -1, 0)
	pid, end := a.process("c2", "net1") // the address is free again
	a.lists("net1", "c2")

	// While the agent is down, too.
	lab.Must(t, a.stop(unix.SIGKILL))
	end()
	a.start()
	a.holds("net1", -1, -1, 0)
	c3 := b.contain("c3", "net1")
	_, err := a.Attach(t.Context(), api.AttachRequest{Name: "c2", PID: pid, Networks: []api.Attachment{{Network: "net1"}}})
	refused(t, err, "gone")
	b.lists("net1", c3.name)
	sound(nodes)
}

// A PID is taken again by another process some day; the path of a namespace, at once.
func TestAnotherNamespaceAtTheSamePathIsNotTheContainers(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	old, other := lab.T(t, "old"), lab.T(t, "other")
	path := filepath.Join(t.TempDir(), "ns")
	lab.Must(t, os.Symlink(old.Path(), path))
	attach := func(name string) {
		t.Helper()
		_, err := b.Attach(t.Context(), api.AttachRequest{Name: name, NetNS: path, Networks: []api.Attachment{{Network: "net1"}}})
		lab.Must(t, err)
	}
	for _, down := range []bool{false, true} {
		attach("c1")
		a.contain("stay", "net1")
		a.lists("net1", "c1", "stay")
		if down {
			lab.Must(t, b.stop(unix.SIGKILL))
		}
		lab.Must(t, os.Symlink(other.Path(), path+".new"))
		lab.Must(t, os.Rename(path+".new", path))
		if down {
			b.start()
		}
		a.lists("net1", "stay")
		b.holds("net1", -1, -1, 0)
		if have := interfaces(t, other); len(have) != 0 {
			t.Errorf("the other namespace got %v", have)
		}
		attach("c1") // as a new container
		lab.Must(t, b.Detach(t.Context(), "c1"))
		lab.Must(t, a.Detach(t.Context(), "stay"))
		old, other = other, old
	}
	sound(nodes)
}

// How long it takes is logged; it is less than a second where nothing else keeps the machine busy.
func TestEndOfAContainerIsKnownOnEveryNode(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a := nodes[0]
	a.network(api.NetworkRequest{Name: "net1"}, nodes...)
	for _, n := range nodes {
		n.contain("stay-"+n.Name(), "net1")
	}
	for _, c := range []struct {
		name string
		make func() (end func())
	}{
		{"detached", func() func() {
			a.contain("detached", "net1")
			return func() { lab.Must(t, a.Detach(t.Context(), "detached")) }
		}},
		{"killed", func() func() {
			_, end := a.process("killed", "net1")
			return end
		}},
		{"closed", func() func() {
			c := a.contain("closed", "net1")
			return func() { lab.Must(t, c.Close()) }
		}},
		// As ip netns delete does. Another process still has the namespace.
		{"deleted", func() func() {
			path := filepath.Join(t.TempDir(), "ns")
			lab.Must(t, os.WriteFile(path, nil, 0o600))
			lab.Must(t, unix.Mount(lab.T(t, "deleted").Path(), path, "", unix.MS_BIND, ""))
			t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) }) // if the test ends before it does
			_, err := a.Attach(t.Context(), api.AttachRequest{Name: "deleted", NetNS: path, Networks: []api.Attachment{{Network: "net1"}}})
			lab.Must(t, err)
			return func() {
				lab.Must(t, unix.Unmount(path, unix.MNT_DETACH))
				lab.Must(t, os.Remove(path))
			}
		}},
		// Its first process has ended, and another keeps its namespace.
		{"survived", func() func() {
			pid, end := a.process("survived", "net1")
			rest := a.Command("nsenter", "--net=/proc/"+strconv.Itoa(pid)+"/ns/net", "sleep", "infinity")
			lab.Must(t, rest.Start())
			inside(t, rest.Process.Pid, pid)
			t.Cleanup(rest.Stop)
			return end
		}},
	} {
		for _, again := range []bool{false, true} {
			end := c.make()
			if again { // the agent holds the container's namespace itself
				lab.Must(t, a.stop(unix.SIGKILL))
				a.start()
				a.sees(3)
				a.lists("net1", c.name, "stay-a", "stay-b", "stay-c")
			}
			begin := time.Now()
			end()
			ended := time.Since(begin)
			for _, n := range nodes {
				n.eventually(c.name+" is gone", func() error {
					if n.knows("net1", c.name) {
						return errorf("it is there")
					}
					return nil
				})
			}
			t.Logf("%s, agent restarted %t: its end took %s; gone everywhere after %s more", c.name, again, ended, time.Since(begin)-ended)
		}
	}
	sound(nodes)
}

// inside waits until a process is in the network namespace of another.
func inside(t testing.TB, pid, other int) {
	t.Helper()
	lab.Eventually(t, func() bool {
		a, errA := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		b, errB := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", other))
		return errA == nil && errB == nil && a == b
	}, patience)
}
