package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

func TestMain(m *testing.M) {
	role := os.Getenv("LAB_TEST_UNPRIVILEGED")
	if role != "" {
		if done, code, err := Reexec(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		} else if done {
			os.Exit(code)
		}
	}
	if role == "hold" {
		hold()
	}
	os.Exit(m.Run())
}

// hold makes a host with a running program, prints the processes' numbers, and waits for its own end.
func hold() {
	h, err := New("held")
	if err == nil {
		c := h.Command("sleep", "60")
		if err = c.Start(); err == nil {
			fmt.Println(os.Getpid(), c.Process.Pid)
			err = c.Wait()
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func prefix(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }

// inode identifies the namespace that a file stands for.
func inode(t *testing.T, file string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// ping reports whether host reaches addr.
func ping(host *Host, addr string) bool {
	return host.Command("ping", "-c1", "-W1", addr).Run() == nil
}

func TestHostHasItsOwnNamespaceAndLoopback(t *testing.T) {
	h := T(t, "a")
	mine := inode(t, "/proc/self/ns/net")
	var inside uint64
	Must(t, h.Do(func() error {
		var st unix.Stat_t
		err := unix.Stat("/proc/thread-self/ns/net", &st)
		inside = st.Ino
		return err
	}))
	if inside == mine || inside != inode(t, h.Path()) {
		t.Errorf("Do ran in %d; expected that of Path, %d, and not the test's own, %d", inside, inode(t, h.Path()), mine)
	}
	if now := inode(t, "/proc/self/ns/net"); now != mine {
		t.Errorf("the process moved from namespace %d to %d", mine, now)
	}
	if !ping(h, "127.0.0.1") {
		t.Error("loopback does not answer")
	}
}

func TestDoReturnsWhatTheFunctionReturns(t *testing.T) {
	h := T(t, "a")
	want := errors.New("mine")
	if got := h.Do(func() error { return want }); got != want {
		t.Errorf("got %v, expected %v", got, want)
	}
}

func TestCommandRunsInsideTheHost(t *testing.T) {
	h := T(t, "a")
	out, err := h.Command("readlink", "/proc/self/ns/net").Output()
	Must(t, err)
	if want := fmt.Sprintf("net:[%d]", inode(t, h.Path())); strings.TrimSpace(string(out)) != want {
		t.Errorf("the program ran in %s, expected %s", out, want)
	}
}

func TestCommandErrorCarriesWhatTheProgramSaid(t *testing.T) {
	h := T(t, "a")
	_, err := h.Command("sh", "-c", "echo broken >&2; exit 3").Output()
	if e := new(exec.ExitError); !errors.As(err, &e) || e.ExitCode() != 3 || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v, expected exit status 3 and the message", err)
	}
}

func TestCloseKillsWhatRuns(t *testing.T) {
	h, err := New("a")
	Must(t, err)
	c := h.Command("sleep", "1000")
	Must(t, c.Start())
	Must(t, h.Close())
	if err := syscall.Kill(c.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signalling the process gave %v, expected that there is none", err)
	}
	if err := c.Start(); !errors.Is(err, ErrClosed) {
		t.Errorf("Start after Close gave %v", err)
	}
	Must(t, h.Close())
}

func TestCloseGivesTheNamespaceUp(t *testing.T) {
	h, err := New("a")
	Must(t, err)
	ino := inode(t, h.Path())
	Must(t, h.Close())
	Eventually(t, func() bool { return !namespaceHeld(t, ino) }, 5*time.Second)
}

// namespaceHeld reports whether a thread or a descriptor of this process holds a namespace.
func namespaceHeld(t *testing.T, ino uint64) bool {
	t.Helper()
	want := fmt.Sprintf("net:[%d]", ino)
	for _, pattern := range []string{"/proc/self/fd/*", "/proc/self/task/*/ns/net"} {
		files, err := filepath.Glob(pattern)
		Must(t, err)
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil && to == want {
				return true
			}
		}
	}
	return false
}

func TestLinkJoinsTwoHosts(t *testing.T) {
	a, b := T(t, "a"), T(t, "b")
	Must(t, Link(a, b, LinkOptions{
		Names:     [2]string{"left", ""},
		MACs:      [2]frame.MAC{0x02_00_00_00_00_01, 0x02_00_00_00_00_02},
		Addresses: [2][]netip.Prefix{append(prefix("10.9.0.1/24"), prefix("fd09::1/64")...), append(prefix("10.9.0.2/24"), prefix("fd09::2/64")...)},
		MTU:       9000,
	}))
	for _, addr := range []string{"10.9.0.2", "fd09::2"} {
		Eventually(t, func() bool { return ping(a, addr) }, 5*time.Second)
	}
	for h, name := range map[*Host]string{a: "left", b: "eth0"} {
		link, err := h.Netlink().LinkByName(name)
		Must(t, err)
		if link.Attrs().MTU != 9000 {
			t.Errorf("%s has MTU %d", name, link.Attrs().MTU)
		}
	}
	mac, err := b.MAC("eth0")
	Must(t, err)
	if mac != 0x02_00_00_00_00_02 {
		t.Errorf("b's MAC is %s", mac)
	}
}

func TestDoOpensSocketsInTheHost(t *testing.T) {
	a, b := T(t, "a"), T(t, "b")
	Must(t, Link(a, b, LinkOptions{Addresses: [2][]netip.Prefix{prefix("10.9.0.1/24"), prefix("10.9.0.2/24")}}))
	var l net.Listener
	Must(t, b.Do(func() (err error) { l, err = net.Listen("tcp", "10.9.0.2:0"); return err }))
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	var got []byte
	Must(t, a.Do(func() error {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		got, err = io.ReadAll(c)
		return err
	}))
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestOffloadSwitchesEveryOffload(t *testing.T) {
	a, b := T(t, "a"), T(t, "b")
	Must(t, Link(a, b, LinkOptions{NoOffload: true}))
	watched := []string{"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-generic-segmentation", "rx-checksum"}
	for _, on := range []bool{false, true} {
		for _, h := range []*Host{a, b} {
			if on {
				Must(t, h.Offload("eth0", true))
			}
			f, err := h.Features("eth0")
			Must(t, err)
			for _, name := range watched {
				if have, ok := f[name]; !ok || have != on {
					t.Errorf("host %s: %s is %v (known: %v), expected %v", h.Name(), name, have, ok, on)
				}
			}
		}
	}
}

// overlay builds two hosts with bridge, VXLAN and one container each, as Docker sets them up.
func overlay(t *testing.T) (containers [2]*Host) {
	t.Helper()
	a, b := T(t, "a"), T(t, "b")
	Must(t, Link(a, b, LinkOptions{Addresses: [2][]netip.Prefix{prefix("192.0.2.1/24"), prefix("192.0.2.2/24")}}))
	for i, h := range []*Host{a, b} {
		me, other := i+1, 2-i
		Must(t, h.Bridge("br0"))
		Must(t, h.VXLAN("vxlan0", VXLANOptions{
			VNI: 4097, Local: netip.AddrFrom4([4]byte{192, 0, 2, byte(me)}), Bridge: "br0", Proxy: true,
			Entries: []Entry{{
				MAC:  frame.MAC(0x0242_0a00_0000 | other),
				Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(other)}),
				VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(other)}),
			}},
		}))
		c := T(t, fmt.Sprintf("c%d", me))
		containers[i] = c
		Must(t, Link(h, c, LinkOptions{
			Names: [2]string{"veth1", "eth0"}, Masters: [2]string{"br0", ""}, MTU: 1450,
			MACs:      [2]frame.MAC{0, frame.MAC(0x0242_0a00_0000 | me)},
			Addresses: [2][]netip.Prefix{nil, prefix(fmt.Sprintf("10.0.0.%d/24", me))},
		}))
	}
	return containers
}

func TestKernelOverlayJoinsContainersOfTwoHosts(t *testing.T) {
	c := overlay(t)
	Eventually(t, func() bool { return ping(c[0], "10.0.0.2") }, 5*time.Second)
	// 1450 is the whole of what fits: a full packet passes with DF.
	if err := c[1].Command("ping", "-c1", "-W1", "-Mdo", "-s", "1422", "10.0.0.1").Run(); err != nil {
		t.Errorf("a packet of 1450 bytes does not pass: %v", err)
	}
}

func TestFloodEntriesReachEveryVTEP(t *testing.T) {
	a := T(t, "a")
	Must(t, a.VXLAN("vxlan0", VXLANOptions{VNI: 7, Local: netip.MustParseAddr("192.0.2.1")}))
	for _, vtep := range []string{"192.0.2.2", "192.0.2.3"} {
		Must(t, a.Entry("vxlan0", Entry{VTEP: netip.MustParseAddr(vtep)}))
	}
	out, err := a.Command("bridge", "fdb", "show", "dev", "vxlan0").Output()
	Must(t, err)
	for _, vtep := range []string{"192.0.2.2", "192.0.2.3"} {
		if !bytes.Contains(out, []byte("00:00:00:00:00:00 dst "+vtep)) {
			t.Errorf("no flood entry for %s in:\n%s", vtep, out)
		}
	}
}

func TestSysctlAndDefaultRouteAreTheHostsOwn(t *testing.T) {
	a, b := T(t, "a"), T(t, "b")
	Must(t, Link(a, b, LinkOptions{Addresses: [2][]netip.Prefix{prefix("10.9.0.1/24"), prefix("10.9.0.2/24")}}))
	before, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl")
	Must(t, err)
	Must(t, a.Sysctl("net.ipv4.ip_default_ttl", "33"))
	after, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl")
	Must(t, err)
	if !bytes.Equal(before, after) {
		t.Errorf("the test's own TTL went from %s to %s", before, after)
	}
	Must(t, a.Default(netip.MustParseAddr("10.9.0.2")))
	out, err := a.Command("ip", "route", "get", "203.0.113.1").Output()
	Must(t, err)
	if !bytes.Contains(out, []byte("via 10.9.0.2")) {
		t.Errorf("the way out is %s", out)
	}
}

func TestErrorsNameHostAndInterface(t *testing.T) {
	a := T(t, "alpha")
	for name, err := range map[string]error{
		"address": a.Address("eth7", netip.MustParsePrefix("10.0.0.1/24")),
		"offload": a.Offload("eth7", false),
		"entry":   a.Entry("eth7", Entry{}),
		"link":    Link(a, a, LinkOptions{Names: [2]string{"eth7", "eth8"}, Masters: [2]string{"nobridge", ""}}),
	} {
		if err == nil || !strings.Contains(err.Error(), "alpha") || !strings.Contains(err.Error(), "eth7") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestOrdinaryUserGetsHostsByReexec runs the overlay test again as nobody, in a user namespace.
func TestOrdinaryUserGetsHostsByReexec(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("LAB_TEST_UNPRIVILEGED") != "" {
		t.Skip("only root can become another user")
	}
	cmd := asNobody(t, "test", "-test.v", "-test.run", "^(TestKernelOverlay.*|TestOffload.*|TestCommandRuns.*)$")
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) != 3 {
		t.Fatalf("as nobody: %v, expected three tests to pass\n%s", err, out)
	}
}

// asNobody prepares this program to run again as an ordinary user in a role of TestMain's.
func asNobody(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-lab")
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "lab.test")
	self, err := os.ReadFile("/proc/self/exe")
	Must(t, err)
	Must(t, os.WriteFile(binary, self, 0o755))
	cmd := exec.Command("setpriv", append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", binary}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LAB_TEST_UNPRIVILEGED="+role)
	return cmd
}

func TestNothingOutlivesAKilledProcess(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("LAB_TEST_UNPRIVILEGED") != "" {
		t.Skip("only root can become another user")
	}
	cmd := asNobody(t, "hold")
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	var inner, program int
	if _, err := fmt.Fscan(out, &inner, &program); err != nil {
		_ = cmd.Process.Kill()
		t.Fatalf("the processes' numbers did not come: %v", err)
	}
	Must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	for _, pid := range []int{inner, program} {
		Eventually(t, func() bool { return ended(pid) }, 5*time.Second)
	}
}

// ended reports whether a process is no more, or waits for somebody to collect it.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestReexecLetsRootGoOn(t *testing.T) {
	if Unprivileged() {
		t.Skip("not root")
	}
	if done, code, err := Reexec(); done || code != 0 || err != nil {
		t.Errorf("Reexec returned %v, %d, %v; expected the process to go on itself", done, code, err)
	}
}
