package report

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Change is how one metric of one path differs between two results. A side that lacks it is nil.
type Change struct {
	Scenario string   `json:"scenario"`
	Path     string   `json:"path"`
	Metric   string   `json:"metric"`
	Unit     string   `json:"unit"`
	Better   Better   `json:"better"`
	A        *Spread  `json:"a"`
	B        *Spread  `json:"b"`
	Percent  *float64 `json:"percent"` // of the median, from A to B; null without both sides, or from 0
	Overlap  bool     `json:"overlap"` // the ranges share values: the change may be noise
}

// Verdict says what a change means: "better", "worse", "same" where the ranges overlap, or which side alone has the metric.
func (c Change) Verdict() string {
	switch {
	case c.A == nil:
		return "only in B"
	case c.B == nil:
		return "only in A"
	case c.Overlap:
		return "same"
	case (c.B.Median > c.A.Median) == (c.Better == Higher):
		return "better"
	}
	return "worse"
}

// Compare lists the changes from a to b: what both have in the order of a, then what only b has.
func Compare(a, b *Results) []Change {
	var list []Change
	for _, s := range a.Summary {
		c := Change{s.Scenario, s.Path, s.Metric, s.Unit, s.Better, &s.Spread, nil, nil, false}
		if o := b.find(s.Scenario, s.Path, s.Metric); o != nil {
			c.B = &o.Spread
			c.Overlap = s.overlap(o.Spread)
			if s.Median != 0 {
				percent := (o.Median/s.Median - 1) * 100
				c.Percent = &percent
			}
		}
		list = append(list, c)
	}
	for _, s := range b.Summary {
		if a.find(s.Scenario, s.Path, s.Metric) == nil {
			list = append(list, Change{s.Scenario, s.Path, s.Metric, s.Unit, s.Better, nil, &s.Spread, nil, false})
		}
	}
	return list
}

// Differences names what besides the code may explain changes: settings and hosts that are not the same.
func Differences(a, b *Results) (list []string) {
	differ := func(what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			list = append(list, fmt.Sprintf("%s: %s in A, %s in B", what, x, y))
		}
	}
	differ("processor", a.Host.CPU, b.Host.CPU)
	differ("cores", a.Host.Cores, b.Host.Cores)
	differ("kernel", a.Host.Kernel, b.Host.Kernel)
	differ("Go", a.Host.Go, b.Host.Go)
	differ("commit", a.Host.Commit, b.Host.Commit)
	differ("root", a.Host.Root, b.Host.Root)
	differ("congestion control", a.Host.Congestion, b.Host.Congestion)
	differ("MTU", a.Host.MTU, b.Host.MTU)
	differ("offload", a.Settings.Offload, b.Settings.Offload)
	differ("pin", a.Settings.Pin, b.Settings.Pin)
	differ("generator", a.Settings.Generator, b.Settings.Generator)
	differ("runs", a.Settings.Runs, b.Settings.Runs)
	differ("seconds per run", a.Settings.Duration, b.Settings.Duration)
	return list
}

// PrintChanges writes the changes as a table.
func PrintChanges(w io.Writer, changes []Change) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tPATH\tMETRIC\tUNIT\tA\tB\tCHANGE\tRANGES\tVERDICT")
	for _, c := range changes {
		percent, ranges := "-", "-"
		if c.Percent != nil {
			percent = fmt.Sprintf("%+.1f %%", *c.Percent)
		}
		if c.A != nil && c.B != nil {
			ranges = "apart"
			if c.Overlap {
				ranges = "overlap"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Scenario, c.Path, c.Metric, c.Unit, side(c.A), side(c.B), percent, ranges, c.Verdict())
	}
	return t.Flush()
}

func side(s *Spread) string {
	if s == nil {
		return "-"
	}
	return s.String()
}
