package run_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/run"
	"github.com/weftnet/weft/engine/run/etc"
	"github.com/weftnet/weft/engine/run/inside"
	"github.com/weftnet/weft/internal/lab"
)

func TestCommandsStatusStreamsAndNamespaceAreItsOwn(t *testing.T) {
	w := newWorld(t)
	o := script("c1", `cat; echo err >&2; ip -o -4 addr show lo; hostname; echo "$HOSTNAME"; cat /etc/hostname; exit 7`)
	o.Remove = true
	cmd := w.command(driven{Do: "run", Spec: o})
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in\n"), &stdout, &stderr
	if err := cmd.Run(); err == nil || exitCode(cmd) != 7 {
		t.Fatalf("the status is %v, expected 7: %s", err, stderr.String())
	}
	out := stdout.String()
	if !strings.HasPrefix(out, "in\n") || !strings.Contains(out, "inet "+address+"/24") || !strings.HasSuffix(out, "\nc1\nc1\nc1\n") {
		t.Errorf("the container wrote %q", out)
	}
	if got := stderr.String(); got != "warning: network web: not synced\nerr\n" {
		t.Errorf("on its standard error: %q", got)
	}
	if got, want := w.notes(), []string{"attach_c1_c1_true_true", "detach_c1"}; !slices.Equal(got, want) {
		t.Errorf("the agent was asked for %q, expected %q", got, want)
	}
	w.empty()
}

func TestStatusTellsHowTheCommandEndedOrDidNotBegin(t *testing.T) {
	w := newWorld(t)
	plain := filepath.Join(t.TempDir(), "plain")
	lab.Must(t, os.WriteFile(plain, []byte("x"), 0o644))
	for _, c := range []struct {
		name    string
		command []string
		status  int
		stderr  string
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"false"}, 1, ""},
		{"a signal", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{"no such command", []string{"no-such-command"}, 127, `command "no-such-command" is not found in the container`},
		{"no such file", []string{"/no/such/command"}, 127, "not found"},
		{"not executable", []string{plain}, 126, "cannot be run"},
		{"a directory", []string{"/etc"}, 126, "cannot be run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := script("c1", "")
			o.Command, o.Remove = c.command, true
			if got := w.run(o); got.status != c.status || !strings.Contains(got.stderr, c.stderr) {
				t.Errorf("got %+v, expected status %d and %q", got, c.status, c.stderr)
			}
			w.empty()
			o.Command = c.command
			if got := w.do(driven{Do: "run", Spec: o, Detach: true}); c.status > 1 && c.status < 128 && (got.status != c.status || !strings.Contains(got.stderr, c.stderr)) {
				t.Errorf("in the background: got %+v, expected status %d and %q", got, c.status, c.stderr)
			}
			lab.Eventually(t, func() bool { list, err := w.store().List(); return err == nil && len(list) == 0 }, 10*time.Second)
		})
	}
}

func TestWhatCannotBeStartedLeavesNothing(t *testing.T) {
	w := newWorld(t)
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		name string
		with func(*driven)
		want string
	}{
		{"the agent refuses", func(d *driven) { d.Refuse = "no network web" }, "attach container c1: no network web"},
		{"a volume's source is missing", func(d *driven) { d.Spec.Volumes = []inside.Volume{{Source: missing, Target: "/mnt"}} }, missing},
		{"a volume's target is missing", func(d *driven) { d.Spec.Volumes = []inside.Volume{{Source: "/tmp", Target: missing}} }, missing + " does not exist"},
		{"a file over a directory", func(d *driven) { d.Spec.Volumes = []inside.Volume{{Source: "/etc/passwd", Target: "/mnt"}} }, "both be directories, or both files"},
		{"no such working directory", func(d *driven) { d.Spec.Workdir = missing }, "--workdir"},
		{"no such user", func(d *driven) { d.Spec.User = "no-such-user" }, `user "no-such-user" is not known here`},
		{"no such group", func(d *driven) { d.Spec.User = "0:no-such-group" }, `group "no-such-group"`},
		{"a bad name", func(d *driven) { d.Spec.Name = "../c1" }, `container name "../c1"; expected`},
		{"a bad host name", func(d *driven) { d.Spec.Hostname = "a b" }, `host name "a b"; expected`},
		{"no command", func(d *driven) { d.Spec.Command = nil }, "no command"},
	} {
		for _, detach := range []bool{false, true} {
			d := driven{Do: "run", Spec: script("c1", "echo started"), Detach: detach}
			c.with(&d)
			got := w.do(d)
			if got.status != run.StatusFailed || !strings.Contains(got.stderr, c.want) || strings.Contains(got.stdout, "started") {
				t.Errorf("%s, detached %t: got %+v, expected status 125 and %q", c.name, detach, got, c.want)
			}
			w.empty()
		}
	}
	notes := w.notes()
	if attached, detached := count(notes, "attach"), count(notes, "detach"); attached == 0 || attached != detached {
		t.Errorf("of %d that were attached %d were detached", attached, detached)
	}
}

func count(list []string, prefix string) (n int) {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func TestNameInUseIsRefusedWithTheRemedy(t *testing.T) {
	w := newWorld(t)
	if got := w.run(script("c1", "exit 3")); got.status != 3 {
		t.Fatalf("got %+v", got)
	}
	c := w.state("c1", run.Exited)
	if c.Status != 3 || c.Finished.Before(c.Started) {
		t.Errorf("on record: %+v", c)
	}
	if got := w.run(script("c1", "")); got.status != 125 || !strings.Contains(got.stderr, `"c1" is in use (exited); choose another --name, or remove that one: weft rm c1`) {
		t.Errorf("the name of one that has ended: %+v", got)
	}
	if got := w.rm("c1", false); got.status != 0 {
		t.Errorf("rm: %+v", got)
	}
	w.background(script("c1", "sleep 1000"))
	if got := w.run(script("c1", "")); got.status != 125 || !strings.Contains(got.stderr, "in use (running)") || !strings.Contains(got.stderr, "weft rm -f c1") {
		t.Errorf("the name of one that runs: %+v", got)
	}
}

func TestSignalsReachTheCommandOnce(t *testing.T) {
	w := newWorld(t)
	text := `n=0; for s in INT TERM HUP QUIT USR1 USR2 WINCH; do trap "echo $s; n=\$((n+1))" $s; done
		echo ready; while [ $n -lt 7 ]; do sleep 0.01; done`
	cmd := w.command(driven{Do: "run", Spec: script("c1", text)})
	out, err := cmd.StdoutPipe()
	lab.Must(t, err)
	lab.Must(t, cmd.Start())
	line := make([]byte, 64)
	read := func() string { n, _ := out.Read(line); return strings.TrimSpace(string(line[:n])) }
	if got := read(); got != "ready" {
		t.Fatalf("the container says %q", got)
	}
	for _, s := range []struct {
		sig  syscall.Signal
		name string
	}{{unix.SIGINT, "INT"}, {unix.SIGTERM, "TERM"}, {unix.SIGHUP, "HUP"}, {unix.SIGQUIT, "QUIT"}, {unix.SIGUSR1, "USR1"}, {unix.SIGUSR2, "USR2"}, {unix.SIGWINCH, "WINCH"}} {
		lab.Must(t, syscall.Kill(-cmd.Process.Pid, s.sig)) // to the group: it must not come twice
		if got := read(); got != s.name {
			t.Fatalf("of %s the container sees %q", s.name, got)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the container ended with %v", err)
	}
}

func TestInterruptedWhileTheAgentDoesNotAnswerLeavesNothing(t *testing.T) {
	w := newWorld(t)
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		_ = os.Remove(filepath.Join(w.data, "notes"))
		cmd := w.command(driven{Do: "run", Spec: script("c1", "echo started"), Hang: true})
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		lab.Must(t, cmd.Start())
		lab.Eventually(t, func() bool { return slices.Contains(w.notes(), "hang") }, 10*time.Second)
		lab.Must(t, cmd.Process.Signal(sig))
		if err := cmd.Wait(); exitCode(cmd) != run.StatusFailed || strings.Contains(out.String(), "started") {
			t.Errorf("%v: %v, %q", sig, err, out.String())
		}
		w.empty()
	}
}

func TestWhatTheCommandLeavesRunningEndsWithIt(t *testing.T) {
	w := newWorld(t)
	const mark = "3141.5926"
	o := script("c1", `sleep `+mark+` & (setsid sleep `+mark+` & ) & (setsid sh -c "trap '' TERM; exec sleep `+mark+`" &); sleep 0.05; exit 4`)
	if got := w.run(o); got.status != 4 {
		t.Fatalf("got %+v", got)
	}
	if alive(mark) {
		t.Error("a process of the container is still there")
	}
}

func TestTerminalBelongsToTheCommand(t *testing.T) {
	w := newWorld(t)
	pty := newTerminal(t)
	cmd := w.command(driven{Do: "run", Spec: script("c1", `trap "echo interrupted" INT; test -t 0 && test -t 1 && echo terminal; until read x; do :; done; echo "read $x"`)})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pty.slave, pty.slave, pty.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	lab.Must(t, cmd.Start())
	pty.slave.Close()
	pty.expect("terminal")
	pty.write("\x03")
	pty.expect("interrupted")
	pty.write("word\n")
	pty.expect("read word")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(pty.said, "interrupted"); n != 1 {
		t.Errorf("the interrupt came %d times: %q", n, pty.said)
	}
}

func TestHostsVolumesUserAndEnvironment(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	lab.Must(t, os.Chmod(dir, 0o777))
	o := script("db-1", `cat /etc/hosts; echo "$A-$PWD"; echo new >/mnt/file && cat /mnt/file; mount | grep -c " /mnt "; ls /sys/class/net | tr '\n' ,`)
	o.Hostname, o.Remove, o.Workdir = "db.example", true, "/usr"
	o.Env = append(o.Env, "A=1")
	o.Volumes = []inside.Volume{{Source: dir, Target: "/mnt"}}
	got := w.run(o)
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + address + "\tdb.example db-1\n1-/usr\nnew\n1\n"
	if got.status != 0 || !strings.HasPrefix(got.stdout, want) {
		t.Errorf("got %+v, expected %q", got, want)
	}
	if rest := strings.TrimPrefix(got.stdout, want); rest != "lo," && os.Getuid() == 0 {
		t.Errorf("/sys/class/net shows %q, expected the container's interfaces", rest)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "new\n" {
		t.Errorf("on the host the volume has %q, %v", b, err)
	}
	if b, err := os.ReadFile("/etc/hosts"); err != nil || strings.Contains(string(b), "db.example") {
		t.Errorf("the host's own hosts file is %q, %v", b, err)
	}
	o.Volumes[0].ReadOnly = true
	o.Command = []string{"sh", "-c", "cat /mnt/file; echo x >/mnt/file"}
	if got := w.run(o); got.status == 0 || got.stdout != "new\n" || !strings.Contains(got.stderr, "Read-only") {
		t.Errorf("a read-only volume: %+v", got)
	}
	o.Command, o.User = []string{"sh", "-c", `id -u; id -g; id -G; echo $HOME; cat /etc/hosts >/dev/null`}, "65534:65534"
	if os.Getuid() != 0 {
		if got := w.run(o); got.status != 125 || !strings.Contains(got.stderr, "/etc/subuid") {
			t.Errorf("a user that the namespace does not have: %+v", got)
		}
		return
	}
	if got := w.run(o); got.stdout != "65534\n65534\n65534\n/nonexistent\n" {
		t.Errorf("as nobody: %+v", got)
	}
}

func TestTheGatewayIsAskedForNames(t *testing.T) {
	w := newWorld(t)
	o := script("c1", `cat /etc/resolv.conf; grep ^hosts /etc/nsswitch.conf; tail -n 1 /etc/hosts`)
	o.Remove = true
	o.Resolv = etc.Resolv{Search: []string{"lab.example"}, Options: []string{"timeout:2"}}
	o.Hosts = []etc.Host{{Name: "build", Address: netip.MustParseAddr("192.0.2.9")}}
	gateways := []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.77.0.1")}
	rest := "hosts: files dns\n192.0.2.9\tbuild\n"
	if _, err := os.Stat("/etc/nsswitch.conf"); err != nil {
		rest = strings.TrimPrefix(rest, "hosts: files dns\n") // nor has the container
	}
	if got, want := w.do(driven{Do: "run", Spec: o, Gateways: gateways}), "nameserver 10.77.0.1\nsearch lab.example\noptions ndots:0 timeout:2\n"+rest; got.status != 0 || got.stdout != want {
		t.Errorf("got %+v, expected %q", got, want)
	}
	o.Resolv.Servers = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	if got, want := w.do(driven{Do: "run", Spec: o, Gateways: gateways}), "nameserver 192.0.2.53\nsearch lab.example\noptions timeout:2\n"+rest; got.status != 0 || got.stdout != want {
		t.Errorf("with a server of its own: %+v, expected %q", got, want)
	}
	o.Resolv.Options = []string{"a\nnameserver 192.0.2.1"}
	if got := w.do(driven{Do: "run", Spec: o}); got.status != run.StatusFailed || !strings.Contains(got.stderr, "expected a word of resolv.conf(5)") {
		t.Errorf("an option that is more: %+v", got)
	}
	w.empty()
}
