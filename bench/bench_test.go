package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/bench/proxy"
	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/topology"
	"github.com/weftnet/weft/internal/lab"
)

// TestMain makes the test binary the load generator and the proxy that the bench starts: weft bench load ROLE, weft bench
// proxy AT TO.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "bench" && os.Args[2] == "proxy" {
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		defer stop()
		if err := proxy.Main(ctx, os.Args[3], os.Args[4], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 4 && os.Args[1] == "bench" && os.Args[2] == "load" {
		if err := load.Serve(os.Stdin, os.Stdout, os.Args[3] == "server"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needNamespaces(t *testing.T) {
	t.Helper()
	if lab.Unprivileged() {
		t.Skip("takes CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root")
	}
}

func TestOptionsThatCannotBeAreNamedWithTheChoices(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"an unknown path", func(o *Options) { o.Paths = []string{"direct", "wefft"} }, []string{`--paths "wefft"`, "direct, kernel-vxlan, weft"}},
		{"an unknown scenario", func(o *Options) { o.Scenarios = []string{"tcp2"} }, []string{`--scenarios "tcp2"`, "tcp1, tcp4"}},
		{"a scenario that no named path carries", func(o *Options) { o.Paths, o.Scenarios = []string{"direct", "weft-egress"}, []string{"tcp1", "dns"} },
			[]string{"--scenarios dns: none of the paths direct, weft-egress", "one of dnsmasq, weft-dns among --paths"}},
		{"local traffic on a way out", func(o *Options) { o.Paths, o.Scenarios = []string{"egress"}, []string{"local-rr"} },
			[]string{"--scenarios local-rr", "expected one of direct, kernel-vxlan, weft among --paths"}},
		{"a path that carries no named scenario", func(o *Options) { o.Paths, o.Scenarios = []string{"weft", "dnsmasq"}, []string{"tcp1", "rr"} },
			[]string{"--paths dnsmasq", "none of the scenarios tcp1, rr; expected one of dns among --scenarios"}},
		{"a path and its group", func(o *Options) { o.Paths = []string{"names", "dnsmasq"} }, []string{"names dnsmasq twice"}},
		{"a scenario twice", func(o *Options) { o.Scenarios = []string{"rr", "tcp1", "rr"} }, []string{"rr twice"}},
		{"no scenario", func(o *Options) { o.Scenarios = []string{} }, []string{"--scenarios names nothing"}},
		{"no runs", func(o *Options) { o.Runs = 0 }, []string{"--runs 0", "at least 1"}},
		{"hardly any time", func(o *Options) { o.Duration = time.Millisecond }, []string{"--duration 1ms", "at least 100ms"}},
		{"half an offload", func(o *Options) { o.Offload = "half" }, []string{`--offload "half"`, "on or off"}},
		{"an unknown generator", func(o *Options) { o.Generator = "netperf" }, []string{`--generator "netperf"`, "weft or iperf3"}},
		{"no directory", func(o *Options) { o.Out = "" }, []string{"--out", "a directory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opt := Default()
			tt.change(&opt)
			_, err := Run(t.Context(), opt, new(bytes.Buffer))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not contain %q", err, want)
				}
			}
		})
	}
}

func TestWhatIsNotNamedFollowsFromWhatIs(t *testing.T) {
	const overlay, egress, common = "direct kernel-vxlan weft", "kernel-masquerade go-proxy slirp4netns pasta weft-egress", "tcp1 tcp4 tcp1-reverse udp64 udp1400 rr crr"
	tests := []struct {
		name             string
		paths, scenarios []string
		wantPaths        string
		wantScenarios    string
	}{
		{"nothing means the overlay", nil, nil, overlay, common + " local-tcp1 local-rr"},
		{"paths bring what they carry", []string{"weft-egress", "go-proxy"}, nil, "weft-egress go-proxy", common},
		{"a group stands for its paths", []string{"egress"}, []string{"crr"}, egress, "crr"},
		{"groups and paths together", []string{"names", "weft"}, nil, "dnsmasq weft-dns weft", common + " local-tcp1 local-rr dns"},
		{"scenarios bring the paths of their first group", nil, []string{"dns"}, "dnsmasq weft-dns", "dns"},
		{"those of several too", nil, []string{"tcp1", "dns"}, overlay + " dnsmasq weft-dns", "tcp1 dns"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opt := Default()
			opt.Paths, opt.Scenarios = tt.paths, tt.scenarios
			paths, scenarios, err := opt.chosen()
			lab.Must(t, err)
			if got := strings.ReplaceAll(join(paths, func(p topology.Path) string { return p.Name }), ",", ""); got != tt.wantPaths {
				t.Errorf("paths %s, want %s", got, tt.wantPaths)
			}
			if got := strings.ReplaceAll(join(scenarios, func(s Scenario) string { return s.Name }), ",", ""); got != tt.wantScenarios {
				t.Errorf("scenarios %s, want %s", got, tt.wantScenarios)
			}
		})
	}
}

func TestTheCommandMeasuresTheSameAgain(t *testing.T) {
	opt := Default()
	opt.Offload, opt.Out = "off", "it's here"
	got := opt.command(report.Settings{Paths: []string{"direct", "weft"}, Scenarios: []string{"rr"}})
	want := `weft bench run --paths direct,weft --scenarios rr --runs 7 --duration 3s --offload off --generator weft --out 'it'\''s here'`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Scenarios() {
		if seen[s.Name] || s.About == "" || s.measure == nil || len(s.Groups) == 0 {
			t.Errorf("scenario %q is there twice or incomplete", s.Name)
		}
		seen[s.Name] = true
	}
	for _, g := range topology.Groups() {
		if seen[string(g)] || !slices.ContainsFunc(topology.Paths(), func(p topology.Path) bool { return p.Name == g.Reference() && p.Group == g }) {
			t.Errorf("group %q is a scenario too, or its reference %q no path of it", g, g.Reference())
		}
		seen[string(g)] = true
	}
	for _, p := range topology.Paths() {
		if seen[p.Name] || p.About == "" || p.Missing == nil {
			t.Errorf("path %q is there twice or incomplete", p.Name)
		}
		seen[p.Name] = true
	}
}

func TestABenchOfTheKernelsPaths(t *testing.T) {
	needNamespaces(t)
	opt := Default()
	opt.Paths, opt.Runs, opt.Duration, opt.Out = []string{"direct", "kernel-vxlan"}, 2, 200*time.Millisecond, t.TempDir()
	var progress strings.Builder
	results, err := Run(t.Context(), opt, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if _, err := results.Write(opt.Out); err != nil {
		t.Fatal(err)
	}
	if results, err = report.Read(opt.Out); err != nil {
		t.Fatal(err)
	}

	if n := strings.Count(progress.String(), "\n"); n != len(results.Runs) || n != 2*2*9 {
		t.Errorf("%d lines of progress, %d runs", n, len(results.Runs))
	}
	first := map[int]string{}
	for _, r := range results.Runs {
		if r.Order == 1 {
			first[r.Run] = r.Path
		}
		if r.Seconds < 0.1 || r.Seconds > 2 || r.Metrics[0].Value <= 0 {
			t.Errorf("run %+v", r)
		}
		if latencies := strings.HasSuffix(r.Scenario, "rr"); latencies != (r.Latency != nil) {
			t.Errorf("%s on %s: latencies %v", r.Scenario, r.Path, r.Latency)
		}
	}
	if first[1] != "direct" || first[2] != "kernel-vxlan" {
		t.Errorf("the paths do not take turns: first were %v", first)
	}
	for _, s := range results.Summary {
		if s.N != 2 {
			t.Errorf("%s on %s: %s has %d values", s.Scenario, s.Path, s.Metric, s.N)
		}
	}
	if h := results.Host; h.CPU == "" || h.Kernel == "" || h.Cores < 1 || h.MemoryMB < 1 || !h.Offloads["tx-tcp-segmentation"] {
		t.Errorf("host %+v", h)
	}
	if results.Interrupted {
		t.Error("says that it was interrupted")
	}
	if left := children(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestABenchOfWaysOutAndOfAResolver(t *testing.T) {
	needNamespaces(t)
	opt := Default()
	opt.Paths, opt.Scenarios, opt.Runs, opt.Duration = []string{"go-proxy", "kernel-masquerade"}, []string{"tcp1", "tcp1-reverse", "crr", "udp1400"}, 1, 200*time.Millisecond
	for _, p := range topology.Paths() {
		if p.Name == "dnsmasq" {
			if err := p.Missing(); err != nil {
				t.Log("without the resolver:", err)
				break
			}
			opt.Paths, opt.Scenarios = append(opt.Paths, p.Name), append(opt.Scenarios, "dns")
		}
	}
	var progress strings.Builder
	results, err := Run(t.Context(), opt, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if want := 2*4 + len(opt.Paths) - 2; len(results.Runs) != want {
		t.Errorf("%d runs, want %d:\n%s", len(results.Runs), want, progress.String())
	}
	for _, r := range results.Runs {
		if latencies := r.Scenario == "crr" || r.Scenario == "dns"; latencies != (r.Latency != nil) || r.Metrics[0].Value <= 0 {
			t.Errorf("run %+v", r)
		}
		if (r.Path == "dnsmasq") != (r.Scenario == "dns") {
			t.Errorf("%s ran %s", r.Path, r.Scenario)
		}
	}
	for _, s := range results.Summary {
		if s.Ratio != nil && s.Ratio.To != map[string]string{"go-proxy": "kernel-masquerade", "kernel-masquerade": "kernel-masquerade", "dnsmasq": "dnsmasq"}[s.Path] {
			t.Errorf("%s is held against %s", s.Path, s.Ratio.To)
		}
	}
	if left := children(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestAnInterruptedWayOutEndsItsPrograms(t *testing.T) {
	needNamespaces(t)
	opt := Default()
	opt.Paths, opt.Scenarios, opt.Duration = []string{"go-proxy"}, []string{"tcp1"}, time.Hour
	for _, p := range topology.Paths() {
		if (p.Name == "slirp4netns" || p.Name == "pasta") && p.Missing() == nil {
			opt.Paths = append(opt.Paths, p.Name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	before := descriptors(t)
	go func() {
		_, err := Run(ctx, opt, new(bytes.Buffer))
		done <- err
	}()
	lab.Eventually(t, func() bool { return strings.Count(children(t), "bench load") == 2 }, 20*time.Second)
	if n := strings.Count(children(t), "\n"); n != 2+len(opt.Paths) {
		t.Errorf("%d programs run for %v:\n%s", n, opt.Paths, children(t))
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "interrupted after 0 of") || strings.Contains(err.Error(), "did not end well") {
		t.Errorf("error %v", err)
	}
	if left := children(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d namespaces are held, %d before", after, before)
	}
}

func TestWithoutOffloadsTheUnderlayHasNone(t *testing.T) {
	needNamespaces(t)
	opt := Default()
	opt.Paths, opt.Scenarios, opt.Runs, opt.Duration, opt.Offload = []string{"kernel-vxlan"}, []string{"rr"}, 1, minDuration, "off"
	var progress strings.Builder
	results, err := Run(t.Context(), opt, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if len(results.Host.Offloads) < 5 {
		t.Errorf("offloads %v", results.Host.Offloads)
	}
	for name, on := range results.Host.Offloads {
		if on {
			t.Errorf("%s is on", name)
		}
	}
}

// interrupter cancels a context when the first run is reported.
type interrupter struct{ cancel context.CancelFunc }

func (i interrupter) Write(b []byte) (int, error) {
	i.cancel()
	return len(b), nil
}

func TestAnInterruptedBenchKeepsWhatItHasAndLeavesNothingBehind(t *testing.T) {
	needNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	opt := Default()
	opt.Paths, opt.Scenarios, opt.Duration = []string{"direct", "kernel-vxlan"}, []string{"tcp1", "udp64"}, minDuration
	before := descriptors(t)
	results, err := Run(ctx, opt, interrupter{cancel})
	if err == nil || !strings.Contains(err.Error(), "interrupted after 1 of 28 runs") {
		t.Errorf("error %v", err)
	}
	if results == nil || !results.Interrupted || len(results.Runs) != 1 || len(results.Summary) == 0 {
		t.Errorf("results %+v", results)
	}
	if left := children(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d namespaces are held, %d before", after, before)
	}
}

func TestABenchIsInterruptedInTheMiddleOfARun(t *testing.T) {
	needNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	opt := Default()
	opt.Paths, opt.Scenarios, opt.Duration = []string{"direct"}, []string{"tcp1"}, time.Hour
	done := make(chan error)
	go func() {
		_, err := Run(ctx, opt, new(bytes.Buffer))
		done <- err
	}()
	lab.Eventually(t, func() bool { return strings.Count(children(t), "bench load") == 2 }, 10*time.Second)
	cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "interrupted after 0 of 7 runs") {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("goes on")
	}
	if left := children(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestARunThatFailsIsReportedAndTheOthersGoOn(t *testing.T) {
	needNamespaces(t)
	calls := 0
	failing := Scenario{Name: "failing", Groups: []topology.Group{topology.Overlay}, measure: func(context.Context, bed) (measurement, error) {
		calls++
		if calls == 1 {
			return measurement{}, os.ErrDeadlineExceeded
		}
		return measurement{metrics: []report.Metric{{Name: "rate", Value: 1}}}, nil
	}}
	opt := Default()
	opt.Runs = 2
	s := &session{opt: opt, plan: plan{scenarios: []Scenario{failing}}, lanes: []*lane{{path: topology.Paths()[0]}}, progress: new(bytes.Buffer)}
	defer s.close()
	err := s.measure(t.Context())
	if err == nil || !strings.Contains(err.Error(), "1 of 2 runs failed") {
		t.Errorf("error %v", err)
	}
	if len(s.runs) != 2 || s.runs[0].Error == "" || s.runs[1].Error != "" {
		t.Errorf("runs %+v", s.runs)
	}
}

// children returns the command lines of this process's children, a line each.
func children(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has ended has no children
		for _, pid := range strings.Fields(string(text)) {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			fmt.Fprintf(&all, "%s\n", bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
	return all.String()
}

// descriptors counts the namespaces that this process holds.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, _ := os.Readlink(name); strings.HasPrefix(target, "net:[") {
			n++
		}
	}
	return n
}
