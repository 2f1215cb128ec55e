package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Duels holds weft's own paths against each other path, run by run. The summary has the ratios to one path only, which is
// not always the one that a reader wants to compare with.
type Duels struct {
	To   []string // the other paths
	Rows []Duel
}

// Duel is one path in one scenario.
type Duel struct {
	Scenario, Path string
	Metric         string   // what the scenario is about
	Ratios         []*Ratio // to the paths of Duels.To; nil where there is none
}

// Duels returns them, nil if they say no more than the summary.
func (r *Results) Duels() *Duels {
	values := make(map[series]map[int]float64)
	var own []series
	for _, run := range r.Runs {
		if len(run.Metrics) == 0 {
			continue
		}
		s := series{run.Scenario, run.Path, run.Metrics[0].Name}
		if values[s] == nil {
			values[s] = make(map[int]float64)
			if ours(run.Path) {
				own = append(own, s)
			}
		}
		values[s][run.Run] = run.Metrics[0].Value
	}
	d := &Duels{}
	for _, path := range r.Settings.Paths {
		if slices.ContainsFunc(own, func(s series) bool { return s.path != path && values[series{s.scenario, path, s.metric}] != nil }) {
			d.To = append(d.To, path)
		}
	}
	if len(d.To) < 2 {
		return nil
	}
	for _, s := range own {
		row := Duel{Scenario: s.scenario, Path: s.path, Metric: s.metric, Ratios: make([]*Ratio, len(d.To))}
		for i, path := range d.To {
			if path != s.path {
				row.Ratios[i] = ratio(values[s], values[series{s.scenario, path, s.metric}], path)
			}
		}
		d.Rows = append(d.Rows, row)
	}
	return d
}

// ours tells weft's paths from those that they are compared with.
func ours(path string) bool { return path == "weft" || strings.HasPrefix(path, "weft-") }

// References returns the paths that the summary's ratios are taken against, in their order there.
func (r *Results) References() []string {
	var list []string
	for _, s := range r.Summary {
		if s.Ratio != nil && !slices.Contains(list, s.Ratio.To) {
			list = append(list, s.Ratio.To)
		}
	}
	if list == nil {
		list = []string{r.Reference}
	}
	return list
}

// print writes the duels as a table.
func (d *Duels) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "SCENARIO\tRATIO OF\tTO %s\n", strings.Join(d.To, "\tTO "))
	for _, row := range d.Rows {
		fmt.Fprintf(t, "%s\t%s %s", row.Scenario, row.Path, row.Metric)
		for _, ratio := range row.Ratios {
			fmt.Fprintf(t, "\t%s", Summary{Ratio: ratio}.ratio())
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
