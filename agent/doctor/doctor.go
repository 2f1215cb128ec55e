// Package doctor checks a host for what weft takes of it, and says for everything that is missing how to get it. It changes
// nothing, holds no port and leaves nothing behind.
//
//	file system: /proc/sys, /proc/self/net, /etc/subuid ... ──┐
//	system calls: adjtimex, statfs, socket, open of a device ─┼──► Host ──► []api.Check {ok, warn, fail; found; remedy}
//	trial: a TAP device in namespaces of its own ─────────────┘
//
// A warning is a thing that weft works without; without one that fails, it does not work, or not for this user.
//
// The trial counts, not the settings: kernels, distributions and container engines have too many ways to forbid user
// namespaces and devices. Settings only explain a trial that failed. An ordinary user's trial is a child process, because
// only a new process can be put into a user namespace (Probe).
package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weftnet/weft/agent/api"
)

// Options says for what agent the host is checked.
type Options struct {
	Dir   string // of its data
	Ports Ports
	PID   int // of the agent if it runs already: the ports that it holds are as they should be, and its limits count
}

// Ports are those of an agent. Zero ones are not checked.
type Ports struct {
	API    uint16 // TCP
	Gossip uint16 // TCP and UDP
	VXLAN  uint16 // UDP
}

// Host checks this host.
func Host(o Options) []api.Check { return examine(o, here()) }

// examine makes all checks of a system, the most basic ones first.
func examine(o Options, s system) []api.Check {
	all := []api.Check{s.tun()}
	all = append(all, s.trial()...)
	if s.rootless {
		all = append(all, s.nsenter(), s.subordinate(), s.lowPorts(), s.lingering())
	}
	all = append(all, s.ports(o)...)
	all = append(all, s.outside(o.PID)...)
	return append(all, s.buffers(), s.time(), s.disk(o.Dir))
}

func ok(name, format string, args ...any) api.Check {
	return api.Check{Name: name, Level: api.CheckOK, Found: fmt.Sprintf(format, args...)}
}

func warn(name, remedy, format string, args ...any) api.Check {
	return api.Check{Name: name, Level: api.CheckWarn, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(name, remedy, format string, args ...any) api.Check {
	return api.Check{Name: name, Level: api.CheckFail, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

// setting returns a value below /proc/sys; empty if this kernel has no such.
func (s system) setting(name string) string {
	b, err := os.ReadFile(s.path("/proc/sys", strings.ReplaceAll(name, ".", "/")))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// sysctl is how to change a setting, now and after the next start.
func sysctl(name, value string) string {
	return fmt.Sprintf("sysctl -w %s=%s, and the same line in a file of /etc/sysctl.d", name, value)
}

// path returns a path of the system's file system.
func (s system) path(elements ...string) string {
	return filepath.Join(append([]string{s.root}, elements...)...)
}
