package cpu

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       Times
		fault      string
	}{
		{"user holds nice, softirq holds irq, idle holds iowait",
			"cpu  100 50 200 900 100 10 40 30 0 0\ncpu0 1 2 3\n",
			Times{User: 1.5, System: 2, Softirq: 0.5, Steal: 0.3, Idle: 10}, ""},
		{"a kernel without guest times", "cpu 1 2 3 4 5 6 7 8", Times{0.03, 0.03, 0.13, 0.08, 0.09, 0}, ""},
		{"an empty file", "", Times{}, "expected \"cpu\""},
		{"another first line", "intr 1 2 3 4 5 6 7 8 9", Times{}, "begins with \"intr"},
		{"too few numbers", "cpu 1 2 3", Times{}, "at least 8 numbers"},
		{"a word for a number", "cpu 1 2 3 4 many 6 7 8", Times{}, "\"many\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.text)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Fatalf("error %v does not name %s", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%.4f", got) != fmt.Sprintf("%.4f", tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSinceNeverRunsBackwards(t *testing.T) {
	got := Times{User: 2, Idle: 4}.Since(Times{User: 1, Idle: 5})
	if got != (Times{User: 1}) {
		t.Errorf("got %+v", got)
	}
}

func TestStolenIsAShareOfAllTime(t *testing.T) {
	if got := (Times{User: 1, System: 1, Softirq: 1, Steal: 1}).Stolen(); got != 0.25 {
		t.Errorf("got %v", got)
	}
	if got := (Times{}).Stolen(); got != 0 {
		t.Errorf("no time at all: got %v", got)
	}
}

func TestForeignIsWhatProgramsOfOthersTook(t *testing.T) {
	if got := (Times{User: 3, Own: 1, System: 1}).Foreign(); got != 0.5 {
		t.Errorf("got %v", got)
	}
	if got := (Times{User: 1, Own: 1.01, Idle: 1}).Foreign(); got != 0 {
		t.Errorf("own time is finer than the machine's, and may exceed it: got %v", got)
	}
}

func TestParseProcess(t *testing.T) {
	tests := []struct {
		name, text string
		parent     int
		user       float64
		ok         bool
	}{
		{"a plain name", "42 (sh) S 7 42 42 0 -1 4194304 1 2 3 4 250 11 0 0 20", 7, 2.5, true},
		{"a name of parentheses and spaces", "42 (a) S 9 (b) R 7 42 42 0 -1 4194304 1 2 3 4 250 11", 7, 2.5, true},
		{"cut off", "42 (sh) S 7 42", 0, 0, false},
		{"without a name", "42", 0, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent, user, ok := parseProcess([]byte(tt.text))
			if parent != tt.parent || user != tt.user || ok != tt.ok {
				t.Errorf("got %d, %v, %v", parent, user, ok)
			}
		})
	}
}

func TestOwnCountsChildrenThatRunAndThatHaveEnded(t *testing.T) {
	before, err := own()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sh", "-c", "while :; do :; done")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = child.Process.Kill()
			_ = child.Wait()
		}
	}
	defer end()
	deadline := time.Now().Add(10 * time.Second)
	running := before
	for running < before+0.05 {
		if time.Now().After(deadline) {
			t.Fatalf("a busy child is not counted: %v, then %v", before, running)
		}
		if running, err = own(); err != nil {
			t.Fatal(err)
		}
	}
	end()
	after, err := own()
	if err != nil {
		t.Fatal(err)
	}
	// A tick may be accounted differently once the child is gone.
	if after < running-0.02 {
		t.Errorf("a child that ended is forgotten: %v, then %v", running, after)
	}
}

func FuzzParseProcess(f *testing.F) {
	f.Add([]byte("42 (sh) S 7 42 42 0 -1 4194304 1 2 3 4 250 11 0 0 20"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, user, ok := parseProcess(text); ok && user < 0 {
			t.Errorf("%q took %v seconds", text, user)
		}
	})
}

func TestThisMachineHasWorkedSinceBoot(t *testing.T) {
	got, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if got.Busy() <= 0 {
		t.Errorf("got %+v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("cpu  100 50 200 900 100 10 40 30 0 0\n")
	f.Add("cpu")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parse(text); err == nil && got.Busy() < 0 {
			t.Errorf("%q became %+v", text, got)
		}
	})
}

func ExampleTimes_Since() {
	before := Times{User: 10, System: 20}
	after := Times{User: 11, System: 23}
	fmt.Printf("%.0f CPU-seconds\n", after.Since(before).Busy())
	// Output: 4 CPU-seconds
}
