// Package gossip measures how fast gossip converges, and what it costs: clusters of many nodes in one process, on a network
// in memory (internal/simnet), in virtual time.
//
// A cluster of each size goes through:
//
//	form ──► idle ──────► quiet ──────────► churn ───────────────────────────────────► end
//	         traffic      one put at a      every Every one join, leave, join, crash,
//	         and CPU      time, until all   half of the joins under an earlier identity;
//	                      nodes have it     puts go on meanwhile; each joiner puts at once
//
// What is measured is always one perturbation: from a Put at one node until all nodes have its value, visible, that took part
// at the Put and have not left or crashed since. Writers neither leave nor crash before that, for leaving out what they could
// not finish would leave out the slow ones.
//
// Virtual time (testing/synctest) advances when all goroutines wait. Processors are infinitely fast in it, so that 300 nodes
// do not measure this machine but the protocol and the link; the processor time that they take is reported beside it.
package gossip

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/weftnet/weft/internal/simnet"
)

// The clocks.
const (
	Virtual = "virtual"
	Real    = "real"
)

// Options says what to measure. Default returns the usual ones.
type Options struct {
	Nodes   []int         `json:"nodes"`    // sizes of the clusters
	Records int           `json:"records"`  // that each node has
	Puts    int           `json:"puts"`     // measured while nothing else happens
	Idle    time.Duration `json:"idle_ns"`  // how long the idle cluster's traffic is counted
	Churn   time.Duration `json:"churn_ns"` // how long nodes join, leave and crash
	Every   time.Duration `json:"every_ns"` // between two of these
	Rate    float64       `json:"rate"`     // puts per second meanwhile
	Limit   time.Duration `json:"limit_ns"` // after which a put counts as missed
	Link    simnet.Link   `json:"link"`
	Seed    uint64        `json:"seed"`
	Clock   string        `json:"clock"` // Virtual or Real

	Commit string `json:"commit,omitempty"` // of this program, for the record
}

// Default returns the options of `weft bench gossip` without flags.
func Default() Options {
	return Options{
		Nodes:   []int{3, 10, 25, 100, 300},
		Records: 2,
		Puts:    100,
		Idle:    20 * time.Second,
		Churn:   time.Minute,
		Every:   time.Second,
		Rate:    2,
		Limit:   time.Minute,
		Link:    simnet.Link{Latency: time.Millisecond, Jitter: time.Millisecond},
		Seed:    1,
		Clock:   Virtual,
	}
}

// Check reports options that cannot be fulfilled.
func (o *Options) Check() error {
	for _, n := range o.Nodes {
		if n < 2 || n > 10000 {
			return fmt.Errorf("a cluster of %d nodes; expected 2 to 10000", n)
		}
	}
	switch {
	case len(o.Nodes) == 0:
		return fmt.Errorf("no size of a cluster; expected at least one, such as 25")
	case o.Clock != Virtual && o.Clock != Real:
		return fmt.Errorf("clock %q; expected %s or %s", o.Clock, Virtual, Real)
	case o.Records < 0 || o.Records > 1000:
		return fmt.Errorf("%d records on each node; expected 0 to 1000", o.Records)
	case o.Puts < 0 || o.Rate <= 0:
		return fmt.Errorf("%d puts, and %g a second under churn; expected 0 or more, and more than 0", o.Puts, o.Rate)
	case o.Idle < 0 || o.Churn < 0 || o.Every <= 0 || o.Limit <= 0:
		return fmt.Errorf("idle %s, churn %s, every %s, limit %s; expected 0 or more for the first two, more for the others",
			o.Idle, o.Churn, o.Every, o.Limit)
	case o.Link.Latency < 0 || o.Link.Jitter < 0 || o.Link.Loss < 0 || o.Link.Loss >= 1:
		return fmt.Errorf("latency %s, jitter %s, loss %g; expected 0 or more, and a loss below 1", o.Link.Latency, o.Link.Jitter, o.Link.Loss)
	}
	return nil
}

// Report is all that a run measured.
type Report struct {
	Started time.Time `json:"started"`
	Go      string    `json:"go"`
	CPUs    int       `json:"cpus"`
	Options Options   `json:"options"`
	Sizes   []Result  `json:"sizes"`
}

// Result is what one cluster measured.
type Result struct {
	Nodes int    `json:"nodes"`
	Quiet Spread `json:"quiet"` // a put while nothing else happens, until all nodes have it
	Churn Spread `json:"churn"` // the same while nodes join, leave and crash
	Join  Spread `json:"join"`  // a put by a node that has just joined, until all nodes have it
	Ready Spread `json:"ready"` // from the start of a node until it has what the others have
	Idle  Cost   `json:"idle"`
	Busy  Cost   `json:"busy"` // under churn

	Largest int     `json:"largest_packet"` // bytes
	Wall    float64 `json:"wall_s"`         // how long it took by the wall clock
}

// Cost is what taking part costs one node, on average.
type Cost struct {
	Bytes   float64 `json:"bytes_per_s"`   // sent: packets with their UDP and IPv4 headers, streams without headers
	Packets float64 `json:"packets_per_s"` // sent
	CPU     float64 `json:"cpu_s_per_s"`   // of one processor, the simulated network included
	Used    float64 `json:"cpus_used"`     // processors that all nodes used; with the real clock all of them is too many
}

// Run measures one cluster after the other and tells progress by short lines. What was measured before an error is returned
// with it.
func Run(ctx context.Context, opt Options, progress func(string)) (*Report, error) {
	if err := opt.Check(); err != nil {
		return nil, err
	}
	r := &Report{Started: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), CPUs: runtime.GOMAXPROCS(0), Options: opt}
	measure := simulate
	if opt.Clock == Virtual {
		measure = inChild
	}
	for _, n := range opt.Nodes {
		start := time.Now()
		result, err := measure(ctx, opt, n, progress)
		if err != nil {
			return r, fmt.Errorf("gossip of %d nodes: %w", n, err)
		}
		result.Wall = time.Since(start).Seconds()
		r.Sizes = append(r.Sizes, *result)
	}
	return r, nil
}
