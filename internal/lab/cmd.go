package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
)

// Cmd is an exec.Cmd that runs inside a host. It is killed when the host is closed or this process ends.
type Cmd struct {
	*exec.Cmd
	host *Host
	wait sync.Once
	err  error
}

// Command prepares a program to run inside the host. Set the fields of the exec.Cmd as usual before Start.
//
// The program sees the host's network, and the file system of this process: /sys/class/net shows the interfaces of
// whatever namespace /sys was mounted in, so ask netlink (`ip`), not sysfs.
func (h *Host) Command(name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.Command(name, args...), host: h}
	c.SysProcAttr = &syscall.SysProcAttr{}
	return c
}

// Start starts the program.
func (c *Cmd) Start() error {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock() // Close waits until it can see the process
	if h.closed {
		return fmt.Errorf("lab: %s on %s: %w", c.Path, h.name, ErrClosed)
	}
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The signal comes when the thread that started the process ends: hence one thread that lives as long as the host.
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error, 1)
	select {
	case h.work <- func() { result <- c.Cmd.Start() }:
	case <-h.idle:
		return fmt.Errorf("lab: %s on %s: %w", c.Path, h.name, ErrClosed)
	}
	if err := <-result; err != nil {
		return fmt.Errorf("lab: %s on %s: %w", c.Path, h.name, err)
	}
	h.running[c] = struct{}{}
	return nil
}

// Wait waits for the program's end. Unlike exec.Cmd's it may be called several times and from several goroutines.
func (c *Cmd) Wait() error {
	c.wait.Do(func() {
		c.err = c.Cmd.Wait()
		c.host.mu.Lock()
		delete(c.host.running, c)
		c.host.mu.Unlock()
	})
	return c.err
}

// Stop kills the program and waits for it.
func (c *Cmd) Stop() {
	if c.Process != nil {
		_ = c.Process.Kill() // it may have ended by itself
		_ = c.Wait()
	}
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns its standard output. The error of a failed one carries what it said.
func (c *Cmd) Output() ([]byte, error) {
	var out, errs bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &errs
	}
	err := c.Run()
	if e := new(exec.ExitError); errors.As(err, &e) {
		err = fmt.Errorf("lab: %s on %s: %w: %s", c.Path, c.host.name, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns its standard output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
