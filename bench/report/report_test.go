package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/cpu"
	"github.com/weftnet/weft/bench/histogram"
	"github.com/weftnet/weft/internal/lab"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a small result with all that a result can have: two paths, a failed run, latencies, a metric that is 0.
func sample() *Results {
	r := &Results{
		Command:   "weft bench run --runs 3 --out <dir>",
		Started:   time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Finished:  time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC),
		Reference: "kernel-vxlan",
		Host: Host{CPU: "Example <9000>", Cores: 2, MemoryMB: 4096, Kernel: "6.18.0", Arch: "amd64", Go: "go1.26", Commit: "abc", Root: true,
			MTU: map[string]int{"underlay": 1500, "overlay": 1450}, Offloads: map[string]bool{"tso": true, "gro": false}},
		Settings: Settings{Paths: []string{"kernel-vxlan", "weft"}, Scenarios: []string{"udp64", "rr"}, Runs: 3, Duration: 3, Warmup: 0.5, Offload: "on", Generator: "weft", Pin: true},
	}
	rates := map[string][]float64{"kernel-vxlan": {100, 200, 50}, "weft": {210, 300, 150}}
	for run := range 3 {
		for order, path := range r.Settings.Paths {
			h := new(histogram.Histogram)
			for i := range 1000 {
				h.Record(time.Duration(40_000 + i*i/10*(order+1)))
			}
			r.Runs = append(r.Runs,
				Run{Run: run + 1, Order: order + 1, Scenario: "udp64", Path: path, Seconds: 3, Generator: "weft", CPU: cpu.Times{User: 1}, Metrics: []Metric{
					{"rate", "packets/s", rates[path][run], Higher}, {"loss", "%", float64(order * run), Lower}, {"cpu", "µs/packet", 5, Lower}, {"cpu-user", "µs/packet", 1, Lower}}},
				Run{Run: run + 1, Order: order + 1, Scenario: "rr", Path: path, Seconds: 3, Latency: h, Metrics: []Metric{{"rate", "/s", 16000, Higher}}})
		}
	}
	r.Runs = append(r.Runs, Run{Run: 4, Scenario: "rr", Path: "weft", Error: "the agent ended: exit status 1 & no more"})
	r.Summary = Summarize(r.Runs, against(r.Reference))
	return r
}

// against holds every path against the same one.
func against(path string) func(string) string { return func(string) string { return path } }

func TestEachPathIsHeldAgainstItsOwnReference(t *testing.T) {
	metric := func(v float64) []Metric { return []Metric{{"rate", "/s", v, Higher}} }
	r := Results{Reference: "kernel-vxlan", Settings: Settings{Paths: []string{"kernel-vxlan", "weft", "kernel-masquerade", "weft-egress"}}, Runs: []Run{
		{Run: 1, Scenario: "crr", Path: "kernel-vxlan", Metrics: metric(10)}, {Run: 1, Scenario: "crr", Path: "weft", Metrics: metric(20)},
		{Run: 1, Scenario: "crr", Path: "kernel-masquerade", Metrics: metric(100)}, {Run: 1, Scenario: "crr", Path: "weft-egress", Metrics: metric(50)},
	}}
	r.Summary = Summarize(r.Runs, func(path string) string {
		if path == "kernel-masquerade" || path == "weft-egress" {
			return "kernel-masquerade"
		}
		return "kernel-vxlan"
	})
	for path, want := range map[string]Ratio{"weft": {"kernel-vxlan", Spread{2, 2, 2}}, "weft-egress": {"kernel-masquerade", Spread{0.5, 0.5, 0.5}}} {
		if got := r.find("crr", path, "rate").Ratio; got == nil || *got != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := fmt.Sprint(r.References()); got != "[kernel-vxlan kernel-masquerade]" {
		t.Errorf("references %s", got)
	}
}

func TestDuelsHoldOurPathsAgainstEachOther(t *testing.T) {
	metric := func(v float64) []Metric {
		return []Metric{{"throughput", "Gbit/s", v, Higher}, {"cpu", "s/GB", 1, Lower}}
	}
	r := Results{Settings: Settings{Paths: []string{"kernel-masquerade", "go-proxy", "slirp4netns", "weft-egress"}}, Runs: []Run{
		{Run: 1, Scenario: "tcp1", Path: "go-proxy", Metrics: metric(10)}, {Run: 1, Scenario: "tcp1", Path: "weft-egress", Metrics: metric(6)},
		{Run: 2, Scenario: "tcp1", Path: "go-proxy", Metrics: metric(20)}, {Run: 2, Scenario: "tcp1", Path: "weft-egress", Metrics: metric(16)},
		{Run: 1, Scenario: "tcp1", Path: "slirp4netns", Metrics: metric(1)}, {Run: 2, Scenario: "tcp1", Path: "slirp4netns", Error: "it ended"},
	}}
	d := r.Duels()
	if d == nil || fmt.Sprint(d.To) != "[go-proxy slirp4netns]" || len(d.Rows) != 1 {
		t.Fatalf("got %+v", d)
	}
	row := d.Rows[0]
	if row.Scenario != "tcp1" || row.Path != "weft-egress" || row.Metric != "throughput" ||
		*row.Ratios[0] != (Ratio{"go-proxy", Spread{0.7, 0.6, 0.8}}) || *row.Ratios[1] != (Ratio{"slirp4netns", Spread{6, 6, 6}}) {
		t.Errorf("got %+v %+v %+v", row, row.Ratios[0], row.Ratios[1])
	}
	if (&Results{Settings: Settings{Paths: []string{"kernel-vxlan", "weft"}}, Runs: sample().Runs}).Duels() != nil {
		t.Error("two paths say no more than the summary")
	}
	r.Summary = Summarize(r.Runs, against("go-proxy"))
	var table strings.Builder
	lab.Must(t, r.Print(&table))
	if !strings.Contains(table.String(), "weft-egress throughput  0.70 [0.60..0.80]  6.00 [6.00..6.00]") {
		t.Errorf("got\n%s", table.String())
	}
	page, err := r.HTML()
	lab.Must(t, err)
	if !bytes.Contains(page, []byte(`<th class="n">to slirp4netns</th>`)) || !bytes.Contains(page, []byte(`0.70 <span class="soft">[0.60..0.80]`)) {
		t.Error("the page does not show them")
	}
}

func TestTheRatioIsTakenRunByRun(t *testing.T) {
	s := sample().find("udp64", "weft", "rate")
	// 210/100, 300/200, 150/50: the medians' ratio would be 210/100 as well, the extremes would not.
	want := Summary{Scenario: "udp64", Path: "weft", Metric: "rate", Unit: "packets/s", Better: Higher, Spread: Spread{210, 150, 300}, N: 3}
	ratio := s.Ratio
	s.Ratio = nil
	if *s != want {
		t.Errorf("got %+v, want %+v", *s, want)
	}
	if ratio == nil || *ratio != (Ratio{"kernel-vxlan", Spread{2.1, 1.5, 3}}) {
		t.Errorf("ratio %+v", ratio)
	}
}

func TestAReferenceThatIsZeroOrMissingGivesNoRatio(t *testing.T) {
	if s := sample().find("udp64", "weft", "loss"); s.Ratio != nil {
		t.Errorf("a ratio to zero: %+v", s.Ratio)
	}
	for _, s := range Summarize(sample().Runs, against("unknown")) {
		if s.Ratio != nil {
			t.Errorf("a ratio to a path that was not measured: %+v", s)
		}
	}
}

func TestOnlyRunsThatBothPathsCompletedAreDivided(t *testing.T) {
	metric := func(v float64) []Metric { return []Metric{{"rate", "/s", v, Higher}} }
	got := Summarize([]Run{
		{Run: 1, Scenario: "rr", Path: "k", Metrics: metric(10)}, {Run: 1, Scenario: "rr", Path: "w", Metrics: metric(5)},
		{Run: 2, Scenario: "rr", Path: "k", Error: "gone"}, {Run: 2, Scenario: "rr", Path: "w", Metrics: metric(100)},
	}, against("k"))
	if len(got) != 2 || got[1].N != 2 || got[1].Ratio.Spread != (Spread{0.5, 0.5, 0.5}) {
		t.Errorf("got %+v", got)
	}
}

func TestSpread(t *testing.T) {
	tests := []struct {
		name   string
		values []float64
		want   Spread
	}{
		{"one value is its own middle and ends", []float64{3}, Spread{3, 3, 3}},
		{"an odd number has a middle", []float64{9, 1, 5}, Spread{5, 1, 9}},
		{"an even number has a mean in the middle", []float64{4, 1, 2, 9}, Spread{3, 1, 9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := spread(tt.values); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSummaryKeepsTheOrderOfScenariosAndPathsThoughPathsTakeTurns(t *testing.T) {
	r := sample()
	r.Runs[0], r.Runs[len(r.Runs)-2] = r.Runs[len(r.Runs)-2], r.Runs[0]
	var got []string
	for _, s := range sample().Summary {
		got = append(got, s.Scenario+"/"+s.Path+"/"+s.Metric)
	}
	want := "udp64/kernel-vxlan/rate udp64/kernel-vxlan/loss udp64/kernel-vxlan/cpu udp64/kernel-vxlan/cpu-user " +
		"udp64/weft/rate udp64/weft/loss udp64/weft/cpu udp64/weft/cpu-user rr/kernel-vxlan/rate rr/weft/rate"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
}

func TestResultsJSONKeepsItsShape(t *testing.T) {
	dir := t.TempDir()
	if _, err := sample().Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, jsonName))
	if err != nil {
		t.Fatal(err)
	}
	// The latencies' buckets are many and tested elsewhere.
	var value map[string]any
	if err := json.Unmarshal(got, &value); err != nil {
		t.Fatal(err)
	}
	for _, run := range value["runs"].([]any) {
		if m := run.(map[string]any); m["latency"] != nil {
			m["latency"] = m["latency"].([]any)[:1]
		}
	}
	if got, err = json.MarshalIndent(value, "", " "); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "results.json")
	if *update {
		if err := os.WriteFile(golden, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("results.json changed its shape (go test -update writes it anew):\n%s", got)
	}
}

func TestReadTakesAFileOrItsDirectory(t *testing.T) {
	dir := t.TempDir()
	names, err := sample().Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, names[0]} {
		r, err := Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Runs) != len(sample().Runs) || r.Runs[1].Latency.Count() != 1000 || r.Summary[0].Median != 100 {
			t.Errorf("%s: read back %+v", name, r)
		}
	}
}

func TestReadNamesWhatItExpected(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "missing"): "weft bench run --out",
		dir:                           "weft bench run --out",
		write("text.json", "no JSON"): "text.json is not a results.json",
		write("empty.json", "{}"):     "no summary",
	} {
		if _, err := Read(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not contain %q", name, err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	result := func(path string, median, low, high float64, better Better) *Results {
		return &Results{Summary: []Summary{{Scenario: "rr", Path: path, Metric: "m", Better: better, Spread: Spread{median, low, high}}}}
	}
	tests := []struct {
		name    string
		a, b    *Results
		percent string
		overlap bool
		verdict string
	}{
		{"ranges that touch are the same", result("w", 10, 9, 11, Higher), result("w", 12, 11, 13, Higher), "+20.0", true, "same"},
		{"higher is better", result("w", 10, 9, 11, Higher), result("w", 20, 12, 21, Higher), "+100.0", false, "better"},
		{"higher is worse where lower is better", result("w", 10, 9, 11, Lower), result("w", 20, 12, 21, Lower), "+100.0", false, "worse"},
		{"lower is better", result("w", 10, 9, 11, Lower), result("w", 5, 4, 6, Lower), "-50.0", false, "better"},
		{"no percentage of zero", result("w", 0, 0, 0, Lower), result("w", 5, 4, 6, Lower), "none", false, "worse"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := Compare(tt.a, tt.b)
			if len(list) != 1 {
				t.Fatalf("got %+v", list)
			}
			c, percent := list[0], "none"
			if c.Percent != nil {
				percent = fmt.Sprintf("%+.1f", *c.Percent)
			}
			if percent != tt.percent || c.Overlap != tt.overlap || c.Verdict() != tt.verdict {
				t.Errorf("got %s, overlap %v, %s", percent, c.Overlap, c.Verdict())
			}
		})
	}
	t.Run("what one side lacks is listed", func(t *testing.T) {
		list := Compare(result("w", 1, 1, 1, Higher), result("x", 1, 1, 1, Higher))
		if len(list) != 2 || list[0].Verdict() != "only in A" || list[1].Verdict() != "only in B" {
			t.Errorf("got %+v", list)
		}
	})
}

func TestDifferencesNameSettingsAndHosts(t *testing.T) {
	a, b := sample(), sample()
	if d := Differences(a, b); d != nil {
		t.Errorf("equal results differ: %v", d)
	}
	b.Settings.Offload, b.Host.Commit = "off", "def"
	if d := Differences(a, b); fmt.Sprint(d) != "[commit: abc in A, def in B offload: on in A, off in B]" {
		t.Errorf("got %v", d)
	}
}

func TestThePageIsWellFormedAndNeedsNothingElse(t *testing.T) {
	r := sample()
	r.Interrupted = true
	text, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Entity = xml.HTMLEntity
	elements := make(map[string]int)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
			for _, a := range e.Attr {
				if a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("<%s> loads %s", e.Name.Local, a.Value)
				}
			}
		}
	}
	// Two scenarios: rate and cpu of the one, rate and latencies of the other.
	if elements["svg"] != 4 {
		t.Errorf("%d figures, expected 4", elements["svg"])
	}
	if elements["script"] != 0 {
		t.Error("has scripts")
	}
	for _, want := range []string{"Example &lt;9000&gt;", "weft bench run --runs 3", "exit status 1 &amp; no more", "Interrupted", "(2.10 ×)", "gro off, tso on", "99.9 %"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("does not say %q", want)
		}
	}
}

func TestNoiseIsNamedWhereItMatters(t *testing.T) {
	run := func(foreign, steal float64) Run {
		return Run{CPU: cpu.Times{User: foreign, Steal: steal, Idle: 100 - foreign - steal}}
	}
	tests := []struct {
		name string
		runs []Run
		want string
	}{
		{"a quiet machine", []Run{run(1, 0), run(0, 4)}, ""},
		{"another program in one run", []Run{run(1, 0), run(40, 0)}, "in 1 of 2 runs other programs or other machines took more than 5 % of it, at worst 40 %"},
		{"a program and another machine together", []Run{run(3, 3)}, "in 1 of 1 runs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := (&Results{Runs: tt.runs}).Noise()
			if !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.00123: "0.0012", 0.123: "0.12", 1.5: "1.50", 13.32: "13.3", 115.6: "116", 9999: "9999", 16000: "16,000", 1234567: "1,234,567"} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestTheTableNamesEachScenarioAndPathOnce(t *testing.T) {
	var b strings.Builder
	if err := sample().Print(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "udp64"); n != 1 {
		t.Errorf("udp64 occurs %d times:\n%s", n, b.String())
	}
	if n := strings.Count(b.String(), "  weft  "); n != 2 {
		t.Errorf("weft occurs %d times:\n%s", n, b.String())
	}
	if !strings.Contains(b.String(), "2.10 [1.50..3.00]") || strings.Contains(b.String(), "cpu-user") {
		t.Errorf("got\n%s", b.String())
	}
}
