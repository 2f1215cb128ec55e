package bench

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/topology"
)

// The generators that Options.Generator names.
const (
	GeneratorWeft   = "weft"
	GeneratorIperf3 = "iperf3"
)

// Options says what to measure, and how. Default returns the usual ones.
type Options struct {
	Paths     []string // or groups of them; nil: all that this host can run of the groups where the scenarios are at home
	Scenarios []string // nil: all that some path can carry; without paths either, those of the group overlay
	Runs      int
	Duration  time.Duration
	Offload   string // on or off
	Generator string
	Out       string // directory of the results

	Commit     string // of this program, for the record
	Congestion string // TCP congestion control; empty: the host's own
	Pin        bool   // each of the two hosts has one processor for itself
}

// Default returns the options of `weft bench run` without flags.
func Default() Options {
	return Options{Runs: 7, Duration: 3 * time.Second, Offload: "on", Generator: GeneratorWeft, Out: "bench-out"}
}

// minDuration is the shortest run: processor time is counted in hundredths of a second.
const minDuration = 100 * time.Millisecond

// plan is what the options come to.
type plan struct {
	paths     []topology.Path
	scenarios []Scenario
	skipped   []string // paths left out because this host cannot run them
}

// reference names what the path of that name is held against.
func (p plan) reference(path string) string {
	i := slices.IndexFunc(p.paths, func(t topology.Path) bool { return t.Name == path })
	if i < 0 {
		return ""
	}
	return p.paths[i].Group.Reference()
}

// Check reports options that no host can fulfil.
func (o *Options) Check() error {
	_, _, err := o.chosen()
	return err
}

// chosen checks the options and returns what they name.
func (o *Options) chosen() (paths []topology.Path, scenarios []Scenario, err error) {
	switch {
	case o.Runs < 1:
		err = fmt.Errorf("bench: --runs %d; expected at least 1", o.Runs)
	case o.Duration < minDuration:
		err = fmt.Errorf("bench: --duration %v; expected at least %v", o.Duration, minDuration)
	case o.Offload != "on" && o.Offload != "off":
		err = fmt.Errorf("bench: --offload %q; expected on or off", o.Offload)
	case o.Generator != GeneratorWeft && o.Generator != GeneratorIperf3:
		err = fmt.Errorf("bench: --generator %q; expected %s or %s", o.Generator, GeneratorWeft, GeneratorIperf3)
	case o.Pin && runtime.NumCPU() < 2:
		err = fmt.Errorf("bench: --pin needs two processors, one for each host; this machine has one")
	case o.Out == "":
		err = fmt.Errorf("bench: --out \"\"; expected a directory for the results")
	}
	if err != nil {
		return nil, nil, err
	}
	if scenarios, err = choose("--scenarios", o.Scenarios, Scenarios(), func(s Scenario) string { return s.Name }); err != nil {
		return nil, nil, err
	}
	if paths, err = choose("--paths", ungroup(o.Paths), topology.Paths(), func(p topology.Path) string { return p.Name }); err != nil {
		return nil, nil, err
	}
	return match(o, paths, scenarios)
}

// plan checks the options against this host and fills in what they leave open.
func (o *Options) plan() (p plan, err error) {
	paths, scenarios, err := o.chosen()
	if err != nil {
		return p, err
	}
	if o.Generator == GeneratorIperf3 {
		if _, err := exec.LookPath("iperf3"); err != nil {
			return p, fmt.Errorf("bench: --generator iperf3: %w; install iperf3, or leave the flag out", err)
		}
	}
	for _, path := range paths {
		switch missing := path.Missing(); {
		case missing == nil:
			p.paths = append(p.paths, path)
		case slices.Contains(o.Paths, path.Name):
			return p, fmt.Errorf("bench: --paths %s: this host cannot run it: %w", path.Name, missing)
		default:
			p.skipped = append(p.skipped, fmt.Sprintf("%s is left out: %v", path.Name, missing))
		}
	}
	if len(p.paths) == 0 {
		return p, fmt.Errorf("bench: this host can run none of the paths: %s", strings.Join(p.skipped, "; "))
	}
	for _, scenario := range scenarios {
		if slices.ContainsFunc(p.paths, scenario.fits) {
			p.scenarios = append(p.scenarios, scenario)
		} else {
			p.skipped = append(p.skipped, scenario.Name+" is left out: this host can run none of its paths")
		}
	}
	return p, nil
}

// warmup is how long traffic flows before it is measured: TCP has found its window by then.
func (o Options) warmup() time.Duration { return min(o.Duration/2, 500*time.Millisecond) }

func (o Options) settings(p plan) report.Settings {
	s := report.Settings{Runs: o.Runs, Duration: o.Duration.Seconds(), Warmup: o.warmup().Seconds(), Offload: o.Offload, Generator: o.Generator, Pin: o.Pin}
	for _, path := range p.paths {
		s.Paths = append(s.Paths, path.Name)
	}
	for _, scenario := range p.scenarios {
		s.Scenarios = append(s.Scenarios, scenario.Name)
	}
	return s
}

// command is the command line that measures the same again.
func (o Options) command(s report.Settings) string {
	line := fmt.Sprintf("weft bench run --paths %s --scenarios %s --runs %d --duration %v --offload %s --generator %s --out %s",
		strings.Join(s.Paths, ","), strings.Join(s.Scenarios, ","), o.Runs, o.Duration, o.Offload, o.Generator, quote(o.Out))
	if o.Congestion != "" {
		line += " --congestion " + quote(o.Congestion)
	}
	if o.Pin {
		line += " --pin"
	}
	return line
}

// quote protects a word from the shell where it needs that.
func quote(word string) string {
	if strings.IndexFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./", r)
	}) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
