package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/engine/run/inside"
	"github.com/weftnet/weft/engine/run/output"
)

// passed are the signals that reach the command. Of the terminal's, only those that stop and continue are missing: they act
// on the supervisor and the command alike, which are one job.
var passed = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}

// supervisor runs one container.
type supervisor struct {
	store  Store
	folder folder
	lock   *os.File
	opts   *Options
	c      *Container

	tty     *os.File // the controlling terminal; nil if there is none
	signals chan os.Signal
	spaces  namespaces
	log     *output.Log // nil in the foreground
	ended   chan int    // the command's exit status
}

// prepare makes the container's directory.
func prepare(store Store, o *Options) (*supervisor, error) {
	self, err := process.Find(os.Getpid())
	if err != nil {
		return nil, err
	}
	c := &Container{
		Name: o.Name, Hostname: o.Hostname, Service: o.Service, Command: o.Command, Workdir: o.Workdir, Volumes: o.Volumes,
		Resolv: o.Resolv, Hosts: o.Hosts, Remove: o.Remove, Detached: o.Ready != nil, Created: time.Now(), Supervisor: self,
	}
	s := &supervisor{
		store: store, opts: o, c: c,
		signals: make(chan os.Signal, 32), ended: make(chan int, 1),
	}
	if s.folder, s.lock, err = store.create(c); err != nil {
		return nil, err
	}
	if o.Ready != nil {
		if s.log, err = output.Open(s.folder.file("log")); err != nil {
			_ = store.discard(s.folder, c)
			s.close()
			return nil, err
		}
	}
	if s.tty, err = os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		s.tty = nil
	}
	signal.Notify(s.signals, passed...)
	return s, nil
}

func (s *supervisor) close() {
	signal.Stop(s.signals)
	s.spaces.close()
	if s.tty != nil {
		s.tty.Close()
	}
	if s.log != nil {
		s.log.Close()
	}
	s.lock.Close()
}

func (s *supervisor) warnings() (list []string) {
	for _, e := range s.c.Endpoints {
		if e.Warning != "" {
			list = append(list, fmt.Sprintf("network %s: %s", e.Network, e.Warning))
		}
	}
	return list
}

// start makes the namespaces, has them attached, and starts the command. After a failure nothing remains.
func (s *supervisor) start(ctx context.Context) (err error) {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP, unix.SIGQUIT, unix.SIGINT, unix.SIGTERM)
	defer stop()
	attached := false
	defer func() {
		if err == nil {
			return
		}
		s.killAll()
		if attached {
			s.detach()
		}
		if e := s.store.discard(s.folder, s.c); e != nil {
			err = errors.Join(err, e)
		}
	}()
	orders, report, err := s.spawn()
	if err != nil {
		return err
	}
	defer orders.Close()
	defer report.Close()
	if s.spaces, err = openNamespaces(s.c.Process.PID); err != nil {
		return err
	}
	s.c.Endpoints, err = s.opts.Attacher.Attach(ctx, Request{
		Name: s.c.Name, Hostname: s.c.Hostname, Service: s.c.Service, PID: s.c.Process.PID, Supervisor: os.Getpid(),
	})
	attached = err == nil || ctx.Err() != nil // an answer that was not waited for may have been yes
	if err != nil {
		return fmt.Errorf("attach container %s: %w", s.c.Name, err)
	}
	if s.opts.Ready == nil { // otherwise Detach says it
		for _, w := range s.warnings() {
			s.opts.Warn(w)
		}
	}
	if err := errors.Join(s.folder.furnish(s.c), s.folder.save(s.c)); err != nil {
		return err
	}
	if err := s.launch(ctx, orders, report); err != nil {
		return err
	}
	s.c.Started = time.Now()
	return s.folder.save(s.c)
}

// spawn starts the init in new namespaces, in which it waits for orders.
func (s *supervisor) spawn() (orders, report *os.File, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, nil, fmt.Errorf("become the parent of the container's orphans: %w", err)
	}
	ordersIn, orders, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer ordersIn.Close()
	report, reportOut, err := os.Pipe()
	if err != nil {
		orders.Close()
		return nil, nil, err
	}
	defer reportOut.Close()
	// Not exec.Cmd's Wait, but reap takes its end; hence no streams but files.
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"weft", inside.Command}, ExtraFiles: []*os.File{ordersIn, reportOut}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
		// On a terminal the two are one job, which the terminal signals, stops and continues as such. Elsewhere a signal to
		// the group of weft run must not reach the command twice.
		Setpgid: s.tty == nil,
	}
	if s.log != nil {
		outs, err := s.log.Pipes()
		if err != nil {
			return nil, nil, errors.Join(err, orders.Close(), report.Close())
		}
		cmd.Stdout, cmd.Stderr = outs[0], outs[1]
		defer outs[0].Close()
		defer outs[1].Close()
	} else {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	if err = cmd.Start(); err == nil {
		// Found before it is reaped: a command that ended at once still has its PID.
		if s.c.Process, err = process.Find(cmd.Process.Pid); err != nil {
			_ = cmd.Process.Kill()
		}
		go s.reap(cmd.Process.Pid)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start a process in new namespaces: %w", err), orders.Close(), report.Close())
	}
	return orders, report, nil
}

// launch gives the init its orders, and waits until it has become the command.
func (s *supervisor) launch(ctx context.Context, to, from *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = s.c.Process.Signal(unix.SIGKILL) })
	defer stop()
	o := s.opts
	err := json.NewEncoder(to).Encode(inside.Orders{
		Hostname: o.Hostname, Folder: string(s.folder), Volumes: o.Volumes,
		Env: o.Env, Workdir: o.Workdir, User: o.User, Command: o.Command,
	})
	to.Close()
	said, readErr := io.ReadAll(from)
	if ctx.Err() != nil {
		return fmt.Errorf("start container %s: interrupted", s.c.Name)
	}
	if err := errors.Join(err, readErr); err != nil {
		return fmt.Errorf("start container %s: %w", s.c.Name, err)
	}
	return inside.Started(said)
}

// supervise passes signals on until the command ends, and puts everything away.
func (s *supervisor) supervise() (status int, err error) {
	for running := true; running; {
		select {
		case sig := <-s.signals:
			if !s.fromTerminal(sig) {
				_ = s.c.Process.Signal(sig.(syscall.Signal)) // if it has just ended, that is next
			}
		case status = <-s.ended:
			running = false
		}
	}
	s.c.Finished, s.c.Status = time.Now(), status
	s.killAll()
	if s.log != nil {
		s.log.Drain()
	}
	s.detach()
	if s.c.Remove {
		err = s.store.discard(s.folder, s.c)
	} else {
		err = s.folder.save(s.c)
	}
	if err != nil {
		s.opts.Warn(err.Error()) // the command's status matters more
	}
	return status, nil
}

// fromTerminal reports whether the command has got the signal too: the terminal's go to all of the foreground job.
func (s *supervisor) fromTerminal(sig os.Signal) bool {
	if s.tty == nil || !slices.Contains([]os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH}, sig) {
		return false
	}
	group, err := unix.IoctlGetInt(int(s.tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// reap takes the ends of the command and of all orphans of the container.
func (s *supervisor) reap(command int) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // ECHILD
			return
		case pid == command && ws.Signaled():
			s.ended <- 128 + int(ws.Signal())
		case pid == command && ws.Exited():
			s.ended <- ws.ExitStatus()
		}
	}
}

// killAll kills what is left of the container, what weft exec brought in included, and waits until it is gone; but not for
// ever for processes that a broken disk holds.
func (s *supervisor) killAll() {
	const patience, pause = 10 * time.Second, 5 * time.Millisecond
	for end := time.Now().Add(patience); time.Now().Before(end); {
		left := s.spaces.members(true)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			_ = p.Signal(unix.SIGKILL)
		}
		time.Sleep(pause) // they may be no children of ours: nothing tells that they have ended
	}
}

// detach tells the agent. The container's network namespace is still there, so that the agent does not meet a device that
// has gone. An agent that is away cleans up when it is back.
func (s *supervisor) detach() {
	for _, pause := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, 0} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := s.opts.Attacher.Detach(ctx, s.c.Name)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(pause)
	}
}
