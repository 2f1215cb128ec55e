package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weftnet/weft/agent/api"
)

// nsenter checks for the program by which an ordinary user's commands enter the user namespace of the agent.
func (s system) nsenter() api.Check {
	const name = "nsenter"
	if err := s.look("nsenter"); err != nil {
		return fail(name, "install util-linux", "weft enters its user namespace with it: %v", err)
	}
	return ok(name, "installed")
}

// subordinate checks for more than one uid in containers.
func (s system) subordinate() api.Check {
	const name = "subordinate ids"
	const without = "containers have one uid, root; programs that change to another (apt, servers' own users) do not work"
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if s.look(program) != nil {
			return warn(name, "install uidmap (Debian, Ubuntu), shadow-utils (Fedora) or shadow-uidmap (Alpine)", "%s is not installed: %s", program, without)
		}
	}
	least := uint64(0)
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		n, err := s.granted(file)
		if err != nil {
			return warn(name, fmt.Sprintf("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", s.user), "%v: %s", err, without)
		}
		if least == 0 || n < least {
			least = n
		}
	}
	return ok(name, "%d", least)
}

// granted returns how many ids a file of the form of subuid(5) grants to this user.
func (s system) granted(file string) (uint64, error) {
	f, err := os.Open(s.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s is not there", file)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n := grants(f, s.user, strconv.Itoa(s.uid))
	if n == 0 {
		return 0, fmt.Errorf("%s grants nothing to user %s", file, s.user)
	}
	return n, nil
}

// grants sums up the lines name:start:count of these names. Malformed lines grant nothing, as with newuidmap itself.
func grants(r io.Reader, names ...string) (total uint64) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] != names[0] && f[0] != names[1] {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			total += n
		}
	}
	return total
}

// lowPorts checks which ports this user may publish.
func (s system) lowPorts() api.Check {
	const name, sysctlName = "low ports", "net.ipv4.ip_unprivileged_port_start"
	start, err := strconv.Atoi(s.setting(sysctlName))
	if err != nil {
		return ok(name, "this kernel has no %s", sysctlName)
	}
	if start > 80 {
		return warn(name, sysctl(sysctlName, "80"), "user %s may publish ports from %d on", s.user, start)
	}
	return ok(name, "user %s may publish ports from %d on", s.user, start)
}

// lingering checks that systemd leaves the user's agent and containers alone at logout.
func (s system) lingering() api.Check {
	const name = "lingering"
	if _, err := os.Stat(s.path("/run/systemd/system")); err != nil {
		return ok(name, "systemd does not run here, and ends nothing at logout")
	}
	if _, err := os.Stat(s.path("/var/lib/systemd/linger", s.user)); err != nil {
		return warn(name, "loginctl enable-linger "+s.user, "systemd ends the agent and the containers of user %s at logout, and starts none at boot", s.user)
	}
	return ok(name, "systemd starts services of user %s at boot and leaves them at logout", s.user)
}

// What the data directory is to have. State, logs of Raft and of containers are some megabytes.
const (
	littleSpace = 256 << 20
	noSpace     = 16 << 20
	fewFiles    = 1000
)

// disk checks that the data directory, or what is there of the way to it, can be written and has room.
func (s system) disk(dir string) api.Check {
	const name = "data directory"
	at := dir
	for {
		_, err := os.Stat(s.path(at))
		if err == nil {
			break
		}
		if parent := filepath.Dir(at); errors.Is(err, fs.ErrNotExist) && parent != at {
			at = parent
			continue
		}
		return fail(name, "choose another one: --data-dir", "%s: %v", dir, err)
	}
	if err := s.writable(s.path(at)); err != nil {
		return fail(name, "choose another one: --data-dir", "%s cannot be written by user %s: %v", at, s.user, err)
	}
	st, err := s.space(s.path(at))
	if err != nil {
		return warn(name, "see df "+at, "%s: %v", at, err)
	}
	free := st.Bavail * uint64(st.Bsize)
	switch {
	case free < noSpace:
		return fail(name, "make room, or choose another one: --data-dir", "%s has %d MB left; changes of the cluster would be lost", at, free>>20)
	case free < littleSpace:
		return warn(name, "make room, or choose another one: --data-dir", "%s has %d MB left", at, free>>20)
	case st.Files > 0 && st.Ffree < fewFiles: // some file systems have no limit, and say 0 of 0
		return warn(name, "remove files, or choose another one: --data-dir", "%s has room for %d more files", at, st.Ffree)
	}
	return ok(name, "%s has %.1f GB left", dir, float64(free)/1e9)
}
