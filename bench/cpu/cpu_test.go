package cpu

import (
	"fmt"
	"strings"
	"testing"
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
		{"a kernel without guest times", "cpu 1 2 3 4 5 6 7 8", Times{0.03, 0.03, 0.13, 0.08, 0.09}, ""},
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
