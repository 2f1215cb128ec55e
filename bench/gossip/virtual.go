package gossip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Go has virtual time in tests only. So a cluster is simulated by a process that is one: this program again, which reads what
// to measure from its standard input and answers on its standard output, one line of JSON for each thing that it has to say.
type (
	order struct {
		Options Options `json:"options"`
		Size    int     `json:"size"`
	}
	line struct {
		Progress string  `json:"progress,omitempty"`
		Result   *Result `json:"result,omitempty"`
		Error    string  `json:"error,omitempty"`
	}
)

// Child is the arguments under which a program that calls Run must call Serve.
var Child = []string{"bench", "gossip", "cluster"}

// inChild has a child process measure one cluster.
func inChild(ctx context.Context, opt Options, size int, progress func(string)) (*Result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	text, err := json.Marshal(order{opt, size})
	if err != nil {
		return nil, err
	}
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, self, Child...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	result, heard := listen(out, progress)
	switch err := cmd.Wait(); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case heard != nil:
		return nil, heard
	case err != nil || result == nil:
		return nil, fmt.Errorf("the child process ended without a result (%v): %s", err, tail(complaint.Bytes()))
	}
	return result, nil
}

// listen reads what a child has to say, to its end.
func listen(from io.Reader, progress func(string)) (result *Result, err error) {
	for dec := json.NewDecoder(from); ; {
		var l line
		if e := dec.Decode(&l); e != nil {
			if !errors.Is(e, io.EOF) {
				err = errors.Join(err, fmt.Errorf("the child process's answer: %w", e))
			}
			return result, err
		}
		switch {
		case l.Progress != "":
			progress(l.Progress)
		case l.Error != "":
			err = errors.New(l.Error)
		case l.Result != nil:
			result = l.Result
		}
	}
}

// tail returns the end of a long text.
func tail(b []byte) []byte {
	const most = 4000
	return b[max(len(b)-most, 0):]
}

// Serve is the child: it measures one cluster in virtual time, and ends the process.
func Serve(in io.Reader, out io.Writer) {
	say := json.NewEncoder(out)
	measure := func(t *testing.T) {
		var o order
		if err := json.NewDecoder(in).Decode(&o); err != nil {
			say.Encode(line{Error: fmt.Sprintf("read what to measure: %v", err)})
			return
		}
		result, err := inBubble(t, o.Options, o.Size, func(s string) { say.Encode(line{Progress: s}) })
		if err != nil {
			say.Encode(line{Error: err.Error()})
			return
		}
		say.Encode(line{Result: result})
	}
	debug.SetGCPercent(200) // a third of the time is the collector's otherwise; 300 nodes take a gigabyte so
	os.Stdout = os.Stderr   // package testing has its own things to say
	always := func(string, string) (bool, error) { return true, nil }
	testing.Main(always, []testing.InternalTest{{Name: "cluster", F: measure}}, nil, nil)
}

// stragglers is how long memberlist's probes go on after it was shut down.
const stragglers = time.Minute

// inBubble measures one cluster in virtual time.
func inBubble(t *testing.T, opt Options, size int, progress func(string)) (result *Result, err error) {
	synctest.Test(t, func(*testing.T) {
		result, err = simulate(context.Background(), opt, size, progress)
		time.Sleep(stragglers)
	})
	return result, err
}
