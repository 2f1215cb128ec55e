package report

import (
	"cmp"
	"slices"
)

// Spread is the middle and the ends of several values.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spread(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	middle := len(v) / 2
	s := Spread{Median: v[middle], Min: v[0], Max: v[len(v)-1]}
	if len(v)%2 == 0 {
		s.Median = (v[middle-1] + v[middle]) / 2
	}
	return s
}

// overlap reports whether some value lies in both ranges.
func (s Spread) overlap(o Spread) bool { return s.Min <= o.Max && o.Min <= s.Max }

// Ratio is a path's values divided by the reference's, run by run: noise that both saw cancels out. It is path/reference
// whichever direction is better.
type Ratio struct {
	To string `json:"to"`
	Spread
}

// Summary is one metric of one path in one scenario, over all runs.
type Summary struct {
	Scenario string `json:"scenario"`
	Path     string `json:"path"`
	Metric   string `json:"metric"`
	Unit     string `json:"unit"`
	Better   Better `json:"better"`
	Spread
	N     int    `json:"n"`
	Ratio *Ratio `json:"ratio"` // null if the reference was not measured, or always measured as 0
}

// series names the values that one Summary covers.
type series struct{ scenario, path, metric string }

// Summarize computes the summary of runs, in the order in which scenarios, paths and metrics first occur. The function
// names the path that another is held against. Runs that failed have no metrics and add nothing.
func Summarize(runs []Run, reference func(path string) string) []Summary {
	values := make(map[series]map[int]float64) // by number of run
	var order []series
	kind := make(map[series]Metric)
	for _, r := range runs {
		for _, m := range r.Metrics {
			s := series{r.Scenario, r.Path, m.Name}
			if values[s] == nil {
				values[s] = make(map[int]float64)
				order = append(order, s)
				kind[s] = m
			}
			values[s][r.Run] = m.Value
		}
	}
	// Runs come scenario by scenario with the paths taking turns; a reader wants each path's metrics together.
	scenarios, paths := rank(order, func(s series) string { return s.scenario }), rank(order, func(s series) string { return s.path })
	slices.SortStableFunc(order, func(a, b series) int {
		return cmp.Or(cmp.Compare(scenarios[a.scenario], scenarios[b.scenario]), cmp.Compare(paths[a.path], paths[b.path]))
	})
	list := make([]Summary, 0, len(order))
	for _, s := range order {
		all := make([]float64, 0, len(values[s]))
		for _, v := range values[s] {
			all = append(all, v)
		}
		to := reference(s.path)
		list = append(list, Summary{
			Scenario: s.scenario, Path: s.path, Metric: s.metric, Unit: kind[s].Unit, Better: kind[s].Better,
			Spread: spread(all), N: len(all),
			Ratio: ratio(values[s], values[series{s.scenario, to, s.metric}], to),
		})
	}
	return list
}

// rank numbers the names in order of their first occurrence.
func rank(order []series, name func(series) string) map[string]int {
	ranks := make(map[string]int)
	for _, s := range order {
		if _, known := ranks[name(s)]; !known {
			ranks[name(s)] = len(ranks)
		}
	}
	return ranks
}

// ratio divides the path's values by the reference's, by number of run.
func ratio(path, reference map[int]float64, to string) *Ratio {
	var all []float64
	for run, v := range path {
		if ref := reference[run]; ref != 0 {
			all = append(all, v/ref)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &Ratio{To: to, Spread: spread(all)}
}

// find returns the summary of one metric, nil if there is none.
func (r *Results) find(scenario, path, metric string) *Summary {
	for i := range r.Summary {
		if s := &r.Summary[i]; s.Scenario == scenario && s.Path == path && s.Metric == metric {
			return s
		}
	}
	return nil
}
