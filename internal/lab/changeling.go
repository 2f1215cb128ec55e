package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// changeling marks the environment of a process that becomes itself anew so many times.
const changeling = "WEFT_LAB_CHANGELING"

// Changeling starts a process that becomes another program so many times, each time by a thread other than its first, as a multi-threaded
// runtime does that starts its container's command: for a moment such a process seems to have ended. Changed is closed when it stays
// what it is. It takes a TestMain that calls Change first. When the test ends, so does the process.
func Changeling(t TB, times int) (cmd *exec.Cmd, changed <-chan struct{}) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), changeling+"="+strconv.Itoa(times))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = bufio.NewReader(out).ReadString('\n') // its end is as good
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait() // killed
	})
	return cmd, done
}

// Change does not return in a process that Changeling started.
func Change() {
	count, is := os.LookupEnv(changeling)
	if !is {
		return
	}
	left, err := strconv.Atoi(count)
	for err == nil && left > 0 {
		next := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			if syscall.Gettid() == syscall.Getpid() {
				close(next) // another goroutine gets another thread while this one keeps the first
				select {}
			}
			err := syscall.Exec("/proc/self/exe", os.Args, []string{changeling + "=" + strconv.Itoa(left-1)})
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}()
		<-next
	}
	fmt.Println("changed")
	for {
		time.Sleep(time.Hour)
	}
}
