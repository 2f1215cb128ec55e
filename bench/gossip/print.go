package gossip

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes the results as tables.
func (r *Report) Print(w io.Writer) error {
	o := r.Options
	fmt.Fprintf(w, "gossip in %s time, one way %s to %s, loss %g %%; %d records on each node; churn: a join, leave or crash every %s\n\n",
		o.Clock, o.Link.Latency, o.Link.Latency+o.Link.Jitter, o.Link.Loss*100, o.Records, o.Every)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODES\tFROM\tUNTIL\tTIMES\tP50\tP90\tP99\tMAX\tMISSED")
	for _, s := range r.Sizes {
		for _, row := range []struct {
			from, until string
			Spread
		}{
			{"put, quiet", "all have it", s.Quiet},
			{"put, churn", "all have it", s.Churn},
			{"put after join", "all have it", s.Join},
			{"start", "in sync", s.Ready},
		} {
			if row.Count > 0 {
				fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\n", s.Nodes, row.from, row.until, row.Count,
					seconds(row.P50), seconds(row.P90), seconds(row.P99), seconds(row.Max), row.Missed)
			}
		}
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t\t\t\nNODES\tEACH NODE\tBYTES/S\tPACKETS/S\tCPU\tLARGEST PACKET\t\t\t")
	for _, s := range r.Sizes {
		for _, row := range []struct {
			when string
			Cost
		}{{"idle", s.Idle}, {"churn", s.Busy}} {
			if row.Packets > 0 {
				fmt.Fprintf(t, "%d\t%s\t%.0f\t%.1f\t%.2f %%\t%d\t\t\t\n", s.Nodes, row.when, row.Bytes, row.Packets, row.CPU*100, s.Largest)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, r.remarks())
	return err
}

// seconds prints a time as short as its size allows.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d >= time.Second {
		return fmt.Sprintf("%.2f s", s)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// Target is what gossip is to achieve.
type Target struct {
	Name  string  `json:"name"`
	Nodes int     `json:"nodes"`
	Below float64 `json:"below_s"`
	Is    float64 `json:"is_s"`
}

// Targets returns the targets for the sizes that were measured.
func (r *Report) Targets() (all []Target) {
	for _, s := range r.Sizes {
		switch s.Nodes {
		case 25:
			all = append(all, Target{"quiet, p99", 25, 0.5, s.Quiet.P99})
			if s.Churn.Count > 0 {
				worst := max(s.Churn.Max, s.Join.Max)
				all = append(all, Target{"churn, p99", 25, 3, s.Churn.P99}, Target{"churn, worst, joins included", 25, 5, worst})
			}
		case 100:
			all = append(all, Target{"quiet, p99", 100, 1, s.Quiet.P99})
		}
	}
	return all
}

// saturated is the share of the processors' time above which the real clock measures this machine.
const saturated = 0.7

func (r *Report) remarks() string {
	var b strings.Builder
	for _, t := range r.Targets() {
		verdict := "met"
		if t.Is >= t.Below {
			verdict = "MISSED"
		}
		fmt.Fprintf(&b, "\ntarget at %d nodes: %s below %g s: %s (%s)", t.Nodes, t.Name, t.Below, verdict, seconds(t.Is))
	}
	for _, s := range r.Sizes {
		if used := max(s.Idle.Used, s.Busy.Used); r.Options.Clock == Real && used > saturated*float64(r.CPUs) {
			fmt.Fprintf(&b, "\nat %d nodes %.1f of %d processors were in use: these times are this machine's, not the protocol's; use virtual time",
				s.Nodes, used, r.CPUs)
		}
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}
