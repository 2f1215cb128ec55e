package userns

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

func TestSubordinateIDsAreThoseOfTheUser(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []span
	}{
		"none":             {"", nil},
		"by name and uid":  {"alice:100000:65536\n1000:300000:10\nbob:1:2\n", []span{{100000, 65536}, {300000, 10}}},
		"malformed ones":   {"alice\nalice:1\nalice:x:1\nalice:1:x\nalice:1:2:3\nalice:-1:5\nalice:5:0\n", nil},
		"past the last id": {"alice:4294967295:2\nalice:100:4294967295\nalice:99999999999:1\nalice:7:8\n", []span{{7, 8}}},
		"more than are":    {"alice:1:4294967290\nalice:1:4294967290\n", []span{{1, 4294967290}}},
	} {
		got, err := subordinate(strings.NewReader(c.text), []string{"1000", "alice"})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; expected %v", name, got, err, c.want)
		}
	}
}

func FuzzSubordinate(f *testing.F) {
	f.Add("alice:100000:65536\n")
	f.Add("alice:4294967295:4294967295\nalice:1:1")
	f.Fuzz(func(t *testing.T, text string) {
		spans, err := subordinate(strings.NewReader(text), []string{"alice"})
		total := uint64(1)
		for _, s := range spans {
			total += uint64(s.count)
			if s.count == 0 || uint64(s.start)+uint64(s.count) > 1<<32-1 {
				t.Errorf("%q grants %v", text, s)
			}
		}
		if total > 1<<32-1 || err != nil && len(spans) > 0 {
			t.Errorf("%q grants %d ids, %v", text, total, err)
		}
	})
}

func TestRemedyNamesTheSettingThatIsInTheWay(t *testing.T) {
	for file, c := range map[string]struct{ value, want string }{
		"user/max_user_namespaces":                        {"0", "user.max_user_namespaces=15000"},
		"kernel/unprivileged_userns_clone":                {"0", "kernel.unprivileged_userns_clone=1"},
		"kernel/apparmor_restrict_unprivileged_userns":    {"1", "AppArmor restricts them"},
		"kernel/apparmor_restrict_unprivileged_userns/..": {"", "a container or seccomp filter"},
	} {
		root := t.TempDir()
		if c.value != "" {
			path := filepath.Join(root, file)
			lab.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			lab.Must(t, os.WriteFile(path, []byte(c.value+"\n"), 0o644))
		}
		if got := remedy(root); !strings.Contains(got, c.want) || !strings.Contains(got, "root") {
			t.Errorf("%s=%s: %q, expected %q", file, c.value, got, c.want)
		}
	}
}
