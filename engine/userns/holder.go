package userns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
)

// HoldCommand is the argument with which this program calls Hold.
const HoldCommand = "hold"

// detach makes it start the holder and end.
const detach = "detach"

// record is the file dir/holder.
type record struct {
	process.Process
	Namespace uint64 `json:"namespace"` // inode of the user namespace
}

// holder returns the PID of the holder of dir, which it makes if there is none. The caller has locked dir.
func holder(dir, self, nsenter string) (int, error) {
	r, err := load(dir)
	if err != nil {
		return 0, err
	}
	if ns, err := namespace(r.PID); err == nil && ns == r.Namespace && r.Alive() {
		return r.PID, nil
	}
	if pid := survivor(dir, r); pid != 0 {
		target := strconv.Itoa(pid)
		return newHolder(dir, exec.Command(nsenter, "--user", "--preserve-credentials", "--target", target, "--", self, HoldCommand, detach), false)
	}
	cmd := exec.Command(self, HoldCommand, detach)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return newHolder(dir, cmd, true)
}

// newHolder has cmd start a holder, maps the ids of its namespace if that is fresh, and records it.
//
//	this process ──► weft hold detach ──► weft hold ── "PID\n" ──► mapped, recorded ── "." ──► sleeps
//	                  (in the namespace)   │ no child of this process's, whose children are containers' later
//
// A holder that gets no "." ends.
func newHolder(dir string, cmd *exec.Cmd, fresh bool) (int, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	cmd.Stdin, cmd.Stdout = theirs, theirs
	cmd.Dir, cmd.Env = "/", environment(dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("userns: make a user namespace: %w %s; %s", err, bytes.TrimSpace(said.Bytes()), remedy("/proc/sys"))
	}
	var r record
	if _, err := fmt.Fscanln(ours, &r.PID); err != nil {
		return 0, fmt.Errorf("userns: the holder of the user namespace ended at once (%w); %s", err, remedy("/proc/sys"))
	}
	if fresh {
		if err := mapIDs(r.PID); err != nil {
			return 0, err
		}
	}
	if r.Process, err = process.Find(r.PID); err != nil {
		return 0, fmt.Errorf("userns: the holder: %w", err)
	}
	if r.Namespace, err = namespace(r.PID); err != nil {
		return 0, err
	}
	if err := r.save(dir); err != nil {
		return 0, err
	}
	if _, err := ours.Write([]byte{'.'}); err != nil {
		return 0, fmt.Errorf("userns: the holder of the user namespace ended: %w", err)
	}
	return r.PID, nil
}

func socketpair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("userns: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "holder"), os.NewFile(uintptr(fds[1]), "holder"), nil
}

// Hold is what this program does with HoldCommand and args: hold the namespace that it is in. It returns an exit status.
func Hold(args []string) int {
	if len(args) > 0 {
		self, err := os.Executable()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		cmd := exec.Command(self, HoldCommand)
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	signal.Ignore(unix.SIGHUP)
	if _, err := fmt.Println(os.Getpid()); err != nil {
		return 1
	}
	if n, _ := os.Stdin.Read(make([]byte, 1)); n != 1 {
		return 1
	}
	for {
		_ = unix.Pause()
	}
}

// End ends the holder that is recorded in dir, if there is one, unless another process than this one still is in its
// namespace: a container, an agent, or what somebody else has put there.
func End(dir string) error {
	fd, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	return end(dir)
}

// Leave is End for a process that Enter has brought here. Programs that call Enter call it as the last thing they do: the
// lock goes with the process, so that of two that end at once the second does not meet the first.
func Leave() error {
	dir := os.Getenv(entered)
	if dir == "" {
		return nil
	}
	if _, err := lock(dir); errors.Is(err, fs.ErrNotExist) { // somebody has deleted it
		return nil
	} else if err != nil {
		return err
	}
	return end(dir)
}

func end(dir string) error {
	r, err := load(dir)
	if err != nil || r.PID == 0 {
		return err
	}
	used, err := r.used()
	if err != nil || used {
		return err
	}
	if err := r.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return fmt.Errorf("userns: end the holder: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, "holder")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("userns: %w", err)
	}
	return nil
}

// used reports whether there is a process besides the holder and this one in its namespace, or in one below: that would
// be out of reach without its parent.
func (r record) used() (bool, error) {
	all, err := process.All()
	if err != nil {
		return false, fmt.Errorf("userns: %w", err)
	}
	for pid := range all {
		if pid != r.PID && pid != os.Getpid() && within(pid, r.Namespace) {
			return true, nil
		}
	}
	return false, nil
}

// within reports whether a process is in a user namespace or below it. Those that this user may not look at are not.
func within(pid int, ns uint64) bool {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == nil {
		var s unix.Stat_t
		err = unix.Fstat(fd, &s)
		if err == nil && s.Ino == ns {
			unix.Close(fd)
			return true
		}
		parent := -1
		if err == nil {
			parent, err = unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		}
		unix.Close(fd)
		fd = parent
	}
	return false
}

// survivor returns a process that still is in the namespace of a holder that was killed, 0 if there is none. The inode
// alone may stand for another namespace by now; the mark is in the environment of what Enter has started and its children.
func survivor(dir string, r record) int {
	if r.PID == 0 {
		return 0
	}
	all, err := process.All()
	if err != nil {
		return 0
	}
	mark := []byte(entered + "=" + dir)
	for pid := range all {
		if ns, err := namespace(pid); err != nil || ns != r.Namespace {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(v, mark) {
				return pid
			}
		}
	}
	return 0
}

// namespace returns the inode of a process's user namespace.
func namespace(pid int) (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/user", pid), &s); err != nil {
		return 0, fmt.Errorf("userns: the user namespace of process %d: %w", pid, err)
	}
	return s.Ino, nil
}

// lock waits until no other process looks for the holder of dir, or is on its way into the namespace. The lock ends when
// the descriptor is closed.
func lock(dir string) (fd int, err error) {
	path := filepath.Join(dir, "holder.lock")
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, fmt.Errorf("userns: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); err == nil {
			return fd, nil
		} else if !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return -1, fmt.Errorf("userns: lock %s: %w", path, err)
		}
	}
}

// load reads the record; the zero one if there is none, or none that can be read: a crash may have cut it.
func load(dir string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "holder"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	} else if err != nil {
		return record{}, fmt.Errorf("userns: %w", err)
	}
	if json.Unmarshal(b, &r) != nil || r.PID <= 0 {
		return record{}, nil
	}
	return r, nil
}

func (r record) save(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("userns: %w", err)
	}
	fresh := filepath.Join(dir, "holder.new")
	if err := os.WriteFile(fresh, append(b, '\n'), 0o600); err != nil {
		return unusable(dir, fmt.Errorf("userns: record the holder: %w", err))
	}
	if err := os.Rename(fresh, filepath.Join(dir, "holder")); err != nil {
		return unusable(dir, fmt.Errorf("userns: record the holder: %w", err))
	}
	return nil
}
