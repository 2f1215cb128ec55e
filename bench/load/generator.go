package load

import (
	"runtime"
	"sync/atomic"

	"github.com/weftnet/weft/bench/histogram"
)

// generator is one end of a load.
type generator interface {
	// open listens or connects. What it opens stays open until the process exits.
	open() error
	// threads returns the functions that carry the traffic, each for a thread of its own. They return only on failure.
	threads() []func() error
	// meter is where the threads count.
	meter() *meter
}

// meter counts what a generator's threads do. The main goroutine reads it while they run.
type meter struct {
	bytes, count, sequence atomic.Uint64
	measuring              atomic.Bool // between begin and end: latencies are recorded
	latency                *histogram.Histogram
}

func newGenerator(s Spec, server bool) generator {
	e := end{spec: s, server: server, m: new(meter)}
	switch s.Kind {
	case Datagram:
		return &datagrams{end: e}
	case Echo:
		return &echo{end: e}
	case Connect:
		return &connects{end: e}
	case Query:
		return &queries{end: e}
	}
	return &bulk{end: e}
}

// end is what the generators have in common.
type end struct {
	spec   Spec
	server bool
	m      *meter
}

func (e *end) meter() *meter { return e.m }

// launch runs each function on a locked thread and reports the first failure. The processors are raised so that each of
// them, which never gives its own back, leaves some for the main goroutine.
func launch(threads []func() error, failed chan<- error) {
	runtime.GOMAXPROCS(len(threads) + 2)
	for _, run := range threads {
		go func() {
			runtime.LockOSThread()
			err := run()
			select {
			case failed <- err:
			default: // another thread's failure is being reported already
			}
		}()
	}
}
