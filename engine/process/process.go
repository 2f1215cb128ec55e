// Package process names processes so that none is taken for another. A PID alone is used again; together with the time at
// which the process started (proc_pid_stat(5)) and the boot in which that was, it is not.
//
//	/proc/PID/stat:  PID (comm) state ppid ... starttime ...
//	                      │      3     4          22
//	                      └ may hold spaces and parentheses: the last ")" ends it
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrGone means that the process has ended, whatever has its PID now.
var ErrGone = errors.New("the process has ended")

// Process is one process for ever.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since the boot
	Boot  string `json:"boot"`
}

// Find returns the process that has the PID now; ErrGone if there is none, or only its exit status.
func Find(pid int) (Process, error) {
	s, err := read(pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("process: which boot this is: %w", err)
	}
	return Process{pid, s.start, strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether the process runs.
func (p Process) Alive() bool {
	now, err := Find(p.PID)
	return err == nil && now == p
}

// Signal sends the process a signal, and no other one that may have its PID by now.
func (p Process) Signal(sig syscall.Signal) error {
	handle, err := os.FindProcess(p.PID) // a pidfd: it stays with whom it was opened for
	if err != nil {
		return fmt.Errorf("process: signal %d: %w", p.PID, err)
	}
	defer func() { _ = handle.Release() }()
	if !p.Alive() {
		return ErrGone
	}
	if err := handle.Signal(sig); errors.Is(err, os.ErrProcessDone) {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("process: signal %d: %w", p.PID, err)
	}
	return nil
}

// All returns the PIDs of all processes that run, with their parents'.
func All() (parents map[int]int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("process: list: %w", err)
	}
	parents = make(map[int]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := read(pid); err == nil { // otherwise it ended meanwhile
			parents[pid] = s.parent
		}
	}
	return parents, nil
}

// stat is what is used of /proc/PID/stat.
type stat struct {
	state  byte
	parent int
	start  uint64
}

func read(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return stat{}, ErrGone
	} else if err != nil {
		return stat{}, fmt.Errorf("process: %w", err)
	}
	s, err := parse(b)
	if err != nil {
		return stat{}, fmt.Errorf("process: /proc/%d/stat: %w", pid, err)
	}
	if (s.state == 'Z' || s.state == 'X') && ended(pid) {
		return stat{}, ErrGone
	}
	return s, nil
}

// ended reports whether all threads of a process have ended. The first has for a moment, too, while another becomes another program and takes
// its place (de_thread in the kernel's fs/exec.c).
func ended(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(polls, 0)
	return err == nil && n == 1
}

// parse reads the fields of /proc/PID/stat, numbered as in proc_pid_stat(5).
func parse(b []byte) (s stat, err error) {
	const state, parent, start = 3, 4, 22
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return s, fmt.Errorf("%q has no name in parentheses", b)
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) <= start-state || len(fields[0]) != 1 {
		return s, fmt.Errorf("%q has %d fields after the name; expected a state, and %d more", b, len(fields), start-state)
	}
	s.state = fields[0][0]
	if s.parent, err = strconv.Atoi(string(fields[parent-state])); err != nil {
		return s, fmt.Errorf("parent: %w", err)
	}
	if s.start, err = strconv.ParseUint(string(fields[start-state]), 10, 64); err != nil {
		return s, fmt.Errorf("start time: %w", err)
	}
	return s, nil
}
