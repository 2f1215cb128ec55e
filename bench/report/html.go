package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/bench/histogram"
)

//go:embed report.html.tmpl
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"bars":   bars,
	"curves": curves,
	"figure": figure,
	"join":   func(list []string) string { return strings.Join(list, " or ") },
	"time":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") },
}).Parse(pageText))

// HTML renders the results as one page that needs nothing else.
func (r *Results) HTML() ([]byte, error) {
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("report: render the page: %w", err)
	}
	return b.Bytes(), nil
}

// Chart is one metric of one scenario, a bar per path.
type Chart struct {
	Metric, Unit string
	Better       Better
	Bars         []Bar
}

// Bar is one path in a Chart.
type Bar struct {
	Path  string
	Index int // of the path among all, which gives its color
	Spread
	Ratio *Ratio
}

// Curve is a path's distribution of latencies.
type Curve struct {
	Path    string
	Index   int
	Latency *histogram.Histogram
}

// Section is what the page shows of one scenario.
type Section struct {
	Scenario string
	Charts   []Chart
	Curves   []Curve
	Rows     []Summary
}

// Sections returns the page's scenarios in the order of the summary.
func (r *Results) Sections() []Section {
	var list []Section
	for _, s := range r.Summary {
		if len(list) == 0 || list[len(list)-1].Scenario != s.Scenario {
			list = append(list, Section{Scenario: s.Scenario, Curves: r.curves(s.Scenario)})
		}
		section := &list[len(list)-1]
		section.Rows = append(section.Rows, s)
		// The first metric is what the scenario is about; processor time is what it costs.
		if s.Metric == section.Rows[0].Metric || s.Metric == "cpu" {
			section.draw(s, slices.Index(r.Settings.Paths, s.Path))
		}
	}
	return list
}

// Cell is one path in one scenario: what the scenario is about, nil if the path was not measured.
type Cell struct{ *Summary }

// Cells returns what the section is about for each of paths.
func (s Section) Cells(paths []string) []Cell {
	list := make([]Cell, len(paths))
	for i := range s.Rows {
		row := &s.Rows[i]
		if at := slices.Index(paths, row.Path); at >= 0 && row.Metric == s.Rows[0].Metric {
			list[at] = Cell{row}
		}
	}
	return list
}

func (s *Section) draw(m Summary, index int) {
	i := slices.IndexFunc(s.Charts, func(c Chart) bool { return c.Metric == m.Metric })
	if i < 0 {
		i = len(s.Charts)
		s.Charts = append(s.Charts, Chart{Metric: m.Metric, Unit: m.Unit, Better: m.Better})
	}
	s.Charts[i].Bars = append(s.Charts[i].Bars, Bar{m.Path, max(index, 0), m.Spread, m.Ratio})
}

func (r *Results) curves(scenario string) (list []Curve) {
	for i, path := range r.Settings.Paths {
		all := new(histogram.Histogram)
		for _, run := range r.Runs {
			if run.Scenario == scenario && run.Path == path && run.Latency != nil {
				all.Merge(run.Latency)
			}
		}
		if all.Count() > 0 {
			list = append(list, Curve{path, i, all})
		}
	}
	return list
}

// Failures returns the runs without figures.
func (r *Results) Failures() (list []Run) {
	for _, run := range r.Runs {
		if run.Error != "" {
			list = append(list, run)
		}
	}
	return list
}

// Switches lists the underlay's offloads as text, sorted.
func (h Host) Switches() (list []string) {
	for name, on := range h.Offloads {
		state := "off"
		if on {
			state = "on"
		}
		list = append(list, name+" "+state)
	}
	slices.Sort(list)
	return list
}
