package run

import (
	"errors"
	"fmt"
	"os"

	"github.com/weftnet/weft/engine/process"
)

// namespaces are those of a container, held open: their inodes are no other's meanwhile.
type namespaces struct{ net, uts *os.File }

func openNamespaces(pid int) (n namespaces, err error) {
	if n.net, err = os.Open(nsPath(pid, "net")); err == nil {
		if n.uts, err = os.Open(nsPath(pid, "uts")); err == nil {
			return n, nil
		}
	}
	n.close()
	return namespaces{}, fmt.Errorf("the container's namespaces: %w", err)
}

func nsPath(pid int, kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, kind) }

func (n *namespaces) close() {
	for _, f := range []*os.File{n.net, n.uts} {
		if f != nil {
			f.Close()
		}
	}
	n.net, n.uts = nil, nil
}

// holds reports whether a process is in them. The network alone does not tell: the agent's threads visit it.
func (n *namespaces) holds(pid int) bool {
	return n.net != nil && same(n.net, nsPath(pid, "net")) && same(n.uts, nsPath(pid, "uts"))
}

func same(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// members returns the processes in them, and with children all descendants of this process.
func (n *namespaces) members(children bool) []process.Process {
	self := os.Getpid()
	return find(func(pid int, parents map[int]int) bool {
		if n.holds(pid) {
			return true
		}
		return children && descends(parents, pid, self)
	})
}

// descends reports whether a process is below another. What was seen while processes came and went may even be a ring.
func descends(parents map[int]int, pid, from int) bool {
	for range parents {
		if pid = parents[pid]; pid == from {
			return true
		}
	}
	return false
}

// leftovers returns the processes of a container whose supervisor is gone: those that have the container's own hosts file
// as theirs, and those in the namespaces of its command, if that still runs.
func (f folder) leftovers(c *Container) []process.Process {
	var n namespaces
	if c.Process.Alive() {
		n, _ = openNamespaces(c.Process.PID)
		defer n.close()
		if !c.Process.Alive() { // it ended, and another process may have its PID
			n.close()
		}
	}
	hosts, err := os.Stat(f.file("hosts"))
	return find(func(pid int, _ map[int]int) bool {
		if n.holds(pid) || pid == c.Process.PID && c.Process.Alive() {
			return true
		}
		theirs, theirErr := os.Stat(fmt.Sprintf("/proc/%d/root/etc/hosts", pid))
		return errors.Join(err, theirErr) == nil && os.SameFile(hosts, theirs)
	})
}

// find returns the running processes, but this one, that belong.
func find(belongs func(pid int, parents map[int]int) bool) (found []process.Process) {
	parents, err := process.All()
	if err != nil {
		return nil
	}
	for pid := range parents {
		if pid == os.Getpid() {
			continue
		}
		// Named before it is looked at: what it is then, is true of the one that is named.
		p, err := process.Find(pid)
		if err == nil && belongs(pid, parents) && p.Alive() {
			found = append(found, p)
		}
	}
	return found
}
