package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/run/inside"
)

// ExecOptions describe a command that is run in a container that runs.
type ExecOptions struct {
	Command []string
	Env     []string // on top of the container's
	Workdir string   // default: the container's
	User    string   // default: root
}

// Exec replaces this process by a command in a container: its network, mount and UTS namespaces. PID, streams and terminal
// stay, and the status is the command's. It returns only to tell why it could not, and with which status.
func (s Store) Exec(name string, o ExecOptions) (status int, err error) {
	if len(o.Command) == 0 {
		return StatusFailed, errors.New("no command to run; name one after the container")
	}
	c, err := s.Get(name)
	if err != nil {
		return StatusFailed, err
	}
	if c.State != Running {
		return StatusFailed, fmt.Errorf("container %q is %s, not running", name, c.State)
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return StatusFailed, errors.New("nsenter is not installed; it comes with util-linux: install that")
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", c.Process.PID))
	if err != nil || !c.Process.Alive() {
		return StatusFailed, fmt.Errorf("container %q has just ended", name)
	}
	order := inside.Orders{Enter: true, Env: Environment(environ(env), o.Env), Workdir: c.Workdir, User: o.User, Command: o.Command}
	if o.Workdir != "" {
		order.Workdir = o.Workdir
	}
	in, exe, err := place(order)
	if err != nil {
		return StatusFailed, err
	}
	args := []string{
		"nsenter", "--target", strconv.Itoa(c.Process.PID), "--net", "--mount", "--uts", "--",
		// Good in the container too, where a volume may hide the program's file.
		"/proc/self/fd/" + strconv.Itoa(exe), inside.Command, strconv.Itoa(in), strconv.Itoa(exe),
	}
	err = syscall.Exec(nsenter, args, os.Environ())
	return StatusFailed, fmt.Errorf("run %s: %w", nsenter, err)
}

// place puts the orders and this program where the init finds them: at descriptors that stay open in what follows.
func place(o inside.Orders) (in, exe int, err error) {
	b, err := json.Marshal(o)
	if err != nil {
		return 0, 0, err
	}
	if in, err = unix.MemfdCreate("orders", 0); err != nil {
		return 0, 0, fmt.Errorf("leave the orders: %w", err)
	}
	for len(b) > 0 {
		n, err := unix.Write(in, b)
		if err != nil {
			return 0, 0, fmt.Errorf("leave the orders: %w", err)
		}
		b = b[n:]
	}
	if _, err := unix.Seek(in, 0, unix.SEEK_SET); err != nil {
		return 0, 0, fmt.Errorf("leave the orders: %w", err)
	}
	if exe, err = unix.Open("/proc/self/exe", unix.O_PATH, 0); err != nil {
		return 0, 0, fmt.Errorf("find this program: %w", err)
	}
	return in, exe, nil
}

// environ takes /proc/PID/environ apart.
func environ(b []byte) (env []string) {
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if i := bytes.IndexByte(v, '='); i > 0 {
			env = append(env, string(v))
		}
	}
	return env
}

// Environment returns one environment out of several, in which a later value of a name replaces an earlier one.
func Environment(lists ...[]string) (env []string) {
	at := make(map[string]int)
	for _, list := range lists {
		for _, v := range list {
			name, _, _ := strings.Cut(v, "=")
			if i, ok := at[name]; ok {
				env[i] = v
				continue
			}
			at[name] = len(env)
			env = append(env, v)
		}
	}
	return env
}

// Setting reads NAME=VALUE, and NAME alone, which takes the value that lookup knows, or nothing.
func Setting(list []string, lookup func(name string) (string, bool)) (env []string, err error) {
	for _, s := range list {
		name, _, given := strings.Cut(s, "=")
		if name == "" || strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("%q; expected NAME=VALUE, or the NAME of a variable that is set here", s)
		}
		if value, ok := lookup(name); !given && ok {
			s = name + "=" + value
		} else if !given {
			continue
		}
		env = append(env, s)
	}
	return env, nil
}
