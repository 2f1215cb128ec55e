// Command weft is the one binary of weft: the node's agent, the commands that ask it, and the bench.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/engine/run/inside"
	"github.com/weftnet/weft/engine/userns"
)

// Set by the linker; see the Makefile.
var (
	version = "unknown"
	commit  = "unknown"
)

func main() { os.Exit(weft(os.Args[1:], os.Stdout, os.Stderr)) }

// weft runs the command that args name, and returns the process's exit status: 0, 1 for a failure, 2 for wrong usage, and
// for commands that run others theirs.
func weft(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 { // what weft starts itself as, which is no command for people
		switch args[0] {
		case userns.HoldCommand:
			return userns.Hold(args[1:])
		case inside.Command:
			return inside.Main(args[1:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	status := 0
	if cmd, err := root.ExecuteContextC(ctx); err != nil {
		status = tell(cmd, err, stderr)
	}
	if err := userns.Leave(); err != nil {
		fmt.Fprintf(stderr, "weft: %v\n", err)
	}
	return status
}

// tell says what went wrong, and returns the exit status.
func tell(cmd *cobra.Command, err error, stderr io.Writer) int {
	ended := new(exitStatus)
	told := errors.As(err, ended)
	if !told || ended.error != nil {
		fmt.Fprintf(stderr, "weft: %v\n", err)
	}
	status := 1
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(stderr, "See %s --help.\n", cmd.CommandPath())
		status = 2
	}
	if own, err := strconv.Atoi(cmd.Annotations[failureStatus]); err == nil {
		status = own
	}
	if told {
		status = ended.status
	}
	return status
}

// failureStatus is the annotation of a command whose status is another program's: what it exits with when it fails itself.
const failureStatus = "failure-status"

// exitStatus is the end of a command that has an exit status of its own; without an error there is nothing to say.
type exitStatus struct {
	error
	status int
}

func (e exitStatus) Error() string {
	if e.error == nil {
		return "status " + strconv.Itoa(e.status)
	}
	return e.error.Error()
}

func (e exitStatus) Unwrap() error { return e.error }

// usageError is a command line that says nothing the command understands.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
