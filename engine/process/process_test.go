package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/internal/lab"
)

func TestMain(m *testing.M) {
	lab.Change()
	os.Exit(m.Run())
}

func Example() {
	p, err := process.Find(os.Getpid())
	fmt.Println(err, p.Alive())
	p.Start++ // another process that has its PID later
	fmt.Println(p.Alive(), p.Signal(syscall.SIGKILL))
	// Output:
	// <nil> true
	// false the process has ended
}

func TestProcessIsAliveUntilItHasEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	lab.Must(t, cmd.Start())
	p, err := process.Find(cmd.Process.Pid)
	lab.Must(t, err)
	if !p.Alive() {
		t.Error("it has just been started, and is not alive")
	}
	all, err := process.All()
	lab.Must(t, err)
	if all[p.PID] != os.Getpid() {
		t.Errorf("its parent is %d, expected %d", all[p.PID], os.Getpid())
	}
	for name, other := range map[string]process.Process{
		"with its PID, started later":       {PID: p.PID, Start: p.Start + 1, Boot: p.Boot},
		"with its PID, in the boot before":  {PID: p.PID, Start: p.Start, Boot: "0"},
		"that is none: PID 0 is the group":  {},
		"that is none: PID -1 is all there": {PID: -1, Start: p.Start, Boot: p.Boot},
	} {
		if err := other.Signal(syscall.SIGKILL); !errors.Is(err, process.ErrGone) && (err == nil || other.PID > 0) || other.Alive() {
			t.Errorf("a process %s got the signal: %v", name, err)
		}
	}
	if !p.Alive() {
		t.Fatal("a signal to another process reached it")
	}
	lab.Must(t, p.Signal(syscall.SIGKILL))
	_ = cmd.Wait()
	if _, err := process.Find(p.PID); p.Alive() || !errors.Is(err, process.ErrGone) || !errors.Is(p.Signal(syscall.SIGKILL), process.ErrGone) {
		t.Errorf("it has ended, and is found: %v", err)
	}
}

func TestExitStatusThatNobodyTakesIsNoProcess(t *testing.T) {
	cmd := exec.Command("true")
	out, err := cmd.StdoutPipe()
	lab.Must(t, err)
	lab.Must(t, cmd.Start())
	_, _ = out.Read(make([]byte, 1)) // its end
	lab.Eventually(t, func() bool { _, err := process.Find(cmd.Process.Pid); return errors.Is(err, process.ErrGone) }, 10e9)
	lab.Must(t, cmd.Wait())
}

func TestProcessThatBecomesAnotherProgramIsAlive(t *testing.T) {
	cmd, changed := lab.Changeling(t, 100)
	p, err := process.Find(cmd.Process.Pid)
	lab.Must(t, err)
	for looking := true; looking; {
		select {
		case <-changed:
			looking = false
		default:
		}
		if !p.Alive() {
			t.Fatal("it counts as ended")
		}
	}
	lab.Must(t, p.Signal(syscall.SIGKILL))
	lab.Eventually(t, func() bool { return !p.Alive() }, 10e9)
}
