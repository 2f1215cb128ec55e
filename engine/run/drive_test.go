package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/weftnet/weft/engine/run"
	"github.com/weftnet/weft/engine/run/inside"
	"github.com/weftnet/weft/engine/userns"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/tap"
	"golang.org/x/sys/unix"
)

// drive makes this test binary weft run, and the commands around it, as a process of its own.
const drive = "drive"

// driven is what it is told, as JSON.
type driven struct {
	Do     string // run, exec, stop, rm
	Data   string
	Spec   run.Spec
	Exec   run.ExecOptions
	Detach bool
	Name   string
	Force  bool
	Grace  time.Duration
	Refuse string // by the agent, instead of attaching
	Away   bool   // the agent, when the container ends
	Hang   bool   // the agent does not answer
	Etc    string // a directory that is the host's /etc, in a mount namespace of its own

	Gateways []netip.Addr // of the network
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case userns.HoldCommand:
			os.Exit(userns.Hold(os.Args[2:]))
		case inside.Command:
			os.Exit(inside.Main(os.Args[2:]))
		case drive:
			var d driven
			if err := json.Unmarshal([]byte(os.Args[2]), &d); err != nil {
				panic(err)
			}
			status, err := d.main()
			if err != nil {
				fmt.Fprintln(os.Stderr, "weft:", err)
			}
			os.Exit(status)
		}
	}
	os.Exit(m.Run())
}

func (d *driven) main() (status int, err error) {
	if err := userns.Enter(d.Data); err != nil {
		return run.StatusFailed, err
	}
	if d.Etc != "" {
		if err := unix.Mount(d.Etc, "/etc", "", unix.MS_BIND, ""); err != nil {
			return run.StatusFailed, err
		}
	}
	ctx := context.Background()
	store := run.NewStore(d.Data)
	failed := func(err error) (int, error) {
		if err != nil {
			return 1, err
		}
		return 0, nil
	}
	switch d.Do {
	case "exec":
		return store.Exec(d.Name, d.Exec)
	case "stop":
		return failed(store.Stop(ctx, d.Name, d.Grace))
	case "rm":
		return failed(store.Remove(ctx, d.Name, d.Force))
	}
	o := run.Options{Spec: d.Spec, Attacher: fake{d}, Ready: run.Detached()}
	o.Warn = func(w string) { fmt.Fprintln(os.Stderr, "warning:", w) }
	if d.Detach && o.Ready == nil {
		name, status, err := run.Detach(ctx, o.Warn)
		fmt.Println(name)
		return status, err
	}
	status, err = run.Run(ctx, store, o)
	if err != nil && o.Ready != nil {
		o.Ready.Fail(status, err)
	}
	return status, err
}

// fake is an agent that attaches containers to nothing, but to their own loopback interface, and notes what it was asked.
type fake struct{ *driven }

const address = "10.77.0.2"

func (f fake) Attach(ctx context.Context, r run.Request) ([]run.Endpoint, error) {
	if f.Hang {
		f.note("hang")
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.Refuse != "" {
		return nil, errors.New(f.Refuse)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", r.PID))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = tap.ByFD(int(ns.Fd())).Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(24, 32)}})
	})
	if err != nil {
		return nil, err
	}
	f.note(fmt.Sprintf("attach %s %s %v %v", r.Name, r.Hostname, r.PID > 1, r.Supervisor == os.Getpid()))
	return []run.Endpoint{{
		Network: "web", Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix(address + "/24")}, Warning: "not synced", Gateways: f.Gateways,
	}}, nil
}

func (f fake) Detach(_ context.Context, name string) error {
	if f.Away {
		return errors.New("no agent")
	}
	f.note("detach " + name)
	return nil
}

func (f fake) note(s string) {
	file, err := os.OpenFile(filepath.Join(f.Data, "notes"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	fmt.Fprintln(file, s)
}

// world is a data directory, in which containers are run.
type world struct {
	t    *testing.T
	data string
}

// newWorld also sees to it that nothing of what ran in it is left.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 && os.Getenv(unprivileged) == "" {
		t.Skip("it takes root; TestOrdinaryUser runs it as nobody")
	}
	w := &world{t, t.TempDir()}
	t.Cleanup(func() {
		list, err := w.store().List()
		if err != nil {
			t.Error(err)
		}
		for _, c := range list {
			if o := w.rm(c.Name, true); o.status != 0 {
				t.Errorf("rm -f %s: %+v", c.Name, o)
			}
		}
		if err := userns.End(w.data); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) store() run.Store { return run.NewStore(w.data) }

// script is a container that runs one.
func script(name, script string, args ...string) run.Spec {
	return run.Spec{
		Name: name, Workdir: "/", Env: []string{"PATH=" + os.Getenv("PATH")},
		Command: append([]string{"sh", "-c", script, "sh"}, args...),
	}
}

// outcome is how a process ended.
type outcome struct {
	status         int
	stdout, stderr string
}

func (w *world) command(d driven) *exec.Cmd {
	w.t.Helper()
	d.Data = w.data
	b, err := json.Marshal(d)
	lab.Must(w.t, err)
	cmd := exec.Command("/proc/self/exe", drive, string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, wherever the tests run
	if d.Etc != "" {
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}
	return cmd
}

func (w *world) do(d driven) outcome {
	w.t.Helper()
	cmd := w.command(d)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if e := new(exec.ExitError); err != nil && !errors.As(err, &e) {
		w.t.Fatal(err)
	}
	return outcome{exitCode(cmd), stdout.String(), stderr.String()}
}

func exitCode(cmd *exec.Cmd) int {
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 1000 + int(ws.Signal()) // no shell in between: weft itself must not end so
	}
	return cmd.ProcessState.ExitCode()
}

func (w *world) run(o run.Spec) outcome { w.t.Helper(); return w.do(driven{Do: "run", Spec: o}) }

// background runs a container in the background, which must start.
func (w *world) background(o run.Spec) *run.Container {
	w.t.Helper()
	if got := w.do(driven{Do: "run", Spec: o, Detach: true}); got.status != 0 || got.stdout != o.Name+"\n" {
		w.t.Fatalf("run -d: %+v", got)
	}
	c, err := w.store().Get(o.Name)
	lab.Must(w.t, err)
	return c
}

func (w *world) exec(name string, command ...string) outcome {
	w.t.Helper()
	return w.do(driven{Do: "exec", Name: name, Exec: run.ExecOptions{Command: command}})
}

func (w *world) rm(name string, force bool) outcome {
	w.t.Helper()
	return w.do(driven{Do: "rm", Name: name, Force: force})
}

func (w *world) stop(name string, grace time.Duration) outcome {
	w.t.Helper()
	return w.do(driven{Do: "stop", Name: name, Grace: grace})
}

// state waits until a container is in a state.
func (w *world) state(name string, want run.State) *run.Container {
	w.t.Helper()
	var c *run.Container
	lab.Eventually(w.t, func() bool {
		var err error
		c, err = w.store().Get(name)
		return err == nil && c.State == want
	}, 10*time.Second)
	return c
}

func (w *world) notes() []string {
	b, _ := os.ReadFile(filepath.Join(w.data, "notes")) // none: nothing was asked
	return strings.Fields(strings.ReplaceAll(string(b), " ", "_"))
}

// empty fails the test if anything of a container is on disk.
func (w *world) empty() {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.data, "containers"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			w.t.Errorf("%s is left behind", e.Name())
		}
	}
}

// alive reports whether a process with a certain argument runs.
func alive(mark string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
		if b, err := os.ReadFile(f); err == nil && pid != os.Getpid() && bytes.Contains(b, []byte(mark)) && !bytes.Contains(b, []byte(drive)) {
			return true
		}
	}
	return false
}

// unprivileged marks the environment of the tests that run again as nobody.
const unprivileged = "RUN_TEST_UNPRIVILEGED"
