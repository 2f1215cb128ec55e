package run

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

func TestNamesDoNotLeaveTheStore(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "-x", "_x", ".x", "a b", "a\n", strings.Repeat("a", 64)} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
		if _, err := NewStore(t.TempDir()).Get(name); err == nil {
			t.Errorf("there is a container %q", name)
		}
	}
	for _, name := range []string{"a", "A.b_c-9", strings.Repeat("a", 63)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestFailedCreationLeavesNothing(t *testing.T) {
	s := NewStore(t.TempDir())
	c := &Container{Name: "c1", Hostname: "h"}
	_, held, err := s.create(c)
	lab.Must(t, err)
	defer held.Close()
	if _, _, err := s.create(c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a name that is in use: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "c1", "hosts")); err != nil {
		t.Errorf("the first has lost its files: %v", err)
	}
}

func TestSettingsComeFromTheCommandLineOrFromHere(t *testing.T) {
	here := func(name string) (string, bool) { return "here", name == "A" || name == "B" }
	got, err := Setting([]string{"A", "B=2", "C", "D=x=y", "E="}, here)
	if want := []string{"A=here", "B=2", "D=x=y", "E="}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; expected %q", got, err, want)
	}
	for _, bad := range []string{"", "=x", "A=\x00"} {
		if got, err := Setting([]string{bad}, here); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
	if got, want := Environment([]string{"A=1", "B=1"}, []string{"B=2", "C=2"}, []string{"A=3"}), []string{"A=3", "B=2", "C=2"}; !slices.Equal(got, want) {
		t.Errorf("merged: %q, expected %q", got, want)
	}
}
