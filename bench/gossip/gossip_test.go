package gossip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is the child too, as the command is.
func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], Child) {
		Serve(os.Stdin, os.Stdout)
	}
	os.Exit(m.Run())
}

// small is a run of a moment.
func small(nodes ...int) Options {
	o := Default()
	o.Nodes, o.Puts, o.Idle, o.Churn = nodes, 20, 10*time.Second, 20*time.Second
	return o
}

func quietly(string) {}

func TestTheTargetsHoldAtTwentyFiveNodes(t *testing.T) {
	o := Default()
	o.Churn = time.Minute
	r, err := inBubble(t, o, 25, quietly)
	if err != nil {
		t.Fatal(err)
	}
	report := Report{Options: o, Sizes: []Result{*r}}
	targets := report.Targets()
	if len(targets) != 3 {
		t.Fatalf("%d targets at 25 nodes, expected 3", len(targets))
	}
	for _, target := range targets {
		if target.Is <= 0 || target.Is >= target.Below {
			t.Errorf("%s took %g s, expected less than %g s", target.Name, target.Is, target.Below)
		}
	}
	if missed := r.Quiet.Missed + r.Churn.Missed + r.Join.Missed + r.Ready.Missed; missed > 0 {
		t.Errorf("%d puts or joins missed the limit: %+v", missed, r)
	}
	if r.Quiet.Count != o.Puts || r.Churn.Count < 60 || r.Join.Count < 25 || r.Ready.Count != r.Join.Count {
		t.Errorf("too little was measured: %+v", r)
	}
	if r.Largest > 1400 {
		t.Errorf("a packet of %d bytes; expected at most 1400", r.Largest)
	}
	if r.Idle.Bytes > 1500 {
		t.Errorf("an idle node sends %.0f bytes a second; expected some hundreds", r.Idle.Bytes)
	}
}

func TestLossDelaysButLosesNothing(t *testing.T) {
	o := small(8)
	o.Link.Loss, o.Link.Duplicate, o.Link.Reorder = 0.1, 0.05, 0.05
	r, err := inBubble(t, o, 8, quietly)
	if err != nil {
		t.Fatal(err)
	}
	if missed := r.Quiet.Missed + r.Churn.Missed + r.Join.Missed; missed > 0 {
		t.Errorf("%d puts missed the limit: %+v", missed, r)
	}
}

func TestRunMeasuresEachSizeInAChild(t *testing.T) {
	var said []string
	r, err := Run(t.Context(), small(3, 5), func(s string) { said = append(said, s) })
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sizes) != 2 || r.Sizes[0].Nodes != 3 || r.Sizes[1].Nodes != 5 {
		t.Fatalf("the sizes are %+v", r.Sizes)
	}
	for _, s := range r.Sizes {
		if s.Quiet.Count != 20 || s.Churn.Count == 0 || s.Idle.Packets == 0 || s.Busy.Bytes <= s.Idle.Bytes || s.Wall == 0 {
			t.Errorf("something was not measured: %+v", s)
		}
	}
	if !slices.Contains(said, "5 nodes: churn") {
		t.Errorf("progress was %q", said)
	}
	var text bytes.Buffer
	if err := r.Print(&text); err != nil || !strings.Contains(text.String(), "put, quiet") {
		t.Errorf("printed %q, error %v", text.String(), err)
	}
	back, err := json.Marshal(r)
	var again Report
	if err := errors.Join(err, json.Unmarshal(back, &again)); err != nil || again.Sizes[1] != r.Sizes[1] {
		t.Errorf("JSON gave back %+v, error %v", again.Sizes, err)
	}
}

func TestRunEndsWhenItIsCalledOff(t *testing.T) {
	for _, clock := range []string{Virtual, Real} {
		t.Run(clock, func(t *testing.T) {
			o := small(3)
			o.Clock, o.Idle = clock, 1000*time.Hour
			ctx, cancel := context.WithCancelCause(t.Context())
			off := errors.New("called off")
			_, err := Run(ctx, o, func(s string) {
				if strings.HasSuffix(s, "forming") {
					cancel(off)
				}
			})
			if !errors.Is(err, off) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"no sizes":            func(o *Options) { o.Nodes = nil },
		"a cluster of one":    func(o *Options) { o.Nodes = []int{1} },
		"an unknown clock":    func(o *Options) { o.Clock = "sundial" },
		"puts at no rate":     func(o *Options) { o.Rate = 0 },
		"churn without pause": func(o *Options) { o.Every = 0 },
		"a link of no use":    func(o *Options) { o.Link.Loss = 1 },
		"negative records":    func(o *Options) { o.Records = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			o := Default()
			spoil(&o)
			if r, err := Run(t.Context(), o, quietly); err == nil {
				t.Errorf("gave %+v", r)
			}
		})
	}
}

func TestQuantilesAreOfTheSamples(t *testing.T) {
	var s samples
	for i := range 100 {
		s.add(time.Duration(100-i)*time.Second, i != 0)
	}
	if got, want := s.spread(), (Spread{Count: 100, Missed: 1, P50: 50, P90: 90, P99: 99, Max: 100}); got != want {
		t.Errorf("got %+v, expected %+v", got, want)
	}
	var none samples
	if got := none.spread(); got != (Spread{}) {
		t.Errorf("of nothing: %+v", got)
	}
	if q := quantile([]time.Duration{time.Second}, 0.99); math.Abs(q-1) > 1e-9 {
		t.Errorf("of one sample: %g", q)
	}
}

func TestMissedTargetsAreSaid(t *testing.T) {
	r := Report{Options: Default(), CPUs: 2, Sizes: []Result{
		{Nodes: 25, Quiet: Spread{Count: 1, P99: 0.6}, Churn: Spread{Count: 1, P99: 1, Max: 2}, Join: Spread{Count: 1, Max: 58}},
		{Nodes: 100, Quiet: Spread{Count: 1, P99: 0.9}, Idle: Cost{Used: 1.9}},
	}}
	r.Options.Clock = Real
	text := r.remarks()
	if strings.Count(text, "MISSED") != 2 || strings.Count(text, "met") != 2 {
		t.Errorf("said %q, expected two met and two missed", text)
	}
	if !strings.Contains(text, "1.9 of 2 processors") {
		t.Errorf("said %q, expected that the machine is the limit", text)
	}
}

func TestAChildThatEndsEarlyIsAnError(t *testing.T) {
	if _, err := listen(strings.NewReader(`{"progress":"x"} {"error":"no luck"}`), quietly); err == nil || err.Error() != "no luck" {
		t.Errorf("got %v", err)
	}
	if _, err := listen(strings.NewReader(`{"res`), quietly); err == nil {
		t.Error("half an answer is none")
	}
}
