package doctor

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
)

func TestKernelWithoutIPv6PingsByIPv4(t *testing.T) {
	for _, err := range []error{unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		s := sound(t, nil)
		pings(nil, err)(&s)
		if c := s.pings(); c.Level != api.CheckOK || !strings.Contains(c.Found, "no IPv6") {
			t.Errorf("%v: %+v", err, c)
		}
	}
}

func TestLimitsOfTheAgentThatRunsCount(t *testing.T) {
	s := sound(t, map[string]string{"/proc/123/limits": limits("4096"), "/proc/124/limits": limits("unlimited")})
	if c := s.openFiles(123); c.Level != api.CheckWarn || !strings.Contains(c.Found, "4096 at most for the agent") {
		t.Errorf("%+v", c)
	}
	if c := s.openFiles(124); c.Level != api.CheckOK || !strings.Contains(c.Found, "no limit for the agent") {
		t.Errorf("%+v", c)
	}
}

// What the checks read of this host is what the kernel says by other ways.
func TestLimitIsReadOnThisHost(t *testing.T) {
	b, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if n, found := hardLimit(string(b)); found != (l.Max != unix.RLIM_INFINITY) || found && n != l.Max {
		t.Errorf("read %d, %v; the limit is %d", n, found, l.Max)
	}
}

// In a network namespace of our own the range of groups decides, for root as well.
func TestPingIsTriedOnThisHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	group := strconv.Itoa(os.Getegid())
	for _, test := range []struct{ groups, level string }{{"1 0", api.CheckWarn}, {group + " " + group, api.CheckOK}} {
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(test.groups), 0); err != nil {
			t.Skipf("the range cannot be set: %v", err)
		}
		if c := here().pings(); c.Level != test.level {
			t.Errorf("with the groups %q: %+v", test.groups, c)
		}
	}
}
