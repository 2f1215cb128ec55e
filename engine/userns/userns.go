// Package userns lets an ordinary user be weft: in a user namespace (user_namespaces(7)) in which the user is root, but in
// the host's network namespace, so that the sockets of the agent are plain host sockets and the network namespaces of its
// containers are its own to enter.
//
//	weft agent, as uid 1000                      dir/holder: pid, start time, namespace
//	       │                                                   │
//	       │ exec                                              ▼
//	       ▼            setns(CLONE_NEWUSER)          ┌─ user namespace ──────────────┐
//	nsenter -U -t HOLDER ───────────────────────────► │ weft hold (the holder, sleeps)│
//	       │ exec                                     │                               │
//	       └────────────────────────────────────────► │ weft agent, as root           │
//	          the same PID, streams, terminal,        │ weft run ─► containers        │
//	          environment                             └───────────────────────────────┘
//
// A Go process has many threads, and such a one cannot enter a user namespace: hence nsenter, which has one. A namespace
// lives as long as a process in it: hence the holder. It is made at the first use, and stays as long as anything runs in
// the namespace: containers outlive the agent, and the next agent must find them. The last process that leaves ends it
// (Leave). If it is killed while containers run, it is made again in their namespace.
//
// The lock of dir is held from the look for the holder until the program is inside, so that nobody ends it meanwhile.
//
// In the namespace the user is uid 0; with entries in /etc/subuid and /etc/subgid, and newuidmap, further uids are there
// too. Files stay the user's own.
package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// entered marks processes inside the namespace, by the directory of the holder.
	entered = "WEFT_USERNS"
	// dataDir tells the program inside, which is root there, whose data it works on.
	dataDir = "WEFT_DATA_DIR"
	// locked tells it which descriptor is the lock of that directory.
	locked = "WEFT_USERNS_LOCK"
)

// Enter returns at once in a process that has CAP_SYS_ADMIN and CAP_NET_ADMIN. Any other one it replaces by the same
// program with the same arguments, PID and streams, as root of the user namespace whose holder is recorded in dir, and so
// returns only to tell why it could not. That program finds dir in $WEFT_DATA_DIR.
func Enter(dir string) error {
	if Privileged() {
		arrive()
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("userns: %w", err)
	}
	if os.Getenv(entered) == dir {
		return fmt.Errorf("userns: no capabilities even as root of a user namespace; %s", remedy("/proc/sys"))
	}
	nsenter, err := findNsenter()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("userns: find this program: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unusable(dir, err)
	}
	fd, err := lock(dir)
	if err != nil {
		return unusable(dir, err)
	}
	defer unix.Close(fd)
	pid, err := holder(dir, self, nsenter)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("userns: keep the lock: %w", err)
	}
	args := append([]string{"nsenter", "--user", "--preserve-credentials", "--target", strconv.Itoa(pid), "--", self}, os.Args[1:]...)
	if err := syscall.Exec(nsenter, args, append(environment(dir), locked+"="+strconv.Itoa(fd))); err != nil {
		return fmt.Errorf("userns: run %s: %w", nsenter, err)
	}
	return nil
}

// arrive unlocks the directory of a program that has just come into the namespace.
func arrive() {
	fd, err := strconv.Atoi(os.Getenv(locked))
	if err != nil {
		return
	}
	_ = os.Unsetenv(locked) // nobody else's
	_ = unix.Close(fd)
}

// unusable says what to do about a data directory that cannot be made or written.
func unusable(dir string, err error) error {
	remedy := fmt.Sprintf("name another directory than %s with --data-dir", dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy = fmt.Sprintf("it must belong to user %d, who runs weft: chown it, or %s", os.Getuid(), remedy)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		remedy = "make room there, or " + remedy
	}
	return fmt.Errorf("%w; %s", err, remedy)
}

// environment is that of the programs inside.
func environment(dir string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, entered+"=") || strings.HasPrefix(v, dataDir+"=")
	})
	return append(env, entered+"="+dir, dataDir+"="+dir)
}

// Privileged reports whether this process may make and enter namespaces, and devices in them.
func Privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.Geteuid() == 0
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return data[0].Effective&need == need
}

func findNsenter() (string, error) {
	path, err := exec.LookPath("nsenter")
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("userns: nsenter is not installed; it comes with util-linux: install that (Debian, Fedora, Alpine: util-linux), or run as root")
	} else if err != nil {
		return "", fmt.Errorf("userns: nsenter cannot be run: %w", err)
	}
	return path, nil
}
