package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// Client asks the agent at a socket. The zero value is not usable; see NewClient.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the agent whose socket is at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the API has no redirects of its own
	return &Client{path, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, CheckRedirect: stay}}
}

// Status asks for the node as a whole.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", nil, &s)
}

// Networks asks for all networks.
func (c *Client) Networks(ctx context.Context) (n []Network, err error) {
	return n, c.get(ctx, "/v1/networks", nil, &n)
}

// FDB asks for the forwarding table of a network, of all if it is empty.
func (c *Client) FDB(ctx context.Context, network string) (f []FDBEntry, err error) {
	return f, c.get(ctx, "/v1/fdb", ofNetwork(network), &f)
}

// Ports asks for the ports of a network, of all if it is empty.
func (c *Client) Ports(ctx context.Context, network string) (p []PortStatus, err error) {
	return p, c.get(ctx, "/v1/ports", ofNetwork(network), &p)
}

// Stats asks for the counters.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	return s, c.get(ctx, "/v1/stats", nil, &s)
}

// Capture begins a capture and returns its pcapng stream, which ends with ctx at the latest. The caller closes it.
func (c *Client) Capture(ctx context.Context, what Capture) (io.ReadCloser, error) {
	return c.ask(ctx, http.MethodGet, "/v1/capture", what.Query(), nil)
}

func ofNetwork(name string) url.Values {
	if name == "" {
		return nil
	}
	return url.Values{"network": {name}}
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	return c.do(ctx, http.MethodGet, path, q, nil, into)
}

func (c *Client) post(ctx context.Context, path string, body, into any) error {
	return c.do(ctx, http.MethodPost, path, nil, body, into)
}

func (c *Client) delete(ctx context.Context, path string, q url.Values) error {
	return c.do(ctx, http.MethodDelete, path, q, nil, nil)
}

// do sends body as JSON, if there is one, and reads the answer into into, if it is not nil.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body, into any) error {
	answer, err := c.ask(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(into); err != nil {
		return fmt.Errorf("the agent's answer to %s cannot be read: %w", path, err)
	}
	return nil
}

// ask returns the body of an answer, or the error that the agent tells: a *Refusal. Path is as it was escaped.
func (c *Client) ask(ctx context.Context, method, path string, q url.Values, body any) (io.ReadCloser, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	u := "http://weft" + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, content)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f Failure
	if json.NewDecoder(resp.Body).Decode(&f) != nil || f.Error == "" {
		return nil, fmt.Errorf("the agent answered %s to %s", resp.Status, path)
	}
	return nil, &Refusal{resp.StatusCode, errors.New(f.Error)}
}

// explain says what a failed connection means, and what to do.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no agent at %s: there is no such socket; start one with weft agent, or name its socket with --socket", c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent at %s: the socket is there, but its agent has ended; start it again with weft agent", c.socket)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("no agent at %s: that is longer than a socket's path can be; name its socket with --socket", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the agent's socket %s belongs to another user; ask as that user (sudo)", c.socket)
	}
	return fmt.Errorf("ask the agent at %s: %w", c.socket, err)
}
