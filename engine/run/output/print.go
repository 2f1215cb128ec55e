package output

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

// Options say what of a log is wanted, and how.
type Options struct {
	Stamps bool        // each line with the time at which it came
	Tail   int         // only so many of the last lines; negative: all
	Live   func() bool // whether more may come, which is then waited for; nil: it is not
}

// poll is how often a log that is followed is looked at.
const poll = 100 * time.Millisecond

// Print writes what is in the log at a path: what came from standard output to stdout, the rest to stderr.
func Print(ctx context.Context, path string, o Options, stdout, stderr io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the container's log: %w", err)
	}
	defer func() { file.Close() }()
	p := &printer{stdout: stdout, stderr: stderr, stamps: o.Stamps, within: make(map[string]bool)}
	if o.Tail >= 0 {
		if p.skip, err = surplus(path, o.Tail); err != nil {
			return err
		}
	}
	if !is(file, path+old) { // or it was moved there a moment ago
		if err := p.file(path + old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for {
		live := o.Live != nil && o.Live() // asked before reading: what was written by then is read
		if err := p.copy(file); err != nil {
			return err
		}
		if next, err := os.Open(path); err == nil && is(file, path) {
			next.Close()
		} else if err == nil { // rotated; what came before that is read first
			err = p.copy(file)
			file.Close()
			file, p.rest = next, nil
			if err != nil {
				return err
			}
			continue
		}
		if !live {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poll):
		}
	}
}

// is reports whether f is what has the name path now.
func is(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// surplus counts the lines before the last n.
func surplus(path string, n int) (int, error) {
	total := 0
	for _, name := range []string{path + old, path} {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return 0, fmt.Errorf("the container's log: %w", err)
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
	err = p.copy(f)
	p.rest = nil // of one that was cut
	return err
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
