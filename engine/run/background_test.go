package run_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/engine/run"
	"github.com/weftnet/weft/internal/lab"
)

func TestBackgroundRunsOnUnderItsSupervisor(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "go")
	lab.Must(t, unix.Mkfifo(fifo, 0o600))
	c := w.background(script("c1", `echo out; echo err >&2; read x <"$1"; exit 5`, fifo))
	if c.State != run.Running || !c.Process.Alive() || !c.Supervisor.Alive() || c.Supervisor.PID == c.Process.PID {
		t.Fatalf("on record: %+v", c)
	}
	if session, err := unix.Getsid(c.Supervisor.PID); err != nil || session != c.Supervisor.PID {
		t.Errorf("the supervisor is in session %d, %v; expected its own", session, err)
	}
	lab.Must(t, os.WriteFile(fifo, []byte("x\n"), 0))
	if c = w.state("c1", run.Exited); c.Status != 5 {
		t.Errorf("the status is %d, expected 5", c.Status)
	}
	if got := w.notes(); strings.Join(got, " ") != "attach_c1_c1_true_true detach_c1" {
		t.Errorf("the agent was asked for %q", got)
	}
	if _, err := os.Stat(filepath.Join(w.data, "containers", "c1", "log")); err != nil {
		t.Error(err)
	}
}

func TestSupervisorKilledLeavesADeadContainerThatCanBeRemoved(t *testing.T) {
	w := newWorld(t)
	const mark = "2718.2818"
	c := w.background(script("c1", `sleep `+mark+` & setsid sleep `+mark+` & exec sleep `+mark))
	other := w.background(script("c2", `exec sleep 1000`))
	lab.Must(t, c.Supervisor.Signal(unix.SIGKILL))
	if c = w.state("c1", run.Dead); c.Summary(time.Now()) != "Dead" {
		t.Errorf("it is summed up as %q", c.Summary(time.Now()))
	}
	if got := w.stop("c1", 0); got.status == 0 || !strings.Contains(got.stderr, "weft rm -f c1") {
		t.Errorf("stop: %+v", got)
	}
	if got := w.exec("c1", "true"); got.status != run.StatusFailed || !strings.Contains(got.stderr, `"c1" is dead, not running`) {
		t.Errorf("exec: %+v", got)
	}
	if got := w.rm("c1", false); got.status == 0 || !strings.Contains(got.stderr, "3 processes of it still run") {
		t.Errorf("rm: %+v", got)
	}
	lab.Must(t, c.Process.Signal(unix.SIGKILL)) // the others are then found without it
	lab.Eventually(t, func() bool { return !c.Process.Alive() }, 10*time.Second)
	if got := w.rm("c1", false); !strings.Contains(got.stderr, "2 processes of it still run") {
		t.Errorf("rm without the command: %+v", got)
	}
	if got := w.rm("c1", true); got.status != 0 || alive(mark) {
		t.Errorf("rm -f: %+v; processes are left: %t", got, alive(mark))
	}
	if !other.Process.Alive() || !other.Supervisor.Alive() {
		t.Error("the other container has ended, too")
	}
	if got := w.rm("c1", true); got.status == 0 || !strings.Contains(got.stderr, `container "c1": no such container on this node; weft ps -a`) {
		t.Errorf("rm -f of one that is gone: %+v", got)
	}
}

func TestStaleRecordNeverEndsAnotherProcess(t *testing.T) {
	w := newWorld(t)
	bystander := exec.Command("sleep", "1000")
	lab.Must(t, bystander.Start())
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	now, err := process.Find(bystander.Process.Pid)
	lab.Must(t, err)
	for name, p := range map[string]process.Process{
		"its PID was used again":      {PID: now.PID, Start: now.Start - 1, Boot: now.Boot},
		"the host was booted since":   {PID: now.PID, Start: now.Start, Boot: "another"},
		"nothing is known of the PID": {},
	} {
		dir := filepath.Join(w.data, "containers", "c1")
		lab.Must(t, os.MkdirAll(dir, 0o700))
		record := fmt.Sprintf(`{"name":"c1","process":{"pid":%d,"start":%d,"boot":%q},"started":"2026-01-01T00:00:00Z"}`, p.PID, p.Start, p.Boot)
		lab.Must(t, os.WriteFile(filepath.Join(dir, "container.json"), []byte(record), 0o600))
		w.state("c1", run.Dead)
		if got := w.rm("c1", true); got.status != 0 || !now.Alive() {
			t.Errorf("%s: %+v; the bystander lives: %t", name, got, now.Alive())
		}
	}
}

func TestRecordCutByACrashCanBeRemoved(t *testing.T) {
	w := newWorld(t)
	for name, text := range map[string]string{"c1": `{"name":"c1","proc`, "c2": "", "c3": "null"} {
		dir := filepath.Join(w.data, "containers", name)
		lab.Must(t, os.MkdirAll(dir, 0o700))
		lab.Must(t, os.WriteFile(filepath.Join(dir, "container.json"), []byte(text), 0o600))
		w.state(name, run.Dead)
		if got := w.run(script(name, "")); got.status != 125 || !strings.Contains(got.stderr, "in use (dead)") {
			t.Errorf("run: %+v", got)
		}
		if got := w.rm(name, true); got.status != 0 {
			t.Errorf("rm -f: %+v", got)
		}
	}
	w.empty()
}

func TestStopTerminatesAndThenKills(t *testing.T) {
	w := newWorld(t)
	w.background(script("polite", `trap "exit 9" TERM; echo ready; while :; do sleep 0.01; done`))
	w.background(script("deaf", `trap "" TERM; echo ready; while :; do sleep 0.01; done`))
	for _, name := range []string{"polite", "deaf"} {
		lab.Eventually(t, func() bool { return w.log(name, run.LogOptions{Tail: -1}) == "ready\n" }, 10*time.Second)
	}
	begin := time.Now()
	if got := w.stop("polite", time.Minute); got.status != 0 || time.Since(begin) > 30*time.Second {
		t.Errorf("stop: %+v after %s", got, time.Since(begin))
	}
	if c := w.state("polite", run.Exited); c.Status != 9 {
		t.Errorf("the polite one's status is %d, expected 9", c.Status)
	}
	begin = time.Now()
	const grace = 300 * time.Millisecond
	if got := w.stop("deaf", grace); got.status != 0 || time.Since(begin) < grace {
		t.Errorf("stop: %+v after %s", got, time.Since(begin))
	}
	if c := w.state("deaf", run.Exited); c.Status != 128+9 {
		t.Errorf("the deaf one's status is %d, expected 137", c.Status)
	}
	for _, name := range []string{"polite", "deaf"} {
		if got := w.stop(name, 0); got.status != 0 {
			t.Errorf("stop of one that has ended: %+v", got)
		}
		if got := w.rm(name, false); got.status != 0 {
			t.Errorf("rm: %+v", got)
		}
	}
	w.empty()
}

func TestRemoveTakesForceForARunningOne(t *testing.T) {
	w := newWorld(t)
	c := w.background(script("c1", "exec sleep 1000"))
	if got := w.rm("c1", false); got.status == 0 || !strings.Contains(got.stderr, `"c1" is running; stop it first (weft stop c1), or use weft rm -f`) {
		t.Errorf("rm: %+v", got)
	}
	if got := w.rm("c1", true); got.status != 0 || c.Process.Alive() || c.Supervisor.Alive() {
		t.Errorf("rm -f: %+v", got)
	}
	w.empty()
}

func TestForcedRemovalEndsAStartThatHangs(t *testing.T) {
	w := newWorld(t)
	cmd := w.command(driven{Do: "run", Spec: script("c1", "echo started"), Hang: true})
	lab.Must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	w.state("c1", run.Starting)
	lab.Eventually(t, func() bool { return strings.Contains(strings.Join(w.notes(), " "), "hang") }, 10*time.Second)
	if got := w.rm("c1", true); got.status != 0 {
		t.Errorf("rm -f: %+v", got)
	}
	w.empty()
}

func TestContainerEndsWithoutAnAgent(t *testing.T) {
	w := newWorld(t)
	if got := w.do(driven{Do: "run", Spec: script("c1", "exit 3"), Away: true}); got.status != 3 {
		t.Errorf("got %+v, expected the command's status", got)
	}
	if c := w.state("c1", run.Exited); c.Status != 3 {
		t.Errorf("on record: %+v", c)
	}
}

func TestExecRunsInTheContainer(t *testing.T) {
	w := newWorld(t)
	s := script("c1", "exec sleep 1000")
	s.Env = append(s.Env, "A=1", "B=1")
	s.Workdir = "/usr"
	w.background(s)
	got := w.do(driven{Do: "exec", Name: "c1", Exec: run.ExecOptions{
		Command: []string{"sh", "-c", `hostname; pwd; echo $A$B; cat /etc/hosts | grep -c ` + address + `; ip -o -4 addr show lo | grep -c ` + address + `; ls -l /proc/self/fd | grep -c memfd; exit 3`},
		Env:     []string{"B=2"},
	}})
	if got.status != 3 || got.stdout != "c1\n/usr\n12\n1\n1\n0\n" {
		t.Errorf("exec: %+v", got)
	}
	for _, c := range []struct {
		name   string
		o      run.ExecOptions
		status int
		want   string
	}{
		{"c1", run.ExecOptions{Command: []string{"no-such-command"}}, 127, "not found"},
		{"c1", run.ExecOptions{Command: []string{"/etc"}}, 126, "cannot be run"},
		{"c1", run.ExecOptions{Command: []string{"sh", "-c", "kill -KILL $$"}}, 1000 + 9, ""}, // its own end: there is no weft any more
		{"c1", run.ExecOptions{Command: []string{"true"}, Workdir: "/none"}, 125, "working directory"},
		{"c2", run.ExecOptions{Command: []string{"true"}}, 125, "no such container"},
		{"c1", run.ExecOptions{}, 125, "no command"},
	} {
		if got := w.do(driven{Do: "exec", Name: c.name, Exec: c.o}); got.status != c.status || !strings.Contains(got.stderr, c.want) {
			t.Errorf("exec %q: %+v, expected %d and %q", c.o.Command, got, c.status, c.want)
		}
	}
}

func TestExecutedCommandsEndWithTheContainer(t *testing.T) {
	w := newWorld(t)
	w.background(script("c1", "exec sleep 1000"))
	cmd := w.command(driven{Do: "exec", Name: "c1", Exec: run.ExecOptions{Command: []string{"sh", "-c", "echo in; exec sleep 1000"}}})
	out, err := cmd.StdoutPipe()
	lab.Must(t, err)
	lab.Must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if got := w.stop("c1", time.Minute); got.status != 0 {
		t.Errorf("stop: %+v", got)
	}
	if err := cmd.Wait(); exitCode(cmd) != 1000+9 {
		t.Errorf("the command inside ended with %v, expected it killed", err)
	}
}

// log returns both streams of a log.
func (w *world) log(name string, o run.LogOptions) string {
	var out bytes.Buffer
	if err := w.store().Logs(context.Background(), name, o, &out, &out); err != nil {
		return err.Error()
	}
	return out.String()
}

func TestLogsAreByStreamAndFollowTheContainer(t *testing.T) {
	w := newWorld(t)
	fifo := filepath.Join(t.TempDir(), "go")
	lab.Must(t, unix.Mkfifo(fifo, 0o600))
	w.background(script("c1", `echo one; echo two >&2; printf three; read x <"$1"; echo; echo four; printf five`, fifo))
	var stdout, stderr bytes.Buffer
	lab.Eventually(t, func() bool { return len(w.log("c1", run.LogOptions{Tail: -1})) == len("one\ntwo\n") }, 10*time.Second)
	followed := make(chan error, 1)
	go func() {
		followed <- w.store().Logs(context.Background(), "c1", run.LogOptions{Follow: true, Tail: -1}, &stdout, &stderr)
	}()
	lab.Must(t, os.WriteFile(fifo, []byte("x\n"), 0))
	lab.Must(t, <-followed)
	if stdout.String() != "one\nthree\nfour\nfive\n" || stderr.String() != "two\n" {
		t.Errorf("logs -f: %q and %q", stdout.String(), stderr.String())
	}
	w.state("c1", run.Exited)
	if got := w.log("c1", run.LogOptions{Tail: 2}); got != "four\nfive\n" {
		t.Errorf("the last two lines: %q", got)
	}
	if got := w.log("c1", run.LogOptions{Tail: 1, Stamps: true}); !strings.HasSuffix(got, "Z five\n") || len(got) != len("2026-01-02T03:04:05.000000000Z five\n") {
		t.Errorf("with its time: %q", got)
	}
	w.run(script("c2", "echo x"))
	if got := w.log("c2", run.LogOptions{}); !strings.Contains(got, `"c2" ran in the foreground`) {
		t.Errorf("the log of one in the foreground: %q", got)
	}
	if got := w.log("c3", run.LogOptions{}); !strings.Contains(got, "no such container") {
		t.Errorf("the log of none: %q", got)
	}
}

func TestContainersAreListedInTheirOrder(t *testing.T) {
	w := newWorld(t)
	if list, err := w.store().List(); err != nil || len(list) != 0 {
		t.Fatalf("before the first: %v, %v", list, err)
	}
	w.run(script("b", "exit 1"))
	w.background(script("a", "exec sleep 1000"))
	list, err := w.store().List()
	lab.Must(t, err)
	if len(list) != 2 || list[0].Name != "b" || list[1].Name != "a" || list[1].State != run.Running || list[1].Endpoints[0].Network != "web" {
		t.Errorf("the list is %+v", list)
	}
	if s := list[0].Summary(list[0].Finished.Add(2 * time.Minute)); s != "Exited (1) 2 minutes ago" {
		t.Errorf("summed up: %q", s)
	}
	if s := list[1].Summary(list[1].Started.Add(25 * time.Hour)); s != "Up 1 day" {
		t.Errorf("summed up: %q", s)
	}
}

// TestOrdinaryUser runs the tests again as nobody, with a user namespace for each world.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(unprivileged) != "" {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "weft-run")
	lab.Must(t, err)
	defer os.RemoveAll(dir)
	lab.Must(t, os.Chmod(dir, 0o777))
	binary := filepath.Join(dir, "run.test")
	self, err := os.ReadFile("/proc/self/exe")
	lab.Must(t, err)
	lab.Must(t, os.WriteFile(binary, self, 0o755))
	cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", binary, "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), unprivileged+"=1", "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("\n--- PASS: Test")) < 15 {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
}
