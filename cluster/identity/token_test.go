package identity

import (
	"strings"
	"testing"
)

func TestTokenSurvivesItsText(t *testing.T) {
	for range 100 {
		secret := NewSecret()
		want := Token{Digest: Digest([]byte(secret)), Secret: secret}
		got, err := ParseToken(" " + want.String() + "\n")
		if err != nil || got != want {
			t.Fatalf("%s: %v, %v", want, got, err)
		}
		if len(want.String()) != len("WFTKN-1-")+50+1+25 {
			t.Fatalf("%s has %d characters", want, len(want.String()))
		}
	}
	low := Token{Secret: strings.Repeat("0", 25)}
	if got, err := ParseToken(low.String()); err != nil || got != low {
		t.Errorf("%s: %v, %v", low, got, err)
	}
}

func TestParseTokenSaysWhichPartIsWrong(t *testing.T) {
	digest, secret := strings.Repeat("1", 50), strings.Repeat("2", 25)
	for name, test := range map[string]struct{ token, want string }{
		"nothing":                     {"", "does not begin with WFTKN-"},
		"another thing":               {"hello", "does not begin with WFTKN-"},
		"Swarm's":                     {"SWMTKN-1-" + digest + "-" + secret, "Docker Swarm"},
		"a later version":             {"WFTKN-2-" + digest + "-" + secret, `version "2"; this weft reads version 1`},
		"cut within the digest":       {"WFTKN-1-" + digest[:20], "3 of its 4 parts"},
		"cut after the digest":        {"WFTKN-1-" + digest + "-", "secret (fourth part) has 0 characters; expected 25"},
		"cut within the secret":       {"WFTKN-1-" + digest + "-" + secret[:24], "secret (fourth part) has 24 characters; expected 25"},
		"only the prefix":             {"WFTKN", "1 of its 4 parts"},
		"five parts":                  {"WFTKN-1-" + digest + "-" + secret + "-x", "5 of its 4 parts"},
		"a digest that lost a digit":  {"WFTKN-1-" + digest[1:] + "-" + secret, "CA digest (third part) has 49 characters; expected 50"},
		"a capital letter":            {"WFTKN-1-" + digest[1:] + "A-" + secret, `CA digest (third part) has character 'A'`},
		"a digest beyond 256 bits":    {"WFTKN-1-" + strings.Repeat("z", 50) + "-" + secret, "too large"},
		"a secret beyond 128 bits":    {"WFTKN-1-" + digest + "-" + strings.Repeat("z", 25), "too large"},
		"a character of another kind": {"WFTKN-1-" + digest + "-" + secret[:22] + "\u00e9\u2013"[:3], "fourth part"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseToken(test.token)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), secret[:20]) {
				t.Errorf("%v quotes the secret", err)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{Digest: Digest(nil), Secret: strings.Repeat("3", 25)}.String())
	f.Add("WFTKN-1-")
	f.Add("SWMTKN-1-x-y")
	f.Add("WFTKN-1-" + strings.Repeat("0", 50) + "-" + strings.Repeat("0", 25))
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s)
		if err == nil && token.String() != strings.TrimSpace(s) {
			t.Errorf("%q reads as %s", s, token)
		}
	})
}

func FuzzParseNodeID(f *testing.F) {
	f.Add(NodeID{1, 2, 3}.String())
	f.Add(NodeID{}.String())
	f.Add(strings.Repeat("z", idLen))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseNodeID(s)
		if err == nil && id.String() != s {
			t.Errorf("%q reads as %s", s, id)
		}
	})
}
