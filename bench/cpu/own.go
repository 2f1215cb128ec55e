package cpu

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// own returns the user time of this process and its children, those that have ended included.
func own() (float64, error) {
	var total float64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, fmt.Errorf("cpu: read own times: %w", err)
		}
		total += float64(u.Utime.Nano()) / 1e9
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, fmt.Errorf("cpu: list processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("cpu: list processes: %w", err)
	}
	self := os.Getpid()
	for _, name := range names {
		if name[0] < '1' || name[0] > '9' {
			continue
		}
		text, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended since
		}
		if parent, user, ok := parseProcess(text); ok && parent == self {
			total += user
		}
	}
	return total, nil
}

// parseProcess reads a process's parent and its user time in seconds from /proc/<pid>/stat (proc_pid_stat(5)). The second
// field is the program's name in parentheses, which may itself hold anything.
func parseProcess(text []byte) (parent int, user float64, ok bool) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := bytes.Fields(text[end+1:]) // from the third field on: state, ppid, …; utime is the fourteenth
	if len(fields) < 12 {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, 0, false
	}
	ticks, err := strconv.ParseUint(string(fields[11]), 10, 64)
	return parent, float64(ticks) / hertz, err == nil
}
