package doctor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/dns/upstream"
)

// outside checks what containers need of their host to reach what is outside of their networks.
func (s system) outside(agent int) []api.Check {
	return []api.Check{s.pings(), s.localPorts(), s.openFiles(agent), s.nameServers()}
}

// pings tries to open sockets as containers' pings leave by (icmp(7)). Root too needs a group in the range.
func (s system) pings() api.Check {
	const name, setting = "ping", "net.ipv4.ping_group_range"
	const so = "containers cannot ping what is outside"
	all := "0 2147483647"
	for _, v := range []struct {
		family  int
		version string
	}{{unix.AF_INET, "IPv4"}, {unix.AF_INET6, "IPv6"}} {
		err := s.ping(v.family)
		switch {
		case err == nil:
		case errors.Is(err, unix.EACCES):
			return warn(name, fmt.Sprintf("sysctl -w '%s=%s', and the line %s = %s in a file of /etc/sysctl.d", setting, all, setting, all),
				"%s is %q, which is none of the groups of user %s: %s", setting, strings.Join(strings.Fields(s.setting(setting)), " "), s.user, so)
		case v.family == unix.AF_INET6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT)):
			return ok(name, "containers can ping what is outside, by IPv4: this kernel has no %s", v.version)
		default:
			return warn(name, "a seccomp filter or a container around this process may forbid it: run weft outside", "no ping socket for %s: %v; %s", v.version, err, so)
		}
	}
	return ok(name, "containers can ping what is outside")
}

// flows is how many connections and flows one container may have unless the agent is told otherwise (package egress).
const flows = 16384

// localPorts checks that the kernel has a port for each flow of a container.
func (s system) localPorts() api.Check {
	const name, setting = "local ports", "net.ipv4.ip_local_port_range"
	f := strings.Fields(s.setting(setting))
	if len(f) != 2 {
		return ok(name, "this kernel has no %s", setting)
	}
	low, err1 := strconv.Atoi(f[0])
	high, err2 := strconv.Atoi(f[1])
	if err := errors.Join(err1, err2); err != nil {
		return warn(name, "see it with sysctl "+setting, "%s is not two numbers: %v", setting, err)
	}
	if n := max(0, high-low+1); n < flows {
		const usual = "32768 60999"
		return warn(name, fmt.Sprintf("sysctl -w '%s=%s', and the line %s = %s in a file of /etc/sysctl.d", setting, usual, setting, usual),
			"%s is %d to %d: %d ports for what containers have going on outside, where one alone may have %d connections; names are asked from them too, and few are easily guessed", setting, low, high, n, flows)
	}
	return ok(name, "%d to %d", low, high)
}

// wantFiles are the open files of an agent with a few busy containers: each of their connections is one.
const wantFiles = 4 * flows

// openFiles checks the limit that the agent has, or would have if it were started here. The soft one does not matter: the agent raises it.
func (s system) openFiles(agent int) api.Check {
	const name = "open files"
	process, whose := "self", "this session"
	if agent > 0 {
		process, whose = strconv.Itoa(agent), "the agent"
	}
	b, err := os.ReadFile(s.path("/proc", process, "limits"))
	if err != nil {
		return warn(name, "see it with ulimit -Hn", "the limit of %s cannot be read: %v", whose, err)
	}
	n, found := hardLimit(string(b))
	switch {
	case !found:
		return ok(name, "this kernel sets no limit for %s", whose)
	case n < wantFiles:
		return warn(name, fmt.Sprintf("LimitNOFILE=1048576 in the agent's unit (systemctl edit weft), or the line \"%s hard nofile 1048576\" in a file of /etc/security/limits.d and a new login", s.user),
			"%d at most for %s; each connection of a container with the outside is one, and one container may have %d", n, whose, flows)
	}
	return ok(name, "%d at most for %s", n, whose)
}

// hardLimit returns the hard limit on open files from /proc/PID/limits (proc_pid_limits(5)); false if there is none.
func hardLimit(limits string) (uint64, bool) {
	for line := range strings.Lines(limits) {
		rest, is := strings.CutPrefix(line, "Max open files")
		f := strings.Fields(rest)
		if !is || len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		return n, err == nil // or the word unlimited
	}
	return 0, false
}

// nameServers checks that there is somebody to ask for the names that are not the cluster's.
func (s system) nameServers() api.Check {
	const name, file = "name servers", "/etc/resolv.conf"
	const remedy = "a line \"nameserver ADDRESS\" in " + file + ", or weft agent --dns ADDRESS"
	b, err := os.ReadFile(s.path(file))
	if err != nil {
		return warn(name, remedy, "%s cannot be read, and containers find no names but the cluster's: %v", file, err)
	}
	servers := upstream.Parse(b).Servers
	if len(servers) == 0 {
		return warn(name, remedy, "%s names none that can be asked: containers find no names but the cluster's", file)
	}
	var all []string
	for _, v := range servers {
		all = append(all, v.Addr().String())
	}
	return ok(name, "%s, as %s says", strings.Join(all, ", "), file)
}

// ping opens a ping socket, and closes it.
func ping(family int) error {
	protocol := unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		protocol = unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
