package egress

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// inside marks the environment of the process that runs the tests.
const inside = "EGRESS_TEST_INSIDE"

// TestMain runs the tests in a network namespace of their own: what the way out dials from is the process's namespace, and that is
// then a host which the tests may arrange.
func TestMain(m *testing.M) {
	if os.Getenv(crowd) != "" {
		if err := crowdMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(inside) == "" {
		code, err := again()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "loopback of the tests' namespace: %v\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// again runs this program as it was started, in new namespaces.
func again() (code int, err error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = lab.Rootless()
	if !lab.Unprivileged() {
		cmd.SysProcAttr.Cloneflags &^= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = nil, nil
	}
	runtime.LockOSThread() // the signal comes when the thread ends that started the program
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	err = cmd.Run()
	if e := new(exec.ExitError); errors.As(err, &e) {
		return max(e.ExitCode(), 1), nil
	} else if err != nil {
		return 1, fmt.Errorf("run the tests in a namespace of their own: %w", err)
	}
	return 0, nil
}
