package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/state"
)

func TestErrorsKeepTheirMeaningOnTheWay(t *testing.T) {
	for _, c := range codes {
		err := carryOver(fmt.Errorf("the network %q: %w", "blue", c.err))
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), `"blue"`) {
			t.Errorf("%v arrives as %v", c.err, err)
		}
		for _, other := range codes {
			if other.err != c.err && errors.Is(err, other.err) {
				t.Errorf("%v arrives as %v, too", c.err, other.err)
			}
		}
	}
	if err := carryOver(io.ErrShortWrite); err.Error() != io.ErrShortWrite.Error() {
		t.Errorf("an error without a code arrives as %v", err)
	}
}

func TestAnotherNodesErrorIsPlainText(t *testing.T) {
	err := carryOver(fmt.Errorf("\x1b]0;title\a\x1b[2Jfine\r\nnext \u202e: %w", state.ErrDenied))
	if got, want := err.Error(), "\ufffd]0;title\ufffd\ufffd[2Jfine\ufffd\nnext \ufffd: denied"; got != want {
		t.Errorf("it reads %q, expected %q", got, want)
	}
	if err := carryOver(errors.New(strings.Repeat("x", maxText+1))); len(err.Error()) > maxText {
		t.Errorf("it has %d bytes", len(err.Error()))
	}
}

// carryOver sends an error as a server does and reads it as a client does.
func carryOver(err error) error {
	status, f := encodeFault(err)
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(f)
	return refusal(w.Result())
}

func TestAnAnswerThatIsNoneOfOursIsAnError(t *testing.T) {
	for name, body := range map[string]string{"a page": "<html>", "nothing": "", "other JSON": "{}", "a long one": strings.Repeat(" ", maxJoin+1)} {
		resp := &http.Response{StatusCode: http.StatusTeapot, Status: "418 I'm a teapot", Body: io.NopCloser(strings.NewReader(body))}
		if err := refusal(resp); err == nil || !strings.Contains(err.Error(), "418") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestsThatNoNodeSendsAreRefused(t *testing.T) {
	token, key, proof := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 64)
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := encode(Join{Token: token, Key: key, Proof: proof, Name: "a"})
	if j, err := DecodeJoin(strings.NewReader(strings.Replace(good, "{", `{"later":"version",`, 1))); err != nil || j.Name != "a" {
		t.Errorf("with an unknown field: %+v, %v", j, err)
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"garbage":       "\xff",
		"half":          good[:len(good)/2],
		"two":           good + good,
		"a short key":   encode(Join{Token: token, Key: key[:5], Proof: proof}),
		"no proof":      encode(Join{Token: token, Key: key}),
		"no token":      encode(Join{Key: key, Proof: proof}),
		"a long name":   encode(Join{Token: token, Key: key, Proof: proof, Name: strings.Repeat("a", 64)}),
		"too much":      encode(Join{Token: token, Key: key, Proof: proof, Name: strings.Repeat("a", maxJoin)}),
		"another thing": "[]",
	} {
		if _, err := DecodeJoin(strings.NewReader(text)); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("to join by %s: %v", name, err)
		}
	}
	if _, err := DecodeProposal(strings.NewReader(encode(Proposal{}))); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("a proposal without an ID: %v", err)
	}
	if _, err := DecodeProposal(strings.NewReader(encode(Proposal{ID: quorum.ID{1}}))); err != nil {
		t.Errorf("a proposal with an ID: %v", err)
	}
}

func FuzzDecodeJoin(f *testing.F) {
	f.Add([]byte(`{"token":"AQ==","key":"AQ==","proof":"AQ==","name":"a","clock":"2026-01-01T00:00:00Z","report":{"api":"127.0.0.1:1"}}`))
	f.Add([]byte(`{"key":null}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := DecodeJoin(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(j.Token) != 32 || len(j.Key) != 32 || len(j.Proof) != 64 || len(j.Name) > 63 {
			t.Error("a key or proof of another size, or a long name")
		}
	})
}

func FuzzDecodeProposal(f *testing.F) {
	f.Add([]byte(`{"id":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"command":{"report":{"api":"127.0.0.1:1"}}}`))
	f.Add([]byte(`{"id":[],"command":{"expire":{"nodes":["0000000000000000000000000"]}}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProposal(bytes.NewReader(b))
		if err != nil {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeProposal(bytes.NewReader(text)); err != nil || again.ID != p.ID {
			t.Errorf("what was accepted is refused when it is sent on: %v", err)
		}
	})
}

func TestOlderNodesAnswerIsKnownAsSuch(t *testing.T) {
	w := httptest.NewRecorder()
	http.NotFound(w, httptest.NewRequest(http.MethodPost, "/v1/known", nil))
	if err := refusal(w.Result()); !errors.Is(err, ErrUnasked) || errors.Is(err, state.ErrNotFound) {
		t.Errorf("a request that the node does not have: %v", err)
	}
	if err := carryOver(fmt.Errorf("network: %w", state.ErrNotFound)); errors.Is(err, ErrUnasked) {
		t.Errorf("what a node does not find: %v", err)
	}
}

func TestQuestionsThatNoNodeAsksAreRefused(t *testing.T) {
	for text, fine := range map[string]bool{
		`{"network":"` + (state.NetworkID{1}).String() + `","key":"k","index":7,"later":1}`:                 true,
		`{"network":"` + (state.NetworkID{1}).String() + `","key":""}`:                                      false,
		`{"network":"` + (state.NetworkID{1}).String() + `","key":"` + strings.Repeat("k", maxKey+1) + `"}`: false,
		`{"network":"` + (state.NetworkID{}).String() + `","key":"k"}`:                                      false,
		`{"key":"` + strings.Repeat("k", maxKnown) + `"}`:                                                   false,
		`[`: false,
	} {
		k, err := DecodeKnown(strings.NewReader(text))
		if fine != (err == nil) || err != nil && !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%.60s: %+v, %v", text, k, err)
		}
	}
}

func FuzzDecodeKnown(f *testing.F) {
	f.Add([]byte(`{"network":"01000000000000000000000000000000","key":"a","index":1}`))
	f.Add([]byte(`{"index":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := DecodeKnown(bytes.NewReader(b)); err == nil && (k.Network.IsZero() || k.Key == "" || len(k.Key) > maxKey) {
			t.Errorf("accepted %+v", k)
		}
	})
}
