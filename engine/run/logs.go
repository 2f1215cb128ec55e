package run

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// LogOptions say what of a container's output is wanted, and how.
type LogOptions struct {
	Follow bool // until the container ends
	Stamps bool // each line with the time at which it came
	Tail   int  // only so many of the last lines; negative: all
}

// logPoll is how often a log that is followed is looked at.
const logPoll = 100 * time.Millisecond

// Logs writes what a detached container has written to its own standard output and error.
func (s Store) Logs(ctx context.Context, name string, o LogOptions, stdout, stderr io.Writer) error {
	c, err := s.Get(name)
	if err != nil {
		return err
	}
	if !c.Detached && !c.Created.IsZero() {
		return fmt.Errorf("container %q ran in the foreground, so its output went there; weft run -d keeps it", name)
	}
	f := s.folder(name)
	file, err := os.Open(f.file("log"))
	if err != nil {
		return fmt.Errorf("container %q: %w", name, err)
	}
	defer func() { file.Close() }()
	p := &printer{stdout: stdout, stderr: stderr, stamps: o.Stamps, within: make(map[string]bool)}
	if o.Tail >= 0 {
		if p.skip, err = surplus(f, o.Tail); err != nil {
			return err
		}
	}
	if !same(file, f.file("log.1")) { // or it was moved there a moment ago
		if err := p.file(f.file("log.1")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for {
		// Asked before reading: what was written by then is read.
		live := o.Follow && running(s, name, c)
		if err := p.copy(file); err != nil {
			return err
		}
		if next, err := os.Open(f.file("log")); err == nil {
			if same(file, f.file("log")) {
				next.Close()
			} else { // rotated; what came before that is read first
				err = p.copy(file)
				file.Close()
				if file = next; err != nil {
					return err
				}
				continue
			}
		}
		if !live {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(logPoll):
		}
	}
}

// running reports whether the container c still runs, and no other of the name.
func running(s Store, name string, c *Container) bool {
	now, err := s.Get(name)
	return err == nil && now.Supervisor == c.Supervisor && (now.State == Starting || now.State == Running)
}

// surplus counts the lines before the last n.
func surplus(f folder, n int) (int, error) {
	total := 0
	for _, name := range []string{"log.1", "log"} {
		file, err := os.Open(f.file(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return 0, err
		}
		p := &printer{stdout: io.Discard, stderr: io.Discard, within: make(map[string]bool)}
		err = p.copy(file)
		file.Close()
		if err != nil {
			return 0, err
		}
		total += p.lines
	}
	return max(0, total-n), nil
}

// printer writes records as the lines that they were.
type printer struct {
	stdout, stderr io.Writer
	stamps         bool
	skip           int             // lines that are not wanted
	lines          int             // that have ended
	rest           []byte          // of a record that is not whole yet; one that a crash has cut stays out
	within         map[string]bool // streams whose line has begun and not ended
}

func (p *printer) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.copy(f)
}

// copy prints the whole records from where f stands to its end.
func (p *printer) copy(f io.Reader) error {
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		b, err := r.ReadBytes('\n')
		p.rest = append(p.rest, b...)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("the container's log: %w", err)
		}
		err = p.record(p.rest[:len(p.rest)-1])
		p.rest = p.rest[:0]
		if err != nil {
			return err
		}
	}
}

func (p *printer) record(b []byte) error {
	when, stream, full, text, ok := parseRecord(b)
	if !ok {
		return nil
	}
	wanted := p.lines >= p.skip
	to := p.stdout
	if stream == "stderr" {
		to = p.stderr
	}
	var out []byte
	if p.stamps && !p.within[stream] {
		out = append(append(out, when...), ' ')
	}
	out = append(out, text...)
	if p.within[stream] = !full; full {
		out = append(out, '\n')
		p.lines++
	}
	if !wanted {
		return nil
	}
	_, err := to.Write(out)
	return err
}

// parseRecord takes a line of the log apart.
func parseRecord(b []byte) (when, stream string, full bool, text []byte, ok bool) {
	parts := bytes.SplitN(b, []byte{' '}, 4)
	if len(parts) != 4 {
		return "", "", false, nil, false
	}
	when, stream = string(parts[0]), string(parts[1])
	if _, err := time.Parse(time.RFC3339Nano, when); err != nil || stream != "stdout" && stream != "stderr" {
		return "", "", false, nil, false
	}
	tag := string(parts[2])
	return when, stream, tag == "F", parts[3], tag == "F" || tag == "P"
}
