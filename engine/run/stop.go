package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
)

// patience is how long a supervisor may take to put a container away whose command was killed.
const patience = 20 * time.Second

// Stop ends a container's command: by SIGTERM, and by SIGKILL if it is still there after grace. It returns when the
// supervisor has put the container away. One that has ended already is no error.
func (s Store) Stop(ctx context.Context, name string, grace time.Duration) error {
	c, err := s.Get(name)
	if err != nil {
		return err
	}
	switch c.State {
	case Exited:
		return nil
	case Dead:
		return fmt.Errorf("container %q has lost its supervisor; weft rm -f %s ends what is left of it", name, name)
	}
	if c.Process.PID == 0 {
		return fmt.Errorf("container %q is still being started; try again in a moment, or weft rm -f %s", name, name)
	}
	if err := c.end(unix.SIGTERM); err != nil {
		return err
	}
	if ended, err := s.wait(ctx, c, grace); ended || err != nil {
		return err
	}
	return s.kill(ctx, c)
}

// Remove removes a container that has ended; with force, any, whose processes it kills.
func (s Store) Remove(ctx context.Context, name string, force bool) error {
	c, err := s.Get(name)
	if err != nil {
		return err
	}
	f := s.folder(name)
	if c.State == Dead && !force {
		if left := f.leftovers(c); len(left) > 0 {
			return fmt.Errorf("container %q has lost its supervisor, and %d processes of it still run; weft rm -f %s ends them", name, len(left), name)
		}
	} else if c.State != Exited && !force {
		return fmt.Errorf("container %q is %s; stop it first (weft stop %s), or use weft rm -f", name, c.State, name)
	}
	if c.State == Starting || c.State == Running {
		if err := s.kill(ctx, c); err != nil {
			return err
		}
	}
	if c.State == Dead {
		if err := f.purge(ctx, c); err != nil {
			return err
		}
	}
	return s.discard(f, c)
}

// kill ends the command, or the supervisor of one that has not begun, and waits for the supervisor.
func (s Store) kill(ctx context.Context, c *Container) error {
	if c.State == Starting {
		if err := c.Supervisor.Signal(unix.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
			return fmt.Errorf("container %q: %w", c.Name, err)
		}
	} else if err := c.end(unix.SIGKILL); err != nil {
		return err
	}
	if ended, err := s.wait(ctx, c, patience); err != nil {
		return err
	} else if !ended {
		return fmt.Errorf("container %q was killed, but its supervisor (process %d) has not put it away within %s; kill that too, then weft rm -f %s",
			c.Name, c.Supervisor.PID, patience, c.Name)
	}
	return nil
}

// end sends the command a signal, if it is still there.
func (c *Container) end(sig unix.Signal) error {
	if err := c.Process.Signal(sig); err != nil && !errors.Is(err, process.ErrGone) {
		return fmt.Errorf("container %q: %w", c.Name, err)
	}
	return nil
}

// wait waits for the end of the supervisor of c.
func (s Store) wait(ctx context.Context, c *Container, limit time.Duration) (ended bool, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limited := time.After(limit)
	for {
		if !s.runs(c) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-limited:
			return false, nil
		case <-tick.C:
		}
	}
}

// purge kills what a container without a supervisor has left.
func (f folder) purge(ctx context.Context, c *Container) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limited := time.After(patience)
	for {
		left := f.leftovers(c)
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
				return fmt.Errorf("container %q: %w", c.Name, err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limited:
			return fmt.Errorf("container %q: process %d was killed, but has not ended within %s", c.Name, left[0].PID, patience)
		case <-tick.C:
		}
	}
}
