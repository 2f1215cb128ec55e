package tap

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Vanished reports whether a namespace's file that could not be found has gone for good. That of a process, /proc/PID/ns/net, is also away
// while one of its threads other than the first becomes another program: the first has ended then, and the new one has not taken its
// place yet (de_thread in the kernel's fs/exec.c). A multi-threaded container runtime that starts its container's command does that.
func Vanished(path string) bool {
	pid, ok := processOf(path)
	if !ok {
		return true
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		// Without a descriptor to spare nothing is known; every other error is of a process that is no more.
		return !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOMEM)
	}
	defer unix.Close(fd)
	polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(polls, 0) // readable once all threads have ended
	return err == nil && n == 1
}

// processOf returns the process whose namespace a path names.
func processOf(path string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(path, "/proc/")
	if !ok {
		return 0, false
	}
	if rest, ok = strings.CutSuffix(rest, "/ns/net"); !ok {
		return 0, false
	}
	pid, err := strconv.Atoi(rest)
	return pid, err == nil && pid > 0
}
