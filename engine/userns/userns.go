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
// lives as long as a process in it: hence the holder. It is made at the first use, outlives the agent, and stays until End
// (weft leave), or until all processes of the user are ended (logout, where systemd is told so, and shutdown). If it is
// killed while containers run, it is made again in their namespace.
//
// In the namespace the user is uid 0; with entries in /etc/subuid and /etc/subgid, and newuidmap, further uids are there
// too. Files stay the user's own.
package userns

import (
	"errors"
	"fmt"
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
)

// Enter returns at once in a process that has CAP_SYS_ADMIN and CAP_NET_ADMIN. Any other one it replaces by the same
// program with the same arguments, PID and streams, as root of the user namespace whose holder is recorded in dir, and so
// returns only to tell why it could not. That program finds dir in $WEFT_DATA_DIR.
func Enter(dir string) error {
	if Privileged() {
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
	pid, err := holder(dir, self, nsenter)
	if err != nil {
		return err
	}
	args := append([]string{"nsenter", "--user", "--preserve-credentials", "--target", strconv.Itoa(pid), "--", self}, os.Args[1:]...)
	if err := syscall.Exec(nsenter, args, environment(dir)); err != nil {
		return fmt.Errorf("userns: run %s: %w", nsenter, err)
	}
	return nil
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
