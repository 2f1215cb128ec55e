// Command weft is the one binary of weft: the node's agent, the commands that ask it, and the bench.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Set by the linker; see the Makefile.
var (
	version = "unknown"
	commit  = "unknown"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs the command that args name, and returns the process's exit status: 0, 1 for a failure, 2 for wrong usage.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "weft: %v\n", err)
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(stderr, "See %s --help.\n", cmd.CommandPath())
		return 2
	}
	return 1
}

// usageError is a command line that says nothing the command understands.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
