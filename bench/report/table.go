package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// String formats s as median [min..max].
func (s Spread) String() string {
	return fmt.Sprintf("%s [%s..%s]", figure(s.Median), figure(s.Min), figure(s.Max))
}

// figure formats v with three significant digits, and all digits before the decimal point.
func figure(v float64) string {
	switch abs := max(v, -v); {
	case abs == 0:
		return "0"
	case abs >= 100:
		return thousands(fmt.Sprintf("%.0f", v))
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.01:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// thousands groups the digits of a whole number of five or more.
func thousands(s string) string {
	if len(s) < 5 {
		return s
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Print writes the summary as a table, without the parts that processor time is made of.
func (r *Results) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "SCENARIO\tPATH\tMETRIC\tMEDIAN [MIN..MAX]\tUNIT\tN\tTO %s\n", strings.Join(r.References(), ", "))
	var above Summary
	for _, s := range r.Summary {
		if slices.Contains(details, s.Metric) {
			continue
		}
		scenario, path := s.Scenario, s.Path
		if scenario == above.Scenario {
			scenario = ""
			if path == above.Path {
				path = ""
			}
		}
		above = s
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", scenario, path, s.Metric, s.Spread, s.Unit, s.N, s.ratio())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if d := r.Duels(); d != nil {
		fmt.Fprintln(w)
		if err := d.print(w); err != nil {
			return err
		}
	}
	if note := r.Noise(); note != "" {
		fmt.Fprintln(w, "\n"+note)
	}
	return nil
}

// quiet is the share of the machine that others may take before the figures say more about them than about the paths.
const quiet = 0.05

// Noise says what disturbed the runs, "" if nothing much did.
func (r *Results) Noise() string {
	disturbed, worst := 0, 0.0
	for _, run := range r.Runs {
		share := run.CPU.Stolen() + run.CPU.Foreign()
		if share > quiet {
			disturbed++
		}
		worst = max(worst, share)
	}
	if disturbed == 0 {
		return ""
	}
	return fmt.Sprintf("The machine was not quiet: in %d of %d runs other programs or other machines took more than %.0f %% of it, at worst %.0f %%. "+
		"Repeat on a quiet machine before relying on these figures.", disturbed, len(r.Runs), quiet*100, worst*100)
}

func (s Summary) ratio() string {
	if s.Ratio == nil {
		return "-"
	}
	return s.Ratio.String()
}

// details are metrics that the terminal's table leaves out; results.json and report.html have them.
var details = []string{"cpu-user", "cpu-system", "cpu-softirq", "p90"}

// Headline is a run in a few words: what it is about, and what that cost.
func Headline(metrics []Metric) string {
	var words string
	for i, m := range metrics {
		if i == 0 {
			words = fmt.Sprintf("%7s %-9s", figure(m.Value), m.Unit)
		} else if m.Name == "cpu" {
			words += fmt.Sprintf("  cpu %s %s", figure(m.Value), m.Unit)
		}
	}
	return words
}
