package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD tells a supervisor, in its environment, where it says how the start went.
const readyFD = "WEFT_RUN_READY"

// Ready is a supervisor's way to tell Detach how the start went. It speaks once.
type Ready struct{ pipe *os.File }

// outcome is what it tells.
type outcome struct {
	Name     string   `json:"name,omitempty"`
	Error    string   `json:"error,omitempty"`
	Status   int      `json:"status,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Detached returns the supervisor's side of Detach, nil in a process that Detach has not started.
func Detached() *Ready {
	fd, err := strconv.Atoi(os.Getenv(readyFD))
	if err != nil {
		return nil
	}
	_ = os.Unsetenv(readyFD) // it is nothing of the command's
	unix.CloseOnExec(fd)
	return &Ready{os.NewFile(uintptr(fd), "ready")}
}

// Fail tells that nothing was started.
func (r *Ready) Fail(status int, err error) {
	r.tell(outcome{Error: err.Error(), Status: status})
}

func (r *Ready) tell(o outcome) {
	if r.pipe == nil {
		return
	}
	_ = json.NewEncoder(r.pipe).Encode(o) // whoever waited may have been killed
	r.pipe.Close()
	r.pipe = nil
}

func detach(ctx context.Context, self string, args []string, warn func(string)) (name string, status int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", StatusFailed, err
	}
	defer r.Close()
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), readyFD+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", StatusFailed, fmt.Errorf("start the container's supervisor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) }) // it cleans up, and tells
	defer stop()
	var o outcome
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		werr := cmd.Wait()
		return "", StatusFailed, fmt.Errorf("the container's supervisor ended before the command was started: %w", errors.Join(werr, ctx.Err()))
	}
	if o.Error != "" {
		_ = cmd.Wait() // so that nothing of it remains; its status is in o
		return "", o.Status, errors.New(o.Error)
	}
	_ = cmd.Process.Release()
	for _, w := range o.Warnings {
		warn(w)
	}
	return o.Name, 0, nil
}
