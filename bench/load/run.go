package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/bench/cpu"
	"github.com/weftnet/weft/internal/lab"
)

// Window is when a load is measured.
type Window struct {
	Warmup   time.Duration // traffic flows, nobody counts
	Duration time.Duration // what is counted
}

// Outcome is a load as both ends saw it.
type Outcome struct {
	Client, Server Result
	CPU            cpu.Times // of the whole machine
}

// grace is how long the ends have to answer beyond what they were told to take.
const grace = 5 * time.Second

// Run puts the load s on the way between client and server. When ctx ends both ends are gone before Run returns.
func Run(ctx context.Context, client, server *lab.Host, s Spec, w Window) (Outcome, error) {
	if err := s.check(); err != nil {
		return Outcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience+w.Warmup+w.Duration+2*grace)
	defer cancel()
	var ends [2]*process
	for i, e := range []struct {
		host *lab.Host
		role string
	}{{server, "server"}, {client, "client"}} {
		p, err := launchProcess(e.host, e.role)
		if err != nil {
			return Outcome{}, err
		}
		defer p.close()
		if err := p.prepare(ctx, s); err != nil {
			return Outcome{}, err
		}
		ends[i] = p
	}
	return drive(ctx, ends[1], ends[0], w)
}

// drive takes two ends that are ready through warm-up and measurement.
func drive(ctx context.Context, client, server *process, w Window) (o Outcome, err error) {
	if err := client.order(start); err != nil {
		return o, err
	}
	if err := pause(ctx, w.Warmup, client, server); err != nil {
		return o, err
	}
	if err := errors.Join(client.order(begin), server.order(begin)); err != nil {
		return o, err
	}
	before, err := cpu.Read()
	if err != nil {
		return o, err
	}
	if err := pause(ctx, w.Duration, client, server); err != nil {
		return o, err
	}
	after, err := cpu.Read()
	if err != nil {
		return o, err
	}
	o.CPU = after.Since(before)
	if err := errors.Join(client.order(stop), server.order(stop)); err != nil {
		return o, err
	}
	if o.Client, err = client.result(ctx); err != nil {
		return o, err
	}
	o.Server, err = server.result(ctx)
	return o, err
}

// pause waits for d while both ends keep quiet: what either says before it is asked is a failure.
func pause(ctx context.Context, d time.Duration, client, server *process) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case r, ok := <-client.replies:
		return client.fault(r, ok)
	case r, ok := <-server.replies:
		return server.fault(r, ok)
	}
}

// process is one end, running.
type process struct {
	role    string
	cmd     *lab.Cmd
	in      io.WriteCloser
	replies chan reply
	stderr  bytes.Buffer // complete once replies is closed and the process was waited for
}

func launchProcess(h *lab.Host, role string) (*process, error) {
	p := &process{role: role, replies: make(chan reply, 4)}
	p.cmd = h.Command("/proc/self/exe", "bench", "load", role)
	p.cmd.SysProcAttr.Setpgid = true // the terminal's interrupt is the harness's to handle
	p.cmd.Stderr = &p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("load: start the %s: %w", role, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("load: start the %s: %w", role, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("load: start the %s: %w", role, err)
	}
	p.in = in
	go p.listen(out)
	return p, nil
}

// listen passes on what the process says, and closes replies when it is silent for good.
func (p *process) listen(out io.Reader) {
	defer close(p.replies)
	decoder := json.NewDecoder(bufio.NewReader(out))
	for {
		var r reply
		if decoder.Decode(&r) != nil {
			return
		}
		p.replies <- r
	}
}

// close ends the process, if it is still there, and waits for it.
func (p *process) close() {
	p.in.Close()
	_ = p.cmd.Process.Kill()
	for range p.replies {
	}
	_ = p.cmd.Wait()
}

func (p *process) prepare(ctx context.Context, s Spec) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := p.order(order(text)); err != nil {
		return err
	}
	select {
	case r, ok := <-p.replies:
		if !r.Ready {
			return p.fault(r, ok)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("load: the %s is not ready: %w", p.role, ctx.Err())
	}
}

func (p *process) order(o order) error {
	if _, err := fmt.Fprintln(p.in, string(o)); err != nil {
		r, ok := <-p.replies // a process that closed its input has said why, or died
		return p.fault(r, ok)
	}
	return nil
}

func (p *process) result(ctx context.Context) (Result, error) {
	select {
	case r, ok := <-p.replies:
		if r.Result == nil {
			return Result{}, p.fault(r, ok)
		}
		return *r.Result, nil
	case <-ctx.Done():
		return Result{}, fmt.Errorf("load: no result from the %s: %w", p.role, ctx.Err())
	}
}

// fault is the error behind a reply that was not expected, or behind the process's end.
func (p *process) fault(r reply, ok bool) error {
	if ok {
		return errors.New(r.Error)
	}
	_ = p.cmd.Wait()
	return fmt.Errorf("load: the %s ended early: %v %s", p.role, p.cmd.ProcessState, bytes.TrimSpace(p.stderr.Bytes()))
}
