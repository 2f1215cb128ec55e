package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// reexecuted marks the environment of a process that Reexec has started.
const reexecuted = "WEFT_LAB_USERNS"

// Unprivileged reports whether this process lacks the capabilities that New takes.
func Unprivileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.Geteuid() != 0
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return data[0].Effective&need != need
}

// Reexec gives an ordinary user what New takes: it runs this program again, with the same arguments and streams, in user,
// network and mount namespaces of its own, in which the user is root, and waits for it. With done the caller passes code
// on to os.Exit; without, this process goes on itself: it is privileged, or the one that was started.
//
//	if done, code, err := lab.Reexec(); err != nil { ... } else if done { os.Exit(code) }
func Reexec() (done bool, code int, err error) {
	if !Unprivileged() {
		return false, 0, nil
	}
	if os.Getenv(reexecuted) != "" {
		return false, 0, errors.New("lab: no capabilities even inside a user namespace; allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns) or run as root")
	}
	self, err := os.Executable()
	if err != nil {
		return false, 0, fmt.Errorf("lab: find this program: %w", err)
	}
	cmd := exec.Command(self)
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), reexecuted+"=1")
	cmd.SysProcAttr = Rootless()
	// The signal comes when the thread ends that started the program, so this goroutine keeps it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL

	// The terminal's interrupt reaches both: the child decides what it means. Others are passed on.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return false, 0, fmt.Errorf("lab: make a user namespace: %w; allow unprivileged ones (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns) or run as root", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s == unix.SIGTERM || s == unix.SIGHUP {
				_ = cmd.Process.Signal(s) // it may have ended already
			}
		case err := <-ended:
			if e := new(exec.ExitError); err != nil && !errors.As(err, &e) {
				return true, 1, fmt.Errorf("lab: wait for the program inside the user namespace: %w", err)
			}
			return true, exitCode(cmd.ProcessState), nil
		}
	}
}

// Rootless returns the attributes of a process in user, network and mount namespaces of its own, in which this user is root.
func Rootless() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// exitCode is the code that a shell would report.
func exitCode(p *os.ProcessState) int {
	if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}
