package lab

import "time"

// TB is what the constructors for tests need of a *testing.T or *testing.B.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// T makes a host that is closed when the test ends.
func T(t TB, name string) *Host {
	t.Helper()
	h, err := New(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// Must ends the test if err is set.
func Must(t TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// Eventually polls cond until it holds, and ends the test if it does not within the deadline.
func Eventually(t TB, cond func() bool, deadline time.Duration) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the condition did not come true within %s", deadline)
			return
		}
	}
}
