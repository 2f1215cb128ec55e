package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// stream answers every request by what the test writes.
type stream struct{ body io.ReadCloser }

func (s stream) RoundTrip(r *http.Request) (*http.Response, error) {
	context.AfterFunc(r.Context(), func() { s.body.Close() })
	return &http.Response{StatusCode: http.StatusOK, Body: s.body}, nil
}

func TestAWatchEndsWhenItsManagerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		c := &Client{http: &http.Client{Transport: stream{r}}}
		begin := time.Now()
		go func() {
			for range 3 {
				time.Sleep(2 * time.Second)
				io.WriteString(w, "{}\n")
			}
		}()
		beats := 0
		err := c.Watch(t.Context(), identity.NodeID{1}, 0, 3*time.Second, func(Beat) error { beats++; return nil })
		if err == nil || !strings.Contains(err.Error(), "no sign of life") || beats != 3 {
			t.Errorf("after %d beats: %v", beats, err)
		}
		if took := time.Since(begin); took != 9*time.Second {
			t.Errorf("it ends after %s, expected 3 s after the beat at 6 s", took)
		}
	})
}

func TestAWatchEndsWhenItsWatcherHasEnough(t *testing.T) {
	enough := errors.New("enough")
	c := &Client{http: &http.Client{Transport: stream{io.NopCloser(strings.NewReader("{}\n{}\n"))}}}
	if err := c.Watch(t.Context(), identity.NodeID{1}, 0, time.Minute, func(Beat) error { return enough }); err != enough {
		t.Errorf("it ends by %v", err)
	}
}
