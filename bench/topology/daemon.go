package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// daemon is a program that is part of a path, running until the Net is closed.
type daemon struct {
	name  string
	cmd   *lab.Cmd
	log   string        // the file that it writes to
	ended chan struct{} // closed when it has
}

// start runs a program and puts its end on the Net's close list. What it says is kept for the error if it fails.
func (n *Net) start(name string, cmd *lab.Cmd) (*daemon, error) {
	dir, err := n.scratch()
	if err != nil {
		return nil, err
	}
	d := &daemon{name: name, cmd: cmd, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr.Setpgid = true // the terminal's interrupt is the harness's to handle
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.ended)
		_ = d.cmd.Wait()
	}()
	n.close = append(n.close, d.stop)
	return d, nil
}

// scratch returns the Net's directory for files.
func (n *Net) scratch() (string, error) {
	if n.dir != "" {
		return n.dir, nil
	}
	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return "", err
	}
	n.dir = dir
	n.close = append(n.close, func() error { return os.RemoveAll(dir) })
	return dir, nil
}

// patience is how long a program may take to end when it is asked to.
const patience = 5 * time.Second

// stop asks the program to end, and insists if it does not.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(unix.SIGTERM) // it may have ended already
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.cmd.Stop()
		<-d.ended
	}
	state := d.cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); state.Success() || ok && status.Signaled() && status.Signal() == unix.SIGTERM {
		return nil
	}
	return d.failure(fmt.Errorf("did not end well: %v", state))
}

// said returns what the program has written.
func (d *daemon) said() []byte {
	text, _ := os.ReadFile(d.log) // without it the error that it is for is still one
	return bytes.TrimSpace(text)
}

// failure adds what the program said to err.
func (d *daemon) failure(err error) error {
	return fmt.Errorf("%s: %w; it said: %s", d.name, err, d.said())
}

// await waits until ready reports true.
func (d *daemon) await(ctx context.Context, ready func(context.Context) bool) error {
	if err := await(ctx, d.ended, ready); err != nil {
		return d.failure(err)
	}
	return nil
}

// startup is how long a program may take until it is ready.
const startup = 15 * time.Second

// await asks ready again and again until it reports true, the program has ended, or it has taken too long.
func await(ctx context.Context, ended <-chan struct{}, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startup, fmt.Errorf("not ready within %v", startup))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ready(ctx) {
		select {
		case <-ended:
			return errors.New("ended before it was ready")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// program finds an executable, also where only root's PATH leads, and names the Debian package that has it otherwise.
func program(name, pkg string) (string, error) {
	if file, err := exec.LookPath(name); err == nil {
		return file, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; apt-get install %s", name, pkg)
}
