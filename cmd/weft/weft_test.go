package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/internal/lab"
)

// TestMain lets the test binary be weft: the demo starts agents as /proc/self/exe.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(weft(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestExitStatusAndMessageTellUsageFromFailure(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args   string
		status int
		stderr string // part of it
	}{
		{"", 0, ""},
		{"--help", 0, ""},
		{"version", 0, ""},
		{"port", 0, ""},
		{"frobnicate", 2, `weft has no command "frobnicate"`},
		{"fbd", 2, "did you mean fdb?"},
		{"port lst", 2, `weft port has no command "lst"`},
		{"fdb extra", 2, `argument "extra"; expected weft fdb`},
		{"fdb --nonsense", 2, "unknown flag: --nonsense\nSee weft fdb --help."},
		{"agent --static= ", 2, "--static is empty"},
		{"agent --static x --advertise 192.0.2.1", 2, "--advertise beside --static"},
		{"agent --static x --data-dir y", 2, "--data-dir beside --static"},
		{"agent --advertise host.example", 2, `--advertise "host.example"; expected an address`},
		{"agent --advertise 0.0.0.0", 2, "expected an address of this host"},
		{"agent --dns 192.0.2", 2, `--dns "192.0.2"; expected the address of a name server`},
		{"agent --dns 0.0.0.0", 2, "expected the address of a name server"},
		{"agent --dns 192.0.2.1:0", 2, "expected the address of a name server"},
		{"agent --dns-ttl 1500ms", 2, "--dns-ttl 1.5s; expected whole seconds from 1s to 1h"},
		{"agent --dns-ttl 0s", 2, "expected whole seconds"},
		{"agent --egress-flows 0", 2, "--egress-flows 0; expected 1 to 1048576"},
		{"agent --static " + nowhere + " --dns 192.0.2.53 --egress-flows 5", 1, "no such file"},
		{"agent --profile man", 2, `--profile "man"; expected lan or wan`},
		{"agent --data-dir=", 2, "--data-dir is empty"},
		{"agent --listen-port 0", 2, "expected --listen-port"},
		{"agent --gossip-port 7373", 2, "expected gossip's to be another"},
		{"agent --vxlan-port 65536", 2, "65536"},
		{"agent --static x --log-level loud", 2, `--log-level "loud"; expected debug, info, warn or error`},
		{"agent --static " + nowhere, 1, "no such file"},
		{"status --socket " + nowhere, 1, "no agent at " + nowhere},
		{"fdb --socket " + nowhere, 1, "start one with weft agent"},
		{"port ls --socket " + nowhere, 1, "no agent at"},
		{"stats --socket " + nowhere, 1, "no agent at"},
		{"capture --socket " + nowhere, 1, "no agent at"},
		{"capture --point wire", 2, `--point "wire"; expected port or tunnel`},
		{"capture --host example.org", 2, `--host "example.org"; expected an address or a subnet`},
		{"capture --l4port 65536", 2, "65536"},
		{"capture --duration -1s", 2, "expected a positive time"},
	} {
		t.Run("weft "+strings.ReplaceAll(c.args, nowhere, "none"), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := weft(strings.Fields(c.args), &stdout, &stderr)
			if status != c.status || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("status %d and %q, expected %d and %q", status, stderr.String(), c.status, c.stderr)
			}
			if status != 0 && stdout.Len() > 0 {
				t.Errorf("a failure wrote to standard output: %q", stdout.String())
			}
		})
	}
}

func TestVersionIsReadableByProgramsToo(t *testing.T) {
	var out bytes.Buffer
	if status := weft([]string{"version", "--json"}, &out, os.Stderr); status != 0 {
		t.Fatalf("status %d", status)
	}
	var v map[string]string
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || v["version"] != version || v["platform"] == "" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		if c.Short == "" || c.HasParent() && c.Runnable() && c.Args == nil {
			t.Errorf("%s: short help %q, arguments checked: %v; expected both", c.CommandPath(), c.Short, c.Args != nil)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

func TestAmountsHaveThreeDigitsAndAUnit(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1234567: "1.23 MB", 999_999_999: "1 GB", 1 << 63: "9.22 EB"} {
		if want = strings.Replace(want, "k", "K", 1); amount(n) != want {
			t.Errorf("%d bytes are %q, expected %q", n, amount(n), want)
		}
	}
}

// needsNamespaces skips a test where namespaces cannot be made.
func needsNamespaces(t *testing.T) {
	t.Helper()
	if lab.Unprivileged() {
		t.Skip("takes root, for network namespaces")
	}
}

func TestDemoHoldsItsChecksAndLeavesNothing(t *testing.T) {
	needsNamespaces(t)
	before := leftovers(t)
	var stdout, stderr bytes.Buffer
	if status := weft([]string{"demo"}, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d\n%s%s", status, stdout.String(), stderr.String())
	}
	if n := strings.Count(stdout.String(), "  ok      "); n != 20 {
		t.Errorf("%d checks were ok, expected 20:\n%s", n, stdout.String())
	}
	if after := leftovers(t); after != before {
		t.Errorf("left behind: %s, before: %s", after, before)
	}
}

// leftovers lists the demo's directories, and the children of this process.
func leftovers(t *testing.T) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "weft-demo-*"))
	lab.Must(t, err)
	children, err := filepath.Glob("/proc/self/task/*/children")
	lab.Must(t, err)
	for _, c := range children {
		b, err := os.ReadFile(c)
		if err == nil && len(b) > 0 {
			dirs = append(dirs, string(b))
		}
	}
	return fmt.Sprint(dirs)
}

func TestDemoCleansUpWhenInterrupted(t *testing.T) {
	needsNamespaces(t)
	tmp := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	lab.Must(t, cmd.Start())
	lab.Eventually(t, func() bool {
		found, err := filepath.Glob(tmp + "/weft-demo-*/b.sock")
		return err == nil && len(found) > 0
	}, 20*time.Second)
	lab.Must(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "interrupted; everything the demo made is removed") {
		t.Errorf("got %v and\n%s", err, out.String())
	}
	err := filepath.WalkDir(tmp, func(path string, _ fs.DirEntry, err error) error {
		if path != tmp {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	lab.Must(t, err)
}

// node runs an agent with two containers in hosts of its own, and returns the containers and the agent's socket.
func node(t *testing.T) (c1, c2 *lab.Host, socket string) {
	t.Helper()
	host := lab.T(t, "host")
	c1, c2 = lab.T(t, "c1"), lab.T(t, "c2")
	lab.Must(t, host.Address("lo", netip.MustParsePrefix("192.0.2.1/32")))
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	socket = filepath.Join(dir, "s")
	lab.Must(t, os.WriteFile(file, fmt.Appendf(nil, `node: a
underlay: {address: 192.0.2.1}
networks:
  - name: net1
    vni: 4097
    mtu: 1450
    subnets: [10.77.0.0/24]
    endpoints:
      - {name: c1, netns: %s, addresses: [10.77.0.2]}
      - {name: c2, netns: %s, addresses: [10.77.0.3]}
`, c1.Path(), c2.Path()), 0o600))
	cmd := host.Command("/proc/self/exe", "agent", "--static", file, "--socket", socket)
	var log bytes.Buffer
	cmd.Stderr = &log
	lab.Must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Stop()
		if t.Failed() {
			t.Logf("the agent said:\n%s", log.String())
		}
	})
	lab.Eventually(t, func() bool { return call(t, "status", "--socket", socket).status == 0 }, 10*time.Second)
	return c1, c2, socket
}

// outcome is what a command did.
type outcome struct {
	status         int
	stdout, stderr string
}

func call(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := weft(args, &stdout, &stderr)
	return outcome{status, stdout.String(), stderr.String()}
}

func TestCommandsShowARunningAgent(t *testing.T) {
	needsNamespaces(t)
	_, _, socket := node(t)
	for _, c := range []struct {
		args string
		want []string
	}{
		{"status", []string{"192.0.2.1:4789", "2 up, 0 gone", "net1", "10.77.0.0/24"}},
		{"fdb", []string{"02:42:0a:4d:00:02", "10.77.0.3", "local"}},
		{"fdb --network net1", []string{"02:42:0a:4d:00:02"}},
		{"port ls", []string{"c1", "tap", "eth0", "up", "offloaded", "1450"}},
		{"stats", []string{"Tunnel at 192.0.2.1:4789", "Refused", "THREAD"}},
	} {
		args := append(strings.Fields(c.args), "--socket", socket)
		human := call(t, args...)
		for _, w := range c.want {
			if !strings.Contains(human.stdout, w) {
				t.Errorf("weft %s does not show %q:\n%s%s", c.args, w, human.stdout, human.stderr)
			}
		}
		if j := call(t, append(args, "--json")...); j.status != 0 || !json.Valid([]byte(j.stdout)) {
			t.Errorf("weft %s --json: status %d, %q", c.args, j.status, j.stdout)
		}
	}
	if o := call(t, "fdb", "--network", "net9", "--socket", socket); o.status != 1 || !strings.Contains(o.stderr, `no network "net9"; this node has net1`) {
		t.Errorf("an unknown network: %+v", o)
	}
}

func TestCaptureOfAPingShowsItInAndOut(t *testing.T) {
	needsNamespaces(t)
	c1, _, socket := node(t)
	file := filepath.Join(t.TempDir(), "ping.pcapng")
	done := make(chan outcome, 1)
	// ARP is answered by the agent: of a single ping that leaves the request and the reply, each at two ports.
	go func() {
		done <- call(t, "capture", "--socket", socket, "--host", "10.77.0.3", "--count", "6", "--duration", "20s", "-w", file)
	}()
	lab.Eventually(t, func() bool { info, err := os.Stat(file); return err == nil && info.Size() > 0 }, 10*time.Second)
	if out, err := c1.Command("ping", "-n", "-c", "3", "-i", "0.05", "10.77.0.3").CombinedOutput(); err != nil {
		t.Fatalf("ping: %v\n%s", err, out)
	}
	if o := <-done; o.status != 0 || o.stderr != "6 frames captured, 0 lost\n" {
		t.Fatalf("capture: %+v", o)
	}
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	out, err := exec.Command("tshark", "-n", "-r", file, "-Y", "icmp.type == 8", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags").Output()
	lab.Must(t, err)
	lines := strings.Split(string(out), "\n")
	if len(lines) < 2 || lines[0] != "net1/c1\t0x00000001" || lines[1] != "net1/c2\t0x00000002" {
		t.Errorf("the echo request was seen as %q, expected in from c1, then out to c2", lines)
	}
}

func TestCaptureInterruptedLeavesAWholeFile(t *testing.T) {
	needsNamespaces(t)
	c1, _, socket := node(t)
	file := filepath.Join(t.TempDir(), "a.pcapng")
	cmd := exec.Command("/proc/self/exe", "capture", "--socket", socket, "--host", "10.77.0.3", "-w", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	lab.Must(t, cmd.Start())
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	lab.Eventually(t, func() bool { return size() > 0 }, 10*time.Second)
	head := size()
	if out, err := c1.Command("ping", "-n", "-c", "2", "-i", "0.05", "10.77.0.3").CombinedOutput(); err != nil {
		t.Fatalf("ping: %v\n%s", err, out)
	}
	lab.Eventually(t, func() bool { return size() > head }, 10*time.Second)
	lab.Must(t, cmd.Process.Signal(syscall.SIGINT))
	if err := cmd.Wait(); err != nil || !strings.HasSuffix(stderr.String(), "frames captured, 0 lost\n") {
		t.Errorf("got %v and %q", err, stderr.String())
	}
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	if out, err := exec.Command("tshark", "-n", "-r", file).CombinedOutput(); err != nil {
		t.Errorf("tshark: %v\n%s", err, out)
	}
}

func TestCaptureRefusesATerminal(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	defer pty.Close()
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	var stderr bytes.Buffer
	if status := weft([]string{"capture"}, pty, &stderr); status != 2 || !strings.Contains(stderr.String(), "-w FILE") {
		t.Errorf("status %d, %q", status, stderr.String())
	}
}

func TestNameServersOfTheAgentAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.53": "192.0.2.53:53", "192.0.2.53:5353": "192.0.2.53:5353", "2001:db8::53": "[2001:db8::53]:53", "[2001:db8::53]": "[2001:db8::53]:53",
		"[2001:db8::53]:5353": "[2001:db8::53]:5353", "fe80::1%eth0": "[fe80::1%eth0]:53", "::ffff:192.0.2.53": "192.0.2.53:53", "127.0.0.53": "127.0.0.53:53",
	} {
		o := agentOptions{servers: []string{text}}
		o.DNSTTL, o.EgressFlows = time.Second, 1
		if err := o.outward(); err != nil || len(o.DNS) != 1 || o.DNS[0].String() != want {
			t.Errorf("%q is %s, %v; expected %s", text, o.DNS, err, want)
		}
	}
}
