// Package bench measures what user-space networking costs against the kernel's, side by side on one machine: paths from one
// container to another, to the outside, or to a resolver, and scenarios that put a load on them.
//
//	for each run 1…N
//	  for each scenario
//	    for each path that can carry it, a different        A B C, B C A, C A B, …
//	    one first in each run
//	      warm-up, then the measured window                 bench/load in the containers' namespaces
//	                                                        bench/cpu over the whole machine
//	results.json, report.html, a table                      bench/report
//
// All paths stand from beginning to end, in namespaces of their own that vanish with the process. Rates on a shared machine
// drift from minute to minute; runs of the same number lie next to each other in time, so that their ratios do not.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/topology"
)

// Run measures what opt asks for and reports progress to w, a line per run. It returns the results that there are when
// ctx ends or runs fail, together with the error: runs that failed are in them, each with its reason.
func Run(ctx context.Context, opt Options, w io.Writer) (results *report.Results, err error) {
	p, err := opt.plan()
	if err != nil {
		return nil, err
	}
	for _, reason := range p.skipped {
		fmt.Fprintln(w, reason)
	}
	s := &session{opt: opt, plan: p, progress: w}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, path := range p.paths {
		l := &lane{path: path}
		s.lanes = append(s.lanes, l)
		if err := l.build(ctx, opt); err != nil {
			return nil, err
		}
	}
	features, err := s.lanes[0].net.Features()
	if err != nil {
		return nil, err
	}
	settings := opt.settings(p)
	results = &report.Results{
		Command: opt.command(settings), Started: time.Now(), Host: describe(features, opt), Settings: settings,
		Reference: p.paths[0].Group.Reference(),
	}
	err = s.measure(ctx)
	results.Finished, results.Interrupted = time.Now(), ctx.Err() != nil
	results.Runs = s.runs
	results.Summary = report.Summarize(s.runs, p.reference)
	return results, err
}

// session is a bench under way.
type session struct {
	opt      Options
	plan     plan
	progress io.Writer
	lanes    []*lane
	runs     []report.Run
}

// lane is a path that stands, or is to be built again because a run on it failed.
type lane struct {
	path topology.Path
	net  *topology.Net
}

func (l *lane) build(ctx context.Context, opt Options) (err error) {
	l.net, err = l.path.Build(ctx, topology.Options{Offload: opt.Offload == "on", Pin: opt.Pin})
	return err
}

func (l *lane) close() error {
	if l.net == nil {
		return nil
	}
	err := l.net.Close()
	l.net = nil
	return err
}

func (s *session) close() error {
	var errs []error
	for _, l := range s.lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// measure goes through all runs. A run that fails does not end the bench: an hour's other figures would be lost.
func (s *session) measure(ctx context.Context) error {
	failed := 0
	for run := range s.opt.Runs {
		for _, scenario := range s.plan.scenarios {
			lanes := s.carriers(scenario)
			for order := range lanes {
				l := lanes[(run+order)%len(lanes)]
				r := report.Run{Run: run + 1, Order: order + 1, Scenario: scenario.Name, Path: l.path.Name, Started: time.Now()}
				err := s.one(ctx, l, scenario, &r)
				if ctx.Err() != nil {
					return fmt.Errorf("bench: interrupted after %d of %d runs", len(s.runs), s.total())
				}
				if err != nil {
					failed++
					r.Error = err.Error()
				}
				s.runs = append(s.runs, r)
				s.tell(r)
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("bench: %d of %d runs failed; the results name each and its reason", failed, s.total())
	}
	return nil
}

// carriers returns the lanes that can carry the scenario.
func (s *session) carriers(scenario Scenario) (list []*lane) {
	for _, l := range s.lanes {
		if scenario.fits(l.path) {
			list = append(list, l)
		}
	}
	return list
}

// one measures a scenario on a lane, and takes a lane down on which that failed.
func (s *session) one(ctx context.Context, l *lane, scenario Scenario, r *report.Run) error {
	if l.net == nil {
		if err := l.build(ctx, s.opt); err != nil {
			return err
		}
	}
	b := bed{
		congestion: s.opt.Congestion,
		client:     l.net.Client, server: l.net.Server, names: l.net.Names,
		window: load.Window{Warmup: s.opt.warmup(), Duration: s.opt.Duration},
		iperf3: s.opt.Generator == GeneratorIperf3,
	}
	if scenario.Local {
		b.server = l.net.Neighbor
	}
	m, err := scenario.measure(ctx, b)
	if err != nil {
		return errors.Join(err, l.close())
	}
	r.Metrics, r.Seconds, r.CPU, r.Latency, r.Generator = m.metrics, m.seconds, m.cpu, m.latency, m.generator
	return nil
}

// total is how many runs there are to do.
func (s *session) total() (n int) {
	for _, scenario := range s.plan.scenarios {
		n += s.opt.Runs * len(s.carriers(scenario))
	}
	return n
}

// tell reports a run that is done.
func (s *session) tell(r report.Run) {
	total := s.total()
	left := time.Duration(total-len(s.runs)) * (s.opt.Duration + s.opt.warmup())
	outcome := "failed: " + r.Error
	if r.Error == "" {
		outcome = report.Headline(r.Metrics)
	}
	fmt.Fprintf(s.progress, "%*d/%d  run %d  %-12s  %-17s  %s  (about %v left)\n", len(fmt.Sprint(total)), len(s.runs), total,
		r.Run, r.Scenario, r.Path, outcome, left.Round(time.Second))
}
