package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// reply is a line that an end writes.
type reply struct {
	Ready  bool    `json:"ready,omitempty"`
	Result *Result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// order is a line that the harness writes after the spec.
type order string

const (
	start order = "start"
	begin order = "begin"
	stop  order = "end"
)

// Serve is one end of a load, driven over in and out as the package describes. It returns when in
// ends or when it has reported a failure; its threads run on until the process exits, which must be next.
func Serve(in io.Reader, out io.Writer, server bool) error {
	lines := bufio.NewScanner(in)
	replies := json.NewEncoder(out)
	err := serve(lines, replies, server)
	if err != nil {
		return replies.Encode(reply{Error: err.Error()})
	}
	return nil
}

func serve(lines *bufio.Scanner, replies *json.Encoder, server bool) error {
	if !lines.Scan() {
		return nil
	}
	var s Spec
	if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
		return fmt.Errorf("load: read the spec: %w", err)
	}
	if err := s.check(); err != nil {
		return err
	}
	// The threads allocate nothing once they run; a collection would have to interrupt their system calls.
	debug.SetGCPercent(-1)
	g := newGenerator(s, server)
	if err := g.open(); err != nil {
		return fmt.Errorf("load: %s: %w", role(server), err)
	}
	failed := make(chan error, 1)
	if server {
		launch(g.threads(), failed)
	}
	if err := replies.Encode(reply{Ready: true}); err != nil {
		return err
	}

	var from reading
	orders := read(lines)
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("load: %s: %w", role(server), err)
		case o, ok := <-orders:
			switch {
			case !ok:
				return nil
			case o == start:
				launch(g.threads(), failed)
			case o == begin:
				from = g.meter().read()
				g.meter().measuring.Store(true)
			case o == stop:
				g.meter().measuring.Store(false)
				result := g.meter().read().since(from)
				if l := g.meter().latency; l != nil {
					result.Latency = l.Snapshot()
				}
				if err := replies.Encode(reply{Result: &result}); err != nil {
					return err
				}
				// The connections stay open until the other end has been heard too.
				for range orders {
				}
				return nil
			default:
				return fmt.Errorf("load: order %q; expected %s, %s or %s", o, start, begin, stop)
			}
		}
	}
}

func role(server bool) string {
	if server {
		return "server"
	}
	return "client"
}

// read passes on the orders as they come, until there are no more.
func read(lines *bufio.Scanner) <-chan order {
	orders := make(chan order)
	go func() {
		defer close(orders)
		for lines.Scan() {
			orders <- order(lines.Text())
		}
	}()
	return orders
}

// reading is a meter at one instant.
type reading struct {
	at                     time.Time
	cpu                    time.Duration
	bytes, count, sequence uint64
}

func (m *meter) read() reading {
	r := reading{at: time.Now(), bytes: m.bytes.Load(), count: m.count.Load(), sequence: m.sequence.Load()}
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		r.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return r
}

func (r reading) since(from reading) Result {
	return Result{
		Seconds:  r.at.Sub(from.at).Seconds(),
		CPU:      (r.cpu - from.cpu).Seconds(),
		Bytes:    r.bytes - from.bytes,
		Count:    r.count - from.count,
		Expected: r.sequence - from.sequence,
	}
}
