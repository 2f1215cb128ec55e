package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

// crowd marks the environment of a process that holds many idle connections, so that their memory is not taken for the way out's. Its
// value is an address to listen at, or how many connections to make and where to.
const crowd = "EGRESS_TEST_CROWD"

// crowdMain is that process. It says on standard output where it listens, or that it has connected, and ends with its input.
func crowdMain() error {
	number, addr, connects := strings.Cut(os.Getenv(crowd), "*")
	if !connects {
		l, err := net.Listen("tcp", number)
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c) }()
			}
		}()
	} else {
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if err := connect(n, addr); err != nil {
			return err
		}
		fmt.Println("connected")
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// connect makes n connections, and has each carry something, both ways.
func connect(n int, addr string) error {
	var all sync.WaitGroup
	left, faults := make(chan struct{}, 32), make(chan error, n)
	for range n {
		left <- struct{}{}
		all.Go(func() {
			defer func() { <-left }()
			c, err := net.Dial("tcp", addr)
			if err == nil {
				_, err = c.Write([]byte("a"))
			}
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if err != nil {
				faults <- err
			}
		})
	}
	all.Wait()
	if len(faults) > 0 {
		return fmt.Errorf("%d of %d: %w", len(faults), n, <-faults)
	}
	return nil
}

// startCrowd runs a crowd on a host of the lab, and returns its first line.
func startCrowd(t testing.TB, h *lab.Host, what string) string {
	t.Helper()
	cmd := h.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crowd+"="+what)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	lab.Must(t, err)
	out, err := cmd.StdoutPipe()
	lab.Must(t, err)
	lab.Must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return strings.TrimSpace(line)
}

// inUse is what this process has of memory, in bytes.
func inUse() (heap, stacks uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools are empty, and stacks shrunk, after the second
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.MSpanInuse, m.StackInuse
}

// kernelPerSocket is what the kernel has for one idle TCP socket with its file, inode, dentry and its places in epoll and hash tables, as /proc/slabinfo
// has it on Linux 6.
const kernelPerSocket = 5 << 10

// idle holds n idle connections, and returns what each takes.
func idle(t testing.TB, n int) (heap, stacks uint64) {
	t.Helper()
	s := newSite(t, Config{})
	to := startCrowd(t, s.outside, at(outside4, 0).String())
	heap0, stacks0 := inUse()
	startCrowd(t, s.nets["blue"].container, fmt.Sprintf("%d*%s", n, to))
	if got := s.nets["blue"].Stats().Connections; got != n {
		t.Fatalf("%d connections are open, expected %d", got, n)
	}
	heap1, stacks1 := inUse()
	return (heap1 - heap0) / uint64(n), (stacks1 - stacks0) / uint64(n)
}

func TestAnIdleConnectionTakesNoMoreThan25KiB(t *testing.T) {
	if i, ok := debug.ReadBuildInfo(); ok && slices.Contains(i.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector's frames are larger")
	}
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	heap, stacks := idle(t, n)
	t.Logf("%d connections: heap %d, stacks %d, kernel about %d bytes each", n, heap, stacks, kernelPerSocket)
	if heap+stacks+kernelPerSocket > 25<<10 {
		t.Errorf("an idle connection takes %d bytes and some %d of the kernel's, expected 25,600 at most", heap+stacks, kernelPerSocket)
	}
}
