package output

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

// begin begins a log with files of limited length.
func begin(t *testing.T, limit int64) *Log {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "log"))
	lab.Must(t, err)
	l.limit = limit
	t.Cleanup(l.Close)
	return l
}

func read(t *testing.T, l *Log, o Options) string {
	t.Helper()
	var out bytes.Buffer
	lab.Must(t, Print(context.Background(), l.path, o, &out, &out))
	return out.String()
}

func TestLogIsBoundedAndKeepsTheLastLines(t *testing.T) {
	const limit, lines = 10_000, 2000
	l := begin(t, limit)
	for i := range lines {
		l.write("stdout", true, fmt.Appendf(nil, "line %d", i))
	}
	for _, name := range []string{l.path, l.path + old} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > limit+100 {
			t.Errorf("%s: %v, %d bytes, expected up to %d and a line", name, err, info.Size(), limit)
		}
	}
	got := strings.Split(strings.TrimSuffix(read(t, l, Options{Tail: -1}), "\n"), "\n")
	for i, line := range got {
		if want := fmt.Sprintf("line %d", lines-len(got)+i); line != want {
			t.Fatalf("line %d of %d is %q, expected %q", i, len(got), line, want)
		}
	}
	if len(got) < limit/50 {
		t.Errorf("%d lines are left", len(got))
	}
	if got, want := read(t, l, Options{Tail: 300}), 300; strings.Count(got, "\n") != want || !strings.HasSuffix(got, "line 1999\n") {
		t.Errorf("of the last %d lines there are %d", want, strings.Count(got, "\n"))
	}
	if got := read(t, l, Options{Tail: 0}); got != "" {
		t.Errorf("of the last 0 lines: %q", got)
	}
}

func TestLongAndUnfinishedLinesComeBackAsTheyWere(t *testing.T) {
	l := begin(t, limit)
	long := strings.Repeat("0123456789", 5000)
	text := "\n" + long + "\nshort\r\n\x00\xff\nno end"
	l.copy(strings.NewReader(text), "stdout")
	if got := read(t, l, Options{Tail: -1}); got != text+"\n" {
		t.Errorf("of %d bytes come back %d", len(text), len(got))
	}
	if got := read(t, l, Options{Tail: 4}); got != long+"\nshort\r\n\x00\xff\nno end\n" {
		t.Errorf("the last 4 lines are %d bytes", len(got))
	}
}

func TestRecordThatACrashHasCutIsLeftOut(t *testing.T) {
	l := begin(t, limit)
	l.write("stdout", true, []byte("whole"))
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	lab.Must(t, err)
	defer f.Close()
	_, err = io.WriteString(f, "\nnonsense\n2026-01-02T03:04:05.000000000Z stdout F cu")
	lab.Must(t, err)
	if got := read(t, l, Options{Tail: -1}); got != "whole\n" {
		t.Errorf("got %q", got)
	}
}

func TestFollowingReadsOverARotation(t *testing.T) {
	l := begin(t, limit)
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Print(ctx, l.path, Options{Live: func() bool { return true }, Tail: -1}, w, w) }()
	b := make([]byte, 64)
	for i := range 3 {
		l.write("stdout", true, fmt.Appendf(nil, "line %d", i))
		n, err := r.Read(b)
		if want := fmt.Sprintf("line %d\n", i); err != nil || string(b[:n]) != want {
			t.Fatalf("got %q, %v; expected %q", b[:n], err, want)
		}
		l.mu.Lock()
		l.rotate()
		l.mu.Unlock()
	}
	cancel()
	lab.Must(t, <-done)
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000000Z stdout F text of a line"))
	f.Add([]byte("2026-01-02T03:04:05Z stderr P "))
	f.Add([]byte("x y F z"))
	f.Fuzz(func(t *testing.T, b []byte) {
		when, stream, full, text, ok := parseRecord(b)
		if !ok {
			return
		}
		tag := "P"
		if full {
			tag = "F"
		}
		if got := fmt.Sprintf("%s %s %s %s", when, stream, tag, text); got != string(b) {
			t.Errorf("%q is read as %q", b, got)
		}
	})
}
