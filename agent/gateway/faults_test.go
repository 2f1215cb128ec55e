package gateway

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

const trace = `panic: assignment to entry in nil map

goroutine 6 [running labels:{"network": "net \"1\""}]:
main.main.func1.1.1()
	main.go:5 +0x28
created by main.main.func1.1 in goroutine 5
	main.go:5 +0x1a

goroutine 1 [sleep labels:{"network": "another"}]:
`

func TestATraceTellsWhoseRouterItWas(t *testing.T) {
	for name, c := range map[string]struct{ trace, network, cause string }{
		"a router's":                  {trace, `net "1"`, "assignment to entry in nil map"},
		"nobody's":                    {"panic: oops\n\ngoroutine 6 [running]:\nmain.main()\n\ngoroutine 7 [select labels:{\"network\": \"n\"}]:\n", "", "oops"},
		"with other labels":           {"fatal error: x\n\ngoroutine 6 gp=0x1 m=3 mp=0x2 [running, locked to thread labels:{\"a\": \"b\", \"network\": \"n\"}]:\n", "n", "x"},
		"cut off":                     {"panic: oo", "", "oo"},
		"empty":                       {"", "", ""},
		"a label that is not closed":  {"panic: p\ngoroutine 1 [running labels:{\"network\": \"n", "", "p"},
		"a label with a bad sequence": {"panic: p\ngoroutine 1 [running labels:{\"network\": \"\\q\"}]:", "", "p"},
	} {
		t.Run(name, func(t *testing.T) {
			if network, cause := culprit([]byte(c.trace)); network != c.network || cause != c.cause {
				t.Errorf("culprit is %q, %q; want %q, %q", network, cause, c.network, c.cause)
			}
		})
	}
}

func FuzzCulprit(f *testing.F) {
	f.Add([]byte(trace))
	f.Add([]byte("goroutine 1 [running labels:{\"network\": \"\\x00\"}]:"))
	f.Fuzz(func(t *testing.T, b []byte) { culprit(b) })
}

var quiet = slog.New(slog.DiscardHandler)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestARouterThatFailsAgainAndAgainIsLeftOff(t *testing.T) {
	l, err := openLedger("", noon, quiet)
	if err != nil {
		t.Fatal(err)
	}
	fail := func(network string, at time.Duration) {
		if err := l.add(fault{Network: network, Time: noon.Add(at), Cause: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	off := func(network string, at, until time.Duration) {
		t.Helper()
		got := l.off(network, noon.Add(at))
		if until == 0 && !got.IsZero() || until != 0 && !got.Equal(noon.Add(until)) {
			t.Errorf("at %s: off until %s, want %s", at, got, until)
		}
	}
	fail("a", 0)
	fail("a", time.Minute)
	fail("b", time.Minute)
	off("a", 2*time.Minute, 0)
	fail("a", 2*time.Minute)
	off("a", 2*time.Minute, 10*time.Minute)
	off("b", 2*time.Minute, 0)
	off("a", 10*time.Minute, 0)
	fail("a", 10*time.Minute+time.Second)
	off("a", 10*time.Minute+time.Second, 11*time.Minute)
	if len(l.all) != 4 {
		t.Errorf("%d faults are kept, want those of the last ten minutes: 4", len(l.all))
	}
}

func TestFaultsOutliveTheAgent(t *testing.T) {
	dir := t.TempDir()
	for i := range patience {
		if err := os.WriteFile(filepath.Join(dir, crashFile), []byte(trace), 0o600); err != nil {
			t.Fatal(err)
		}
		now := noon.Add(time.Duration(i) * time.Second)
		l, err := openLedger(dir, now, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if off := !l.off(`net "1"`, now).IsZero(); off != (i == patience-1) {
			t.Errorf("after %d crashes: left off is %v", i+1, off)
		}
		if p := l.problems(now); len(p) != i+1 || !strings.Contains(p[i], "assignment to entry in nil map") || !strings.Contains(p[i], dir) {
			t.Errorf("problems %q, want one for each crash, with its cause and its trace's place", p)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, lastFile)); err != nil {
		t.Errorf("the trace is not kept: %v", err)
	}
	l, err := openLedger(dir, noon.Add(time.Hour), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if p := l.problems(noon.Add(time.Hour)); len(p) != 0 {
		t.Errorf("problems %q an hour later, want none", p)
	}
}

// crashing is the environment variable that makes this test's own process die as an agent does in whose router netstack panics.
const crashing = "WEFT_TEST_CRASH_IN"

func TestACrashOfTheAgentIsLaidToTheRouterThatItCameFrom(t *testing.T) {
	if dir := os.Getenv(crashing); dir != "" {
		if err := KeepCrashes(dir); err != nil {
			t.Fatal(err)
		}
		pprof.Do(t.Context(), pprof.Labels("network", "net1"), func(context.Context) {
			go func() { panic("a processor's") }() // netstack starts its own like this, when a router is made
		})
		select {}
	}
	dir := t.TempDir()
	for i := range patience {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), crashing+"="+dir)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "a processor's") {
			t.Fatalf("the process ended with %v; it said %s", err, out)
		}
		now := noon.Add(time.Duration(i) * time.Second)
		l, err := openLedger(dir, now, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.all) != i+1 || l.all[i].Network != "net1" || l.all[i].Cause != "a processor's" || !l.all[i].Crash {
			t.Fatalf("after %d crashes the ledger has %+v", i+1, l.all)
		}
		if off := !l.off("net1", now).IsZero(); off != (i == patience-1) {
			t.Errorf("after %d crashes: left off is %v", i+1, off)
		}
	}
}

func TestALedgerThatIsDamagedIsBegunAnew(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, faultsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	l, err := openLedger(dir, noon, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), faultsFile) {
		t.Errorf("the log says %q, want the file's name", said.String())
	}
	if err := l.add(fault{Network: "a", Time: noon}); err != nil {
		t.Fatal(err)
	}
	if l, err = openLedger(dir, noon, quiet); err != nil || len(l.all) != 1 {
		t.Errorf("%d faults, error %v; want the one that was added", len(l.all), err)
	}
}
