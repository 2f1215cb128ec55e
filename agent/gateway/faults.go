package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A network whose router fails patience times within window is left without one until the first of these is older than that: its
// containers keep each other, and other networks keep the agent.
const (
	patience = 3
	window   = 10 * time.Minute
)

// Files of the ledger, in the agent's data directory.
const (
	faultsFile = "router-faults.json"
	crashFile  = "crash.log" // what the runtime writes when this process dies of a panic
	lastFile   = "crash-last.log"
)

// fault is a failure of one network's router.
type fault struct {
	Network string    `json:"network"`
	Time    time.Time `json:"time"`
	Crash   bool      `json:"crash,omitempty"` // the whole agent died of it
	Cause   string    `json:"cause"`
}

// ledger remembers faults, also those that the agent itself did not survive.
type ledger struct {
	dir string // empty: in memory only
	all []fault
}

// openLedger reads what is known from before, and takes in what the last agent here died of. A ledger that is damaged is begun anew: no
// agent stays down for it.
func openLedger(dir string, now time.Time, log *slog.Logger) (*ledger, error) {
	l := &ledger{dir: dir}
	if dir == "" {
		return l, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, faultsFile))
	if err == nil {
		err = json.Unmarshal(b, &l.all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what is known of failed routers cannot be read; it is begun anew", "file", filepath.Join(dir, faultsFile), "error", err)
		l.all = nil
	}
	crash, err := os.ReadFile(filepath.Join(dir, crashFile))
	if errors.Is(err, fs.ErrNotExist) || len(crash) == 0 {
		return l, nil
	} else if err != nil {
		return nil, fmt.Errorf("trace of the last crash: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, crashFile), filepath.Join(dir, lastFile)); err != nil {
		return nil, fmt.Errorf("trace of the last crash: %w", err)
	}
	network, cause := culprit(crash)
	return l, l.add(fault{Network: network, Time: now, Crash: true, Cause: cause})
}

// Of a traceback (runtime.Stack with GODEBUG=tracebacklabels=1): what the panic said, and the label that a router's goroutines carry.
var (
	said    = regexp.MustCompile(`(?m)^(?:panic|fatal error): (.*)$`)
	labeled = regexp.MustCompile(`(?m)^goroutine \d+[^\n]*\[running[^\n]*labels:\{[^\n]*"network": ("(?:[^"\\]|\\.)*")`)
)

// culprit reads from a traceback whose router failed, empty if it was none's, and of what.
func culprit(trace []byte) (network, cause string) {
	if m := said.FindSubmatch(trace); m != nil {
		cause = string(m[1])
	}
	if m := labeled.FindSubmatch(trace); m != nil {
		if s, err := strconv.Unquote(string(m[1])); err == nil {
			network = s
		}
	}
	return network, cause
}

// KeepCrashes has the runtime write the traceback of a panic that ends this process to the data directory too, with the labels of its
// goroutine, for the next agent's ledger. It is called when the Set has been made, which has read the last one.
func KeepCrashes(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, crashFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("trace of crashes: %w", err)
	}
	defer f.Close() // the runtime has a descriptor of its own
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return fmt.Errorf("trace of crashes: %w", err)
	}
	settings := "tracebacklabels=1"
	if old := os.Getenv("GODEBUG"); old != "" {
		settings = old + "," + settings
	}
	return os.Setenv("GODEBUG", settings)
}

// add takes a fault in, and forgets those that no longer count.
func (l *ledger) add(f fault) error {
	l.all = slices.DeleteFunc(append(l.all, f), func(old fault) bool { return f.Time.Sub(old.Time) > window })
	if l.dir == "" {
		return nil
	}
	b, err := json.Marshal(l.all)
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, faultsFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("faults of routers: %w", err)
	}
	return os.Rename(path+".new", path)
}

// off reports until when a network stays without a router; the zero Time if it need not.
func (l *ledger) off(network string, now time.Time) time.Time {
	count, first := 0, now
	for _, f := range l.all {
		if f.Network == network && now.Sub(f.Time) < window {
			count++
			if f.Time.Before(first) {
				first = f.Time
			}
		}
	}
	if count < patience {
		return time.Time{}
	}
	return first.Add(window)
}

// problems tells people what has failed lately, a sentence each.
func (l *ledger) problems(now time.Time) (all []string) {
	for _, f := range l.all {
		ago := now.Sub(f.Time).Round(time.Second)
		if ago >= window {
			continue
		}
		switch {
		case f.Crash && f.Network == "":
			all = append(all, fmt.Sprintf("the agent crashed %s ago: %s; please report %s", ago, f.Cause, filepath.Join(l.dir, lastFile)))
		case f.Crash:
			all = append(all, fmt.Sprintf("network %s: its router crashed the agent %s ago: %s; please report %s", f.Network, ago, f.Cause, filepath.Join(l.dir, lastFile)))
		default:
			all = append(all, fmt.Sprintf("network %s: its router failed %s ago and was made anew: %s", f.Network, ago, f.Cause))
		}
	}
	return all
}
