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

// Reference is the path that ratios are taken against.
const Reference = "kernel-vxlan"

// Options says what to measure, and how. Default returns the usual ones.
type Options struct {
	Paths     []string // nil: all that this host can run
	Scenarios []string // nil: all
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
	paths, err = choose("--paths", o.Paths, topology.Paths(), func(p topology.Path) string { return p.Name })
	return paths, scenarios, err
}

// plan checks the options against this host and fills in what they leave open.
func (o *Options) plan() (p plan, err error) {
	paths, scenarios, err := o.chosen()
	if err != nil {
		return p, err
	}
	p.scenarios = scenarios
	if o.Generator == GeneratorIperf3 {
		if _, err := exec.LookPath("iperf3"); err != nil {
			return p, fmt.Errorf("bench: --generator iperf3: %w; install iperf3, or leave the flag out", err)
		}
	}
	for _, path := range paths {
		switch missing := path.Missing(); {
		case missing == nil:
			p.paths = append(p.paths, path)
		case o.Paths != nil:
			return p, fmt.Errorf("bench: --paths %s: this host cannot run it: %w", path.Name, missing)
		default:
			p.skipped = append(p.skipped, fmt.Sprintf("%s is left out: %v", path.Name, missing))
		}
	}
	if len(p.paths) == 0 {
		return p, fmt.Errorf("bench: this host can run none of the paths: %s", strings.Join(p.skipped, "; "))
	}
	return p, nil
}

// choose picks the named ones of all, in the order in which they were named. No names mean all.
func choose[T any](flag string, names []string, all []T, name func(T) string) ([]T, error) {
	if names == nil {
		return all, nil
	}
	var list []T
	for i, n := range names {
		at := slices.IndexFunc(all, func(t T) bool { return name(t) == n })
		if at < 0 {
			var known []string
			for _, t := range all {
				known = append(known, name(t))
			}
			return nil, fmt.Errorf("bench: %s %q; expected one of %s", flag, n, strings.Join(known, ", "))
		}
		if slices.Contains(names[:i], n) {
			return nil, fmt.Errorf("bench: %s names %s twice; expected each once", flag, n)
		}
		list = append(list, all[at])
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("bench: %s names nothing; leave the flag out to take all", flag)
	}
	return list, nil
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
