package report_test

import (
	"fmt"

	"github.com/weftnet/weft/bench/report"
)

func ExampleSummarize() {
	rate := func(v float64) []report.Metric {
		return []report.Metric{{Name: "rate", Unit: "/s", Value: v, Better: report.Higher}}
	}
	summary := report.Summarize([]report.Run{
		{Run: 1, Scenario: "rr", Path: "kernel-vxlan", Metrics: rate(10_000)},
		{Run: 1, Scenario: "rr", Path: "weft", Metrics: rate(12_000)},
		{Run: 2, Scenario: "rr", Path: "weft", Metrics: rate(22_000)},
		{Run: 2, Scenario: "rr", Path: "kernel-vxlan", Metrics: rate(20_000)},
	}, func(string) string { return "kernel-vxlan" })
	fmt.Println(summary[1].Path, summary[1].Ratio)
	// Output: weft 1.15 [1.10..1.20]
}
