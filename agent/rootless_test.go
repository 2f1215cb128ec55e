package agent_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

// unprivileged marks the environment of the tests that run again as nobody.
const unprivileged = "WEFT_TEST_UNPRIVILEGED"

// TestOrdinaryUserRunsTwoAgents runs tests again as nobody, who is root in user and network namespaces of his own.
func TestOrdinaryUserRunsTwoAgents(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(unprivileged) != "" {
		t.Skip("only root can become another user")
	}
	open(t, "/dev/net/tun")
	dir, err := os.MkdirTemp("", "weft-nobody")
	lab.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	lab.Must(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "agent.test")
	self, err := os.ReadFile("/proc/self/exe")
	lab.Must(t, err)
	lab.Must(t, os.WriteFile(binary, self, 0o755))
	tests := []string{
		"TestTwoAgentsReachEachOther", "TestContainersEndHarmsNobodyElse", "TestReloadChangesWhatTheFileChanges",
		"TestTerminatedAgentTakesItsInterfacesAlong", "TestNetworksWithTheSameSubnetAreIsolated",
	}
	cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", binary,
		"-test.v", "-test.run", "^("+strings.Join(tests, "|")+")$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), unprivileged+"=1", "TMPDIR=/tmp")
	out, err := cmd.CombinedOutput()
	if passed := bytes.Count(out, []byte("\n--- PASS")); err != nil || passed != len(tests) {
		t.Fatalf("as nobody: %v; %d of %d tests passed\n%s", err, passed, len(tests), out)
	}
}

// open lets every user have the device while the test runs.
func open(t *testing.T, device string) {
	t.Helper()
	fi, err := os.Stat(device)
	lab.Must(t, err)
	lab.Must(t, os.Chmod(device, 0o666))
	t.Cleanup(func() { lab.Must(t, os.Chmod(device, fi.Mode().Perm())) })
}

func TestTwoAgentsReachEachOther(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		w := wire{v6: v6, noOffload: true}
		a, b := lay(t, w)
		c2, c3 := newContainer(t, 2), newContainer(t, 3)
		start(t, a, a.config(c2).with(b, c3))
		start(t, b, b.config(c3).with(a, c2))
		for i, to := range c3.addresses() {
			ping(t, c2, to, w.overlayMTU()-headers(to), "-M", "do")
			transfer(t, c2, c3, to, 64<<20, a, b)
			transfer(t, c3, c2, c2.addresses()[i], 64<<20, a, b)
			echoes(t, c2, c3, to, 40)
			datagrams(t, c2, c3, to, w.overlayMTU())
		}
	}
}
