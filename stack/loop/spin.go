package loop

import "time"

// spinner decides whether looking again after sched_yield is worth it before waiting in the kernel: a wake-up of an idle core costs
// tens of microseconds, a fruitless yield takes the core from those who have work. It keeps a running score of how often looking
// found something, and tries now and then when the score says that it does not.
type spinner struct {
	score int // -spinRange..spinRange
	skips int
}

const (
	spinRange = 64
	crowded   = 10 * time.Microsecond // a yield that takes longer has let somebody else run
	spinTries = 128                   // yields before a wait, while they pay: some 60 µs, the time in which the other end of a connection answers
	spinProbe = 32                    // waits between two probes, while they do not
)

// tries returns how many yields to spend before the next wait.
func (s *spinner) tries() int {
	if s.score >= 0 {
		return spinTries
	}
	if s.skips++; s.skips < spinProbe {
		return 0
	}
	s.skips = 0
	return spinTries
}

// learn takes in whether the last tries found work.
func (s *spinner) learn(found bool) {
	if found {
		s.score = min(s.score+8, spinRange)
	} else {
		s.score = max(s.score-3, -spinRange)
	}
}
