// Package report is what the bench hands back: every run as it was measured, a summary with ratios to a reference path,
// the comparison of two results, and a page to look at.
//
//	results.json
//	├── command, started, finished, settings     how to get it again
//	├── host                                     where it was measured
//	├── reference                                the path that ratios are taken against, where a ratio does not name another
//	├── runs[]                                   one load on one path: metrics, processor times, latency buckets
//	└── summary[]                                per scenario, path and metric: median, min, max, n, ratio and to which path
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/bench/cpu"
	"github.com/weftnet/weft/bench/histogram"
)

// Better says in which direction a metric is good.
type Better string

// The directions.
const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Metric is one figure of a run.
type Metric struct {
	Name   string  `json:"metric"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	Better Better  `json:"better"`
}

// Run is one load on one path.
type Run struct {
	Run       int                  `json:"run"`   // from 1; runs of the same number are compared with each other
	Order     int                  `json:"order"` // of this path among the paths of its run, from 1
	Scenario  string               `json:"scenario"`
	Path      string               `json:"path"`
	Started   time.Time            `json:"started"`
	Seconds   float64              `json:"seconds"`             // the measured window
	Generator string               `json:"generator,omitempty"` // what made the load
	Metrics   []Metric             `json:"metrics,omitempty"`
	CPU       cpu.Times            `json:"cpu"`               // of the whole machine, in the window
	Latency   *histogram.Histogram `json:"latency,omitempty"` // [nanoseconds, count] pairs
	Error     string               `json:"error,omitempty"`   // why there are no metrics
}

// Settings are the choices under which everything was measured.
type Settings struct {
	Paths     []string `json:"paths"`
	Scenarios []string `json:"scenarios"`
	Runs      int      `json:"runs"`
	Duration  float64  `json:"duration"` // seconds
	Warmup    float64  `json:"warmup"`   // seconds
	Offload   string   `json:"offload"`  // on or off
	Generator string   `json:"generator"`
	Pin       bool     `json:"pin"` // each host had one processor for itself
}

// Host is the machine.
type Host struct {
	CPU        string          `json:"cpu"`
	Cores      int             `json:"cores"`
	MemoryMB   int             `json:"memory_mb"`
	Kernel     string          `json:"kernel"`
	Arch       string          `json:"arch"`
	Go         string          `json:"go"`
	Commit     string          `json:"commit"`
	Root       bool            `json:"root"`       // false: an ordinary user in a user namespace
	Congestion string          `json:"congestion"` // TCP congestion control of all hosts
	MTU        map[string]int  `json:"mtu"`        // underlay and overlay
	Offloads   map[string]bool `json:"offloads"`   // of the underlay's devices
}

// Results is all of it.
type Results struct {
	Command     string    `json:"command"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
	Interrupted bool      `json:"interrupted,omitempty"` // stopped before all runs were done
	Host        Host      `json:"host"`
	Settings    Settings  `json:"settings"`
	Reference   string    `json:"reference"`
	Runs        []Run     `json:"runs"`
	Summary     []Summary `json:"summary"`
}

// The files in a results directory.
const (
	jsonName = "results.json"
	htmlName = "report.html"
)

// Write puts results.json and report.html into dir, which it makes if it is missing, and returns their names.
func (r *Results) Write(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("report: make the output directory: %w", err)
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("report: encode the results: %w", err)
	}
	page, err := r.HTML()
	if err != nil {
		return nil, err
	}
	names := []string{filepath.Join(dir, jsonName), filepath.Join(dir, htmlName)}
	for i, content := range [][]byte{append(text, '\n'), page} {
		if err := os.WriteFile(names[i], content, 0o666); err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
	}
	return names, nil
}

// Read takes a results.json, or a directory that holds one.
func Read(name string) (*Results, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, jsonName)
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("report: no results at %s; expected a results.json, or a directory that weft bench run --out wrote", name)
	}
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	r := &Results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("report: %s is not a results.json of weft bench: %w", name, err)
	}
	if len(r.Summary) == 0 {
		return nil, fmt.Errorf("report: %s holds no summary; expected the results.json of a weft bench run with at least one complete run", name)
	}
	return r, nil
}
