package inside

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVolumesAreReadAsDockersAre(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]Volume{
		"/a:/b":      {"/a", "/b", false},
		"/a:/b:ro":   {"/a", "/b", true},
		"/a/:/b/:rw": {"/a", "/b", false},
		"x/y:/b":     {here + "/x/y", "/b", false},
		".:/b/../c":  {here, "/c", false},
	} {
		if got, err := ParseVolume(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v; expected %+v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"":          "1 parts",
		"/a":        "1 parts",
		"/a:/b:ro:": "4 parts",
		":/b":       "SRC is empty",
		"/a:":       "DST is no absolute path",
		"/a:b":      "DST is no absolute path",
		"/a:/":      "DST is the root",
		"/a:/b:z":   `unknown mode "z"`,
	} {
		if got, err := ParseVolume(s); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "SRC:DST:ro") {
			t.Errorf("%q: %+v, %v; expected %q and the form", s, got, err, want)
		}
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"/a:/b", "/a:/b:ro", "a:/b/../..:rw", "::", "\x00:/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVolume(s)
		if err != nil {
			return
		}
		if !filepath.IsAbs(v.Source) || !filepath.IsAbs(v.Target) || v.Target == "/" || strings.ContainsRune(v.Source+v.Target, 0) {
			t.Errorf("%q is read as %+v", s, v)
		}
	})
}

func TestOrdersOfAUserSetWhoseEnvironmentItIs(t *testing.T) {
	who := identity{name: "ann", home: "/home/ann"}
	if got, want := who.environment([]string{"HOME=/root", "A=1", "USER=root"}), []string{"A=1", "USER=ann", "LOGNAME=ann", "HOME=/home/ann"}; !slices.Equal(got, want) {
		t.Errorf("got %q, expected %q", got, want)
	}
	who = identity{name: "1234"}
	if got, want := who.environment([]string{"HOME=/root"}), []string{"HOME=/root", "USER=1234", "LOGNAME=1234"}; !slices.Equal(got, want) {
		t.Errorf("of one that nobody knows: %q, expected %q", got, want)
	}
}

func TestWhatTheInitSaysTellsAStartFromAFailure(t *testing.T) {
	if err := Started([]byte{ready}); err != nil {
		t.Errorf("it began: %v", err)
	}
	for _, s := range []string{"", `{"error":"no","status":125}`, `.{"error":"no","status":126}`, ".{", "x"} {
		if Started([]byte(s)) == nil {
			t.Errorf("%q is taken for a start", s)
		}
	}
}
