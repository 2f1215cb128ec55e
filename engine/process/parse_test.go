package process

import "testing"

// line is what proc_pid_stat(5) describes, with a name that is as bad as a name can be.
const line = "4711 (a) Z 1 (b)) S 17 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 18446744073709551615 1 1 0 0 0\n"

func TestStatLineIsReadPastItsName(t *testing.T) {
	s, err := parse([]byte(line))
	if want := (stat{'S', 17, 987654}); err != nil || s != want {
		t.Errorf("got %+v, %v; expected %+v", s, err, want)
	}
	for name, bad := range map[string]string{
		"empty":           "",
		"no name":         "4711 S 17",
		"cut":             "4711 (sh) S 17 4711",
		"a parent's name": "4711 (sh) S x 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654",
		"a negative time": "4711 (sh) S 17 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 -1",
		"a long state":    "4711 (sh) SS 17 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654",
	} {
		if s, err := parse([]byte(bad)); err == nil {
			t.Errorf("%s: %+v, expected an error", name, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parse(b); err == nil && s.state == 0 {
			t.Errorf("%q has no state", b)
		}
	})
}
