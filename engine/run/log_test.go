package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/internal/lab"
)

// logged is a store with one container that is on record as detached, and its log.
func logged(t *testing.T, limit int64) (Store, *logger) {
	t.Helper()
	s := NewStore(t.TempDir())
	f, held, err := s.create(&Container{Name: "c1", Detached: true, Created: time.Now()})
	lab.Must(t, err)
	t.Cleanup(func() { held.Close() })
	l, err := openLog(f.file("log"))
	lab.Must(t, err)
	l.limit = limit
	t.Cleanup(l.Close)
	return s, l
}

func read(t *testing.T, s Store, o LogOptions) string {
	t.Helper()
	var out bytes.Buffer
	lab.Must(t, s.Logs(context.Background(), "c1", o, &out, &out))
	return out.String()
}

func TestLogIsBoundedAndKeepsTheLastLines(t *testing.T) {
	const limit, lines = 10_000, 2000
	s, l := logged(t, limit)
	for i := range lines {
		l.write("stdout", true, fmt.Appendf(nil, "line %d", i))
	}
	for _, name := range []string{"log", "log.1"} {
		info, err := os.Stat(s.folder("c1").file(name))
		if err != nil || info.Size() > limit+100 {
			t.Errorf("%s: %v, %d bytes, expected up to %d and a line", name, err, info.Size(), limit)
		}
	}
	got := strings.Split(strings.TrimSuffix(read(t, s, LogOptions{Tail: -1}), "\n"), "\n")
	for i, line := range got {
		if want := fmt.Sprintf("line %d", lines-len(got)+i); line != want {
			t.Fatalf("line %d of %d is %q, expected %q", i, len(got), line, want)
		}
	}
	if len(got) < limit/50 {
		t.Errorf("%d lines are left", len(got))
	}
	if got, want := read(t, s, LogOptions{Tail: 300}), 300; strings.Count(got, "\n") != want || !strings.HasSuffix(got, "line 1999\n") {
		t.Errorf("of the last %d lines there are %d", want, strings.Count(got, "\n"))
	}
	if got := read(t, s, LogOptions{Tail: 0}); got != "" {
		t.Errorf("of the last 0 lines: %q", got)
	}
}

func TestLongAndUnfinishedLinesComeBackAsTheyWere(t *testing.T) {
	s, l := logged(t, logLimit)
	long := strings.Repeat("0123456789", 5000)
	text := "\n" + long + "\nshort\r\n\x00\xff\nno end"
	l.copy(strings.NewReader(text), "stdout")
	if got := read(t, s, LogOptions{Tail: -1}); got != text+"\n" {
		t.Errorf("of %d bytes come back %d", len(text), len(got))
	}
	if got := read(t, s, LogOptions{Tail: 4}); got != long+"\nshort\r\n\x00\xff\nno end\n" {
		t.Errorf("the last 4 lines are %d bytes", len(got))
	}
}

func TestRecordThatACrashHasCutIsLeftOut(t *testing.T) {
	s, l := logged(t, logLimit)
	l.write("stdout", true, []byte("whole"))
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	lab.Must(t, err)
	defer f.Close()
	_, err = io.WriteString(f, "\nnonsense\n2026-01-02T03:04:05.000000000Z stdout F cu")
	lab.Must(t, err)
	if got := read(t, s, LogOptions{Tail: -1}); got != "whole\n" {
		t.Errorf("got %q", got)
	}
}

func TestFollowingReadsOverARotation(t *testing.T) {
	s, l := logged(t, logLimit)
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Logs(ctx, "c1", LogOptions{Follow: true, Tail: -1}, w, w) }()
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

func TestNamesDoNotLeaveTheStore(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "-x", "_x", ".x", "a b", "a\n", strings.Repeat("a", 64)} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
		if _, err := NewStore(t.TempDir()).Get(name); err == nil {
			t.Errorf("there is a container %q", name)
		}
	}
	for _, name := range []string{"a", "A.b_c-9", strings.Repeat("a", 63)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestFailedCreationLeavesNothing(t *testing.T) {
	s := NewStore(t.TempDir())
	c := &Container{Name: "c1", Hostname: "h"}
	_, held, err := s.create(c)
	lab.Must(t, err)
	defer held.Close()
	if _, _, err := s.create(c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a name that is in use: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "c1", "hosts")); err != nil {
		t.Errorf("the first has lost its files: %v", err)
	}
}
