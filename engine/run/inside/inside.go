// Package inside is what this program does in the namespaces of a container before it becomes the container's command:
// it waits for its orders, makes the namespaces the container's, and runs execve(2).
//
//	supervisor ── orders (JSON) ──► descriptor 3, read until it is whole; if it ends before, nobody wants the container
//	           ◄── "." ─────────── descriptor 4, and its end by the execve: the command runs
//	           ◄── {error,status} ─ descriptor 4: it does not
//
// In a container that runs, for Exec, there is no descriptor 4, and people are told.
package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is the argument with which this program calls Main.
const Command = "container-init"

// Exit statuses that are not the command's, as Docker's.
const (
	StatusFailed      = 125 // weft failed, not the command
	StatusNotRunnable = 126 // the command cannot be run
	StatusNotFound    = 127 // there is no such command
)

// StartError is a command that could not be started.
type StartError struct {
	Status int // StatusNotRunnable or StatusNotFound
	Err    error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Descriptors of the init of a new container.
const (
	ordersFD = 3
	reportFD = 4
)

// Orders say what the init is to become.
type Orders struct {
	Hostname string   `json:"hostname"`
	Folder   string   `json:"folder"`
	Volumes  []Volume `json:"volumes,omitempty"`
	Env      []string `json:"env"`
	Workdir  string   `json:"workdir"`
	User     string   `json:"user,omitempty"`
	Command  []string `json:"command"`
	Enter    bool     `json:"enter,omitempty"` // the namespaces are made already
}

// report is what the init says when it could not.
type report struct {
	Error  string `json:"error"`
	Status int    `json:"status"`
}

// ready comes before the command: it tells one that started from an init that was killed.
const ready = '.'

// Started understands what the init said until the command began, or did not.
func Started(said []byte) error {
	if len(said) > 0 && said[0] == ready {
		said = said[1:]
		if len(said) == 0 {
			return nil
		}
	}
	var r report
	if err := json.Unmarshal(said, &r); err != nil || r.Error == "" {
		return errors.New("the container's first process was killed before it could start the command")
	}
	if r.Status != StatusFailed {
		return &StartError{r.Status, errors.New(r.Error)}
	}
	return errors.New(r.Error)
}

// Main is what this program does with Command and args, in the namespaces of a container: make them the container's, and
// become its command. One that Exec has sent is told by args which descriptor has its orders, and which others are not the
// command's. Main returns an exit status if it could not.
func Main(args []string) int {
	in, out := ordersFD, os.Stderr
	if len(args) == 0 {
		out = os.NewFile(reportFD, "report")
		unix.CloseOnExec(reportFD)
	}
	for i, a := range args {
		fd, err := strconv.Atoi(a)
		if err != nil {
			return StatusFailed
		}
		unix.CloseOnExec(fd)
		if i == 0 {
			in = fd
		}
	}
	unix.CloseOnExec(in)
	source := os.NewFile(uintptr(in), "orders")
	var o Orders
	if err := json.NewDecoder(source).Decode(&o); err != nil {
		return StatusFailed // the supervisor gave up
	}
	source.Close()
	err := o.become(out)
	status := StatusFailed
	if e := new(StartError); errors.As(err, &e) {
		status = e.Status
	}
	if o.Enter {
		fmt.Fprintf(out, "weft: %v\n", err)
	} else {
		_ = json.NewEncoder(out).Encode(report{err.Error(), status})
	}
	return status
}

// become returns only with an error.
func (o *Orders) become(out *os.File) error {
	if !o.Enter {
		if err := o.furnish(); err != nil {
			return err
		}
	}
	who, err := lookUp(o.User)
	if err != nil {
		return err
	}
	if err := os.Chdir(o.Workdir); err != nil {
		return fmt.Errorf("working directory: %w; name another with --workdir", err)
	}
	env := o.Env
	if who != nil {
		if err := who.become(); err != nil {
			return err
		}
		env = who.environment(env)
	}
	path, err := locate(o.Command[0], env)
	if err != nil {
		return err
	}
	if !o.Enter {
		if _, err := out.Write([]byte{ready}); err != nil {
			return fmt.Errorf("the supervisor has gone: %w", err)
		}
	}
	err = syscall.Exec(path, o.Command, env)
	status := StatusNotRunnable
	if errors.Is(err, fs.ErrNotExist) { // its interpreter
		status = StatusNotFound
	}
	return &StartError{status, fmt.Errorf("run %s: %w", path, err)}
}

// locate looks a command up in the PATH of its environment, in the container.
func locate(command string, env []string) (string, error) {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	if err := os.Setenv("PATH", path); err != nil {
		return "", err
	}
	full, err := exec.LookPath(command)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot):
		return filepath.Abs(full)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", &StartError{StatusNotFound, fmt.Errorf("command %q is not found in the container; PATH is %s", command, path)}
	}
	return "", &StartError{StatusNotRunnable, fmt.Errorf("command %q cannot be run: %w", command, err)}
}

// identity is the user that a command runs as.
type identity struct {
	uid, gid int
	groups   []int
	home     string // empty if nobody knows it
	name     string
}

// lookUp understands USER[:GROUP], each a name or a number. Numbers need not be known.
func lookUp(s string) (*identity, error) {
	if s == "" {
		return nil, nil
	}
	name, group, named := strings.Cut(s, ":")
	who := &identity{name: name}
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err == nil {
		who.name, who.home = u.Username, u.HomeDir
		who.uid, _ = strconv.Atoi(u.Uid)
		who.gid, _ = strconv.Atoi(u.Gid)
		ids, _ := u.GroupIds()
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				who.groups = append(who.groups, n)
			}
		}
	} else if who.uid, err = number(name); err != nil {
		return nil, fmt.Errorf("user %q is not known here; expected USER[:GROUP], names or numbers", s)
	}
	if !named {
		return who, nil
	}
	who.groups = nil
	if g, err := user.LookupGroup(group); err == nil {
		who.gid, _ = strconv.Atoi(g.Gid)
	} else if who.gid, err = number(group); err != nil {
		return nil, fmt.Errorf("group %q of --user %s is not known here; expected a name or a number", group, s)
	}
	return who, nil
}

func number(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err
}

// become makes this process the user's.
func (i *identity) become() error {
	// In a user namespace with one id only, groups cannot be set, and there are no others to be taken away.
	if err := syscall.Setgroups(i.groups); err != nil && !(i.uid == 0 && errors.Is(err, unix.EPERM)) {
		return i.refused(err)
	}
	if err := syscall.Setgid(i.gid); err != nil {
		return i.refused(err)
	}
	if err := syscall.Setuid(i.uid); err != nil {
		return i.refused(err)
	}
	return nil
}

func (i *identity) refused(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("become uid %d, gid %d: %w: this user namespace has no such ids; install newuidmap (Debian: uidmap), and give this user ranges in /etc/subuid and /etc/subgid before the first weft command", i.uid, i.gid, err)
	}
	return fmt.Errorf("become uid %d, gid %d: %w", i.uid, i.gid, err)
}

// environment tells the command whose it is now.
func (i *identity) environment(env []string) []string {
	set := map[string]string{"USER": i.name, "LOGNAME": i.name, "HOME": i.home}
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if set[name] == "" {
			out = append(out, v)
		}
	}
	for _, name := range []string{"USER", "LOGNAME", "HOME"} {
		if set[name] != "" {
			out = append(out, name+"="+set[name])
		}
	}
	return out
}
