package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/internal/lab"
)

func TestMain(m *testing.M) {
	lab.Change()
	os.Exit(m.Run())
}

func sample(id, container string) *Endpoint {
	return &Endpoint{
		ID: id, Container: Container{Name: container, NetNS: "/run/netns/" + container, Space: Space{"5ce1d96e", 4, 7}}, Network: state.NetworkID{1},
		Interface: "eth0", MAC: 0x02420a000002, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Created: time.Unix(1e9, 0).UTC(),
	}
}

func TestListOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	s, err := Load(dir)
	if err != nil || len(s.All()) != 0 {
		t.Fatalf("a new list has %v, %v", s, err)
	}
	a, b, other := sample("1", "a"), sample("2", "b"), sample("3", "a")
	other.Network = state.NetworkID{2}
	if err := errors.Join(s.Add(a, b), s.Add(other)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(b); err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil || !reflect.DeepEqual(again.All(), []*Endpoint{a, other}) {
		t.Errorf("loaded %v, %v", again.All(), err)
	}
	if got := again.Of("a"); len(got) != 2 {
		t.Errorf("container a has %d endpoints, expected 2", len(got))
	}
	if got := again.In(state.NetworkID{2}); len(got) != 1 || got[0].ID != "3" {
		t.Errorf("network 2 has %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".endpoints-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestListThatCannotBeWrittenStaysAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(sample("1", "a")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(sample("2", "b")); err == nil || !strings.Contains(err.Error(), "what is on disk is as before") {
		t.Errorf("adding without a directory: %v", err)
	}
	if got := s.All(); len(got) != 1 || got[0].ID != "1" {
		t.Errorf("the list is %v", got)
	}
}

func TestRemovalReachesTheDiskWhenItCan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(sample("1", "a"), sample("2", "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(s.All()[0]); err == nil {
		t.Error("removed from a disk that is away")
	}
	if got := s.All(); len(got) != 1 || got[0].ID != "2" {
		t.Errorf("the list is %v", got)
	}
	if err := s.Flush(); err == nil {
		t.Error("flushed to a disk that is away")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil || len(again.All()) != 1 || again.All()[0].ID != "2" {
		t.Errorf("the next agent finds %v, %v", again, err)
	}
}

func TestFaultyFileIsRefusedWithItsFault(t *testing.T) {
	for name, c := range map[string]struct{ text, part string }{
		"garbage":           {"{", "unexpected end"},
		"another version":   {`{"version": 2}`, "version 2; this agent reads 1"},
		"no container":      {`{"version": 1, "endpoints": [{"id": "1"}]}`, "endpoint 0 lacks"},
		"nothing":           {`{"version": 1, "endpoints": [null]}`, "endpoint 0 lacks"},
		"two places":        {`{"version": 1, "endpoints": [{"id": "1", "addresses": ["10.0.0.2"], "container": {"name": "a", "pid": 1, "netns": "/x"}}]}`, "exactly one"},
		"no place":          {`{"version": 1, "endpoints": [{"id": "1", "addresses": ["10.0.0.2"], "container": {"name": "a"}}]}`, "exactly one"},
		"the same ID twice": {`{"version": 1, "endpoints": [` + one + `,` + one + `]}`, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "endpoints.json"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), c.part) || !strings.Contains(err.Error(), "move it away") {
				t.Errorf("got %v, expected %q and the remedy", err, c.part)
			}
		})
	}
}

const one = `{"id": "1", "mac": "02:42:0a:00:00:02", "addresses": ["10.0.0.2"], "container": {"name": "a", "bridge": "br0"}}`

func TestNamespaceIsToldFromAnotherAtItsPath(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skipf("no sleep to run: %v", err)
	}
	c := Container{Name: "a", PID: cmd.Process.Pid}
	var err error
	if c.Space, err = SpaceAt(c.Path()); err != nil {
		t.Fatal(err)
	}
	if err := c.Alive(); err != nil {
		t.Errorf("a running process: %v", err)
	}
	reused := c
	reused.Space.Inode++
	if err := reused.Alive(); !errors.Is(err, ErrGone) {
		t.Errorf("a process in another namespace: %v, expected ErrGone", err)
	}
	before := c
	before.Space.Boot = "another"
	if err := before.Alive(); !errors.Is(err, ErrGone) {
		t.Errorf("a process from before the host was started anew: %v, expected ErrGone", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err := c.Alive(); !errors.Is(err, ErrGone) {
		t.Errorf("an ended process: %v, expected ErrGone", err)
	}
	if err := (&Container{Name: "b", Bridge: "br0"}).Alive(); err != nil {
		t.Errorf("a bridge: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version": 1, "endpoints": [` + one + `]}`))
	f.Add([]byte(`{"version": 1, "endpoints": [null, {}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parse(b)
		if err != nil {
			return
		}
		for _, e := range list {
			if e.ID == "" || len(e.Addresses) == 0 || e.Container.Bridge == "" && e.Container.Path() == "" {
				t.Errorf("accepted %+v", e)
			}
		}
	})
}

func ExampleContainer_String() {
	fmt.Println(&Container{Name: "db", PID: 4711}, &Container{Name: "printer", Bridge: "br0"})
	// Output: pid 4711 bridge br0
}

func TestContainerThatStartsItsCommandIsAlive(t *testing.T) {
	cmd, changed := lab.Changeling(t, 100)
	c := Container{Name: "c", PID: cmd.Process.Pid}
	var err error
	for c.Space, err = SpaceAt(c.Path()); err != nil; c.Space, err = SpaceAt(c.Path()) {
		if !errors.Is(err, ErrGone) {
			t.Fatal(err)
		}
	}
	for looking := true; looking; {
		select {
		case <-changed:
			looking = false
		default:
		}
		if err := c.Alive(); err != nil {
			t.Fatalf("it counts as ended: %v", err)
		}
	}
	lab.Must(t, cmd.Process.Kill())
	lab.Eventually(t, func() bool { return errors.Is(c.Alive(), ErrGone) }, 5*time.Second)
}
