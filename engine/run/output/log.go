// Package output keeps what a container in the background writes, in the log format of Kubernetes' CRI:
//
//	2026-01-31T12:00:00.000000000Z stdout F the text of a line
//	└ when it came                 │      └ F: full, P: the line goes on
//	                               └ or stderr
//
// A log is a file, and when that has become long, the one before it, by the same name and ".1".
package output

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// limit is how long a file gets before a new one is begun.
const limit = 10 << 20

// longest is how long a line is recorded in one piece, as with the container runtimes of Kubernetes.
const longest = 16 << 10

// old is what the name of the file before ends in.
const old = ".1"

// Log takes what one container writes.
type Log struct {
	path   string
	limit  int64
	copies sync.WaitGroup
	ends   []*os.File // where the copies read

	mu   sync.Mutex
	file *os.File
	size int64
}

// Open begins a log.
func Open(path string) (*Log, error) {
	l := &Log{path: path, limit: limit}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("the container's log: %w", err)
	}
	return l, nil
}

func (l *Log) open() (err error) {
	l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	l.size = 0
	return err
}

// Pipes returns what becomes the container's standard output and error, which the caller closes when it has them.
func (l *Log) Pipes() (outs [2]*os.File, err error) {
	for i, stream := range []string{"stdout", "stderr"} {
		r, w, err := os.Pipe()
		if err != nil {
			return outs, err
		}
		outs[i] = w
		l.ends = append(l.ends, r)
		l.copies.Go(func() { l.copy(r, stream) })
	}
	return outs, nil
}

func (l *Log) copy(r io.Reader, stream string) {
	lines := bufio.NewReaderSize(r, longest)
	for {
		line, err := lines.ReadSlice('\n')
		full := err == nil
		if full {
			line = line[:len(line)-1]
		}
		if full || len(line) > 0 {
			l.write(stream, full || err == io.EOF, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// write records one line. What cannot be written, as on a full disk, is lost: the container must not wait for its log.
func (l *Log) write(stream string, full bool, text []byte) {
	tag := "P"
	if full {
		tag = "F"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= l.limit {
		l.rotate()
	}
	if l.file == nil && l.open() != nil {
		return
	}
	line := append(fmt.Appendf(nil, "%s %s %s ", time.Now().UTC().Format(stamp), stream, tag), text...)
	n, err := l.file.Write(append(line, '\n'))
	l.size += int64(n)
	if err != nil && n > 0 {
		_, _ = l.file.Write([]byte{'\n'}) // so that the next line begins as one
	}
}

// stamp is RFC 3339 with all digits, so that lines are aligned.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

func (l *Log) rotate() {
	l.file.Close()
	l.file = nil
	_ = os.Rename(l.path, l.path+old)
	_ = l.open()
}

// Drain waits until what the container wrote is recorded. Only a pipe that it has passed to another container's process
// would still be open.
func (l *Log) Drain() {
	end := time.Now().Add(time.Second)
	for _, r := range l.ends {
		_ = r.SetReadDeadline(end)
	}
	l.copies.Wait()
}

// Close ends the log. It is idempotent.
func (l *Log) Close() {
	for _, r := range l.ends {
		r.Close()
	}
	l.copies.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
