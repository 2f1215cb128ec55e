package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/weftnet/weft/stack/capture"
)

// Capture says what GET /v1/capture shall capture.
type Capture struct {
	capture.Options
	Duration time.Duration // 0: until the client leaves
}

var captureParams = []string{"point", "view", "network", "port", "host", "l4port", "cut", "snaplen", "count", "duration"}

// Query returns c as the parameters of a request.
func (c *Capture) Query() url.Values {
	q := make(url.Values)
	set := func(key, value string, given bool) {
		if given {
			q.Set(key, value)
		}
	}
	set("point", "tunnel", c.Point == capture.AtTunnel)
	set("view", "outer", c.Outer)
	set("network", c.Network, c.Network != "")
	set("port", c.Port, c.Port != "")
	set("host", c.Filter.Net.String(), c.Filter.Net.IsValid())
	set("l4port", strconv.Itoa(int(c.Filter.Port)), c.Filter.Port != 0)
	set("cut", "1", c.Cut)
	set("snaplen", strconv.Itoa(c.Snaplen), c.Snaplen != 0)
	set("count", strconv.FormatUint(c.Count, 10), c.Count != 0)
	set("duration", c.Duration.String(), c.Duration != 0)
	return q
}

// ParseCapture is the inverse of Query.
func ParseCapture(q url.Values) (Capture, error) {
	var c Capture
	var err error
	if _, err = choice(q, "point", "port", "tunnel"); err != nil {
		return c, err
	}
	if q.Get("point") == "tunnel" {
		c.Point = capture.AtTunnel
	}
	if c.Outer, err = choice(q, "view", "inner", "outer"); err != nil {
		return c, err
	}
	if c.Cut, err = choice(q, "cut", "0", "1"); err != nil {
		return c, err
	}
	c.Network, c.Port = q.Get("network"), q.Get("port")
	if c.Filter.Net, err = ParseHost(q.Get("host")); err != nil {
		return c, err
	}
	var n uint64
	if n, err = number(q, "l4port", 1<<16-1); err != nil {
		return c, err
	}
	c.Filter.Port = uint16(n)
	if n, err = number(q, "snaplen", capture.DefaultSnaplen); err != nil {
		return c, err
	}
	c.Snaplen = int(n)
	if c.Count, err = number(q, "count", 1<<63); err != nil {
		return c, err
	}
	if d := q.Get("duration"); d != "" {
		if c.Duration, err = time.ParseDuration(d); err != nil || c.Duration <= 0 {
			return c, fmt.Errorf("duration %q; expected a positive time such as 10s", d)
		}
	}
	return c, nil
}

// ParseHost reads an address, or a subnet, to filter by; the zero Prefix for an empty one.
func ParseHost(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	return netip.Prefix{}, fmt.Errorf("host %q; expected an address or a subnet, such as 10.77.0.2 or 10.77.0.0/24", s)
}

// choice reports whether the second word, not the first, stands at key. The first is the default.
func choice(q url.Values, key, first, second string) (bool, error) {
	switch v := q.Get(key); v {
	case "", first:
		return false, nil
	case second:
		return true, nil
	default:
		return false, fmt.Errorf("%s %q; expected %s or %s", key, v, first, second)
	}
}

func number(q url.Values, key string, most uint64) (uint64, error) {
	v := q.Get(key)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s %q; expected a whole number up to %d", key, v, most)
	}
	return n, nil
}

// capture streams a capture.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	c, err := ParseCapture(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if err := s.known(r); err != nil {
		refuse(w, err)
		return
	}
	if err := s.knownPort(&c); err != nil {
		refuse(w, err)
		return
	}
	session, err := s.Node.Tap().Open(c.Options)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	defer session.Close()
	ctx := r.Context()
	if c.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	if r.Method == http.MethodHead {
		return
	}
	// An error here is a client that has left: nobody is there to be told.
	_ = session.Run(ctx, flusher{w, http.NewResponseController(w)})
}

// knownPort refuses a port that the node does not have.
func (s *Server) knownPort(c *Capture) error {
	if c.Port == "" {
		return nil
	}
	var names []string
	for _, p := range s.Node.Ports() {
		if c.Network != "" && p.Network != c.Network {
			continue
		}
		if p.Name == c.Port {
			return nil
		}
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return Refuse(http.StatusNotFound, "no port %q; there are %s", c.Port, words(slices.Compact(names)))
}

// flusher passes each write on at once, so that a capture can be watched live.
type flusher struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, f.rc.Flush()
}
