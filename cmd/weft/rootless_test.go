package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/internal/lab"
)

// joinedUsers makes two users' agents a cluster with a network.
func joinedUsers(t *testing.T) (a, b *user) {
	t.Helper()
	both := users(t, "a", "b")
	a, b = both[0], both[1]
	a.start()
	b.start()
	a.weft("init", "--name", "a")
	b.weft("join", "--name", "b", "--token", a.weft("token", "show", "worker", "--quiet"), a.addr.String())
	a.weft("network", "create", "net1")
	b.eventually("the network is there", func() error {
		if o := b.try("network", "inspect", "net1"); o.status != 0 {
			return errors.New(o.stderr)
		}
		return nil
	})
	return a, b
}

func TestOrdinaryUsersHaveAClusterWithoutAnyPrivilege(t *testing.T) {
	if again(t) {
		return
	}
	a, b := joinedUsers(t)
	addr1, addr2 := a.contain("c1"), b.contain("c2")
	a.reaches("c1", addr2)
	b.reaches("c2", addr1)
	a.foreground(addr2)
	a.attaches(addr2)
	a.survives(b, addr2)
	a.eventually("the doctor is content", func() error { // the manager has just been started again
		if o := a.try("doctor"); o.status != 0 || !strings.Contains(o.stdout, "user nobody can make network namespaces, and devices in them") {
			return fmt.Errorf("%+v", o)
		}
		return nil
	})

	// Nothing is left in the end: b leaves while its container runs, a after its own has gone.
	b.weft("leave")
	if got := b.weft("exec", "c2", "--", "ip", "-o", "link"); strings.Contains(got, "eth0") {
		t.Errorf("after leaving, the container still has %s", got)
	}
	b.stop(unix.SIGTERM)
	if c := b.container("c2"); c.State != "running" {
		t.Errorf("the agent took its container along: %+v", c)
	}
	b.weft("rm", "-f", "c2")
	a.weft("stop", "-t", "1", "c1")
	a.weft("rm", "c1")
	a.weft("leave", "--force")
	a.stop(unix.SIGTERM)
	a.eventually("no process is left", func() error { return nobodyLeft(t, a) })
	for _, u := range []*user{a, b} {
		if _, err := os.Stat(filepath.Join(u.data(), "holder")); err == nil {
			t.Errorf("the holder of %s is still on record", u.Name())
		}
		if left, err := os.ReadDir(filepath.Join(u.data(), "containers")); err != nil || len(left) > 1 { // .lock
			t.Errorf("of containers on %s there are left %v, %v", u.Name(), left, err)
		}
	}
}

// foreground runs containers as a user at a terminal would.
func (u *user) foreground(other netip.Addr) {
	u.t.Helper()
	for _, c := range []struct {
		stdin          string
		args           []string
		status         int
		stdout, stderr string
	}{
		{"some input\n", []string{"sh", "-c", "cat; id -u; echo complaint >&2; exit 7"}, 7, "some input\n0\n", "complaint\n"},
		{"", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15, "", ""},
		{"", []string{"ping", "-q", "-c", "1", "-W", "2", other.String()}, 0, "1 received", ""},
		{"", []string{"no-such-command"}, 127, "", "not found"},
	} {
		cmd := u.command(u.binary, append([]string{"run", "--rm", "--network", "net1", "--"}, c.args...)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &stdout, &stderr
		_ = cmd.Run() // its status tells
		if got := cmd.ProcessState.ExitCode(); got != c.status || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			u.t.Errorf("weft run %q: status %d, %q, %q; expected %d, %q, %q", c.args, got, stdout.String(), stderr.String(), c.status, c.stdout, c.stderr)
		}
	}
	u.weft("run", "-d", "--name", "talker", "--network", "net1", "--", "sh", "-c", "echo out; echo err >&2")
	u.eventually("the talker has ended", func() error {
		if c := u.container("talker"); c.State != "exited" {
			return errors.New(c.State)
		}
		return nil
	})
	if o := u.try("logs", "talker"); o != (outcome{0, "out\n", "err\n"}) {
		u.t.Errorf("weft logs: %+v", o)
	}
	u.weft("rm", "talker")
}

// attaches attaches namespaces that weft run has not made: in the user namespace of the agent, in one below it, and
// elsewhere, where it cannot.
func (u *user) attaches(other netip.Addr) {
	u.t.Helper()
	record, err := os.ReadFile(filepath.Join(u.data(), "holder"))
	lab.Must(u.t, err)
	holder := number(u.t, record, `"pid":`)
	inside := []string{"nsenter", "--user", "--preserve-credentials", "--target", strconv.Itoa(holder), "--"}
	for _, c := range []struct {
		name    string
		program []string
		refusal string
	}{
		{"beside", append(inside, "unshare", "--net"), ""},
		{"below", append(inside, "unshare", "--user", "--map-root-user", "--net"), ""},
		{"apart", []string{"unshare", "--user", "--map-root-user", "--net"}, "another user namespace"},
	} {
		g := u.guest(c.program...)
		o := u.try("attach", "--network", "net1", "--name", c.name, "--pid", strconv.Itoa(g.pid))
		switch {
		case c.refusal != "":
			if o.status == 0 || !strings.Contains(o.stderr, c.refusal) {
				u.t.Errorf("%s: attach: %+v; expected %q", c.name, o, c.refusal)
			}
		case o.status != 0:
			u.t.Errorf("%s: attach: %+v", c.name, o)
		default:
			if err := g.ping(other); err != nil {
				u.t.Errorf("%s: %v", c.name, err)
			}
		}
		g.cmd.Stop()
		u.eventually("a guest that has ended is detached", func() error {
			if got := u.weft("endpoint", "ls"); strings.Contains(got, c.name) {
				return errors.New(got)
			}
			return nil
		})
	}
}

func number(t testing.TB, b []byte, after string) int {
	t.Helper()
	_, rest, _ := strings.Cut(string(b), after)
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(rest[:max(end, 0)])
	lab.Must(t, err)
	return n
}

// survives kills both agents while containers of both talk by TCP, and starts them again.
func (u *user) survives(other *user, addr netip.Addr) {
	u.t.Helper()
	client, server := dial(u.t, u.container("c1").Process.PID, other.container("c2").Process.PID, addr)
	echo := func(text string) {
		u.t.Helper()
		lab.Must(u.t, exchange(client, server, text))
	}
	echo("before")
	for _, each := range []*user{u, other} {
		each.stop(unix.SIGKILL)
	}
	if o := u.try("exec", "c1", "--", "ip", "-o", "-4", "address", "show", "eth0"); o.status != 0 || !strings.Contains(o.stdout, "inet ") {
		u.t.Errorf("without an agent: %+v", o)
	}
	_, err := client.Write([]byte("meanwhile"))
	lab.Must(u.t, err)
	u.start()
	other.start()
	got := make([]byte, len("meanwhile"))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "meanwhile" {
		u.t.Errorf("what was sent while both agents were away: %q, %v\n%s", got, err, u.said)
	}
	echo("after")
}

// exchange sends text there and back.
func exchange(client, server net.Conn, text string) error {
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := io.WriteString(way[0], text); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(way[1], got); err != nil || string(got) != text {
			return fmt.Errorf("%q arrived as %q: %w", text, got, err)
		}
	}
	return nil
}

// alive is whether the process that a file records runs.
func alive(t testing.TB, u *user) bool {
	t.Helper()
	record, err := os.ReadFile(filepath.Join(u.data(), "holder"))
	if err != nil {
		return false
	}
	_, err = process.Find(number(t, record, `"pid":`))
	return err == nil
}

func TestHolderLivesAsLongAsContainersOrTheAgent(t *testing.T) {
	if again(t) {
		return
	}
	u := users(t, "a")[0]
	gone := func(when string) {
		t.Helper()
		u.eventually("no process is left "+when, func() error { return nobodyLeft(t, u) })
	}
	if o := u.try("stop", "none"); o.status != 1 {
		t.Errorf("stop: %+v", o)
	}
	gone("after a command that found nothing")
	u.start()
	u.stop(unix.SIGTERM)
	gone("after an agent of no cluster")
	u.start()
	u.weft("init")
	u.weft("network", "create", "net1")
	u.contain("c1")
	u.stop(unix.SIGTERM)
	if !alive(t, u) {
		t.Error("the holder was ended, and a container runs")
	}
	u.start()
	u.weft("exec", "c1", "--", "true")
	u.stop(unix.SIGKILL)
	u.weft("rm", "-f", "c1")
	gone("after a container that outlived its agent")
	u.start()
	u.contain("c1")
	u.weft("leave", "--force")
	u.weft("exec", "c1", "--", "true")
	u.weft("stop", "-t", "0", "c1")
	if !alive(t, u) {
		t.Error("the holder was ended, and the agent runs")
	}
	u.stop(unix.SIGTERM)
	gone("after the agent")
}

func TestAgentInsideAnEnginesUserNamespaceAttachesItsContainers(t *testing.T) {
	if again(t) {
		return
	}
	u := users(t, "a")[0]
	engine := u.guest("unshare", "--user", "--map-root-user") // as podman unshare: the host's network
	defer engine.cmd.Stop()
	u.engine = []string{"nsenter", "--user", "--preserve-credentials", "--target", strconv.Itoa(engine.pid), "--"}
	u.start()
	u.weft("init")
	u.weft("network", "create", "net1")
	web, db := u.guest("unshare", "--net"), u.guest("unshare", "--net")
	defer web.cmd.Stop()
	defer db.cmd.Stop()
	u.weft("attach", "--network", "net1", "--name", "web", "--pid", strconv.Itoa(web.pid))
	u.weft("attach", "--network", "net1:ip=10.0.0.77", "--name", "db", "--pid", strconv.Itoa(db.pid))
	u.stop(unix.SIGKILL)
	u.start()
	u.eventually("both are up again", func() error {
		if got := u.weft("endpoint", "ls"); strings.Count(got, " up") != 2 {
			return errors.New(got)
		}
		return nil
	})
	if err := web.ping(netip.MustParseAddr("10.0.0.77")); err != nil {
		t.Errorf("between the engine's containers: %v", err)
	}
	if o := u.try("run", "--rm", "--network", "net1", "--", "ping", "-c", "1", "-W", "2", "10.0.0.77"); o.status != 0 {
		t.Errorf("weft run beside them: %+v", o)
	}
	if _, err := os.Stat(u.data()); err != nil || alive(t, u) {
		t.Errorf("data are not at home (%v), or there is a holder", err)
	}
	own := *u
	own.engine = nil
	if o := own.try("run", "--network", "net1", "--", "true"); o.status != 125 || !strings.Contains(o.stderr, "in another user namespace than this agent") {
		t.Errorf("weft run outside of the engine's namespace: %+v", o)
	}
	u.stop(unix.SIGTERM)
}
