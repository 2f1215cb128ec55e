package tap_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/tap"
)

func TestProcessThatBecomesAnotherProgramHasNotVanished(t *testing.T) {
	cmd, changed := lab.Changeling(t, 100)
	path := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	away := 0
	for looking := true; looking; {
		select {
		case <-changed:
			looking = false
		default:
		}
		var st unix.Stat_t
		if errors.Is(unix.Stat(path, &st), unix.ENOENT) {
			if away++; tap.Vanished(path) {
				t.Fatal("a process that runs counts as vanished")
			}
		}
	}
	t.Logf("its file was away %d times", away)
	lab.Must(t, cmd.Process.Kill())
	lab.Eventually(t, func() bool { return tap.Vanished(path) }, 5*time.Second) // though nobody has reaped it
	_ = cmd.Wait()
	for _, path := range []string{path, "/run/netns/none"} {
		if !tap.Vanished(path) {
			t.Errorf("%s has not vanished", path)
		}
	}
}
