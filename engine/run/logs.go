package run

import (
	"context"
	"fmt"
	"io"

	"github.com/weftnet/weft/engine/run/output"
)

// LogOptions say what of a container's output is wanted, and how.
type LogOptions struct {
	Follow bool // until the container ends
	Stamps bool // each line with the time at which it came
	Tail   int  // only so many of the last lines; negative: all
}

// Logs writes what a detached container has written to its own standard output and error.
func (s Store) Logs(ctx context.Context, name string, o LogOptions, stdout, stderr io.Writer) error {
	c, err := s.Get(name)
	if err != nil {
		return err
	}
	if !c.Detached && !c.Created.IsZero() {
		return fmt.Errorf("container %q ran in the foreground, so its output went there; weft run -d keeps it", name)
	}
	how := output.Options{Stamps: o.Stamps, Tail: o.Tail}
	if o.Follow {
		how.Live = func() bool { return s.runs(c) }
	}
	return output.Print(ctx, s.folder(name).file("log"), how, stdout, stderr)
}

// runs reports whether the container c still runs, and no other of the name.
func (s Store) runs(c *Container) bool {
	now, err := s.Get(c.Name)
	return err == nil && now.Supervisor == c.Supervisor && (now.State == Starting || now.State == Running)
}
