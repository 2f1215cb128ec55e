package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// victim tells a process of this test that it is the manager to be killed, and where it lives.
const victim = "WEFT_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		fmt.Println(write(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// write makes a cluster and network after network in it, and prints those that are acknowledged, until it is killed.
func write(dir string) error {
	m, err := Open(Config{Dir: dir, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Timing: quick})
	if err != nil {
		return err
	}
	go m.Run(context.Background())
	if err := m.Init(context.Background(), InitOptions{Name: "a"}); err != nil {
		return err
	}
	for n := 0; ; n++ {
		name := fmt.Sprintf("n%d", n)
		if _, err := m.Propose(context.Background(), network(name)); err != nil {
			return err
		}
		fmt.Println(name)
	}
}

func TestAKilledManagerKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), victim+"="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		names = append(names, lines.Text())
		if len(names) == 30 {
			child.Process.Kill() // in the middle of the next one; what it printed meanwhile is read to the end
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the manager was not killed: %v, it printed %q", err, names)
	}
	a := start(t, "a", func(c *Config) { c.Dir = dir })
	until(t, "a leads again", func() bool { q := a.quorum.Load(); return q != nil && q.Leading() && q.Barrier() == nil })
	for _, name := range names {
		if !a.has(name) {
			t.Errorf("the acknowledged network %s is lost", name)
		}
	}
	a.propose(network("after"))
}
