package rpc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/mux"
)

// Client asks other nodes. Connections are kept for the next request.
type Client struct {
	http *http.Client
}

// NewClient returns a client that reaches a node by dial.
func NewClient(dial func(context.Context, identity.NodeID) (*mux.Conn, error)) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			id, err := identity.ParseNodeID(host)
			if err != nil {
				return nil, err
			}
			return dial(ctx, id)
		},
		MaxConnsPerHost:     64, // half of what a node takes of another (mux)
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     time.Minute,
	}}}
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Propose asks a manager for a command.
func (c *Client) Propose(ctx context.Context, to identity.NodeID, p *Proposal) (*Answer, error) {
	var a Answer
	return &a, c.ask(ctx, http.MethodPost, to, "/v1/propose", p, &a)
}

// Renew asks a manager for a certificate.
func (c *Client) Renew(ctx context.Context, to identity.NodeID) (*Certificate, error) {
	var cert Certificate
	return &cert, c.ask(ctx, http.MethodPost, to, "/v1/renew", struct{}{}, &cert)
}

// Status asks a node how far it is.
func (c *Client) Status(ctx context.Context, to identity.NodeID) (*Status, error) {
	var s Status
	return &s, c.ask(ctx, http.MethodGet, to, "/v1/status", nil, &s)
}

// Known returns when a node has a record of this one in force. An error that is ErrUnavailable is a node that does not have it yet;
// ErrUnasked, one that cannot tell.
func (c *Client) Known(ctx context.Context, to identity.NodeID, k *Known) error {
	return c.ask(ctx, http.MethodPost, to, "/v1/known", k, &struct{}{})
}

// Watch follows a manager's state from index on and hands each beat to each, until the manager is silent for quiet, ends the
// stream, or each returns an error. Its error says which.
func (c *Client) Watch(ctx context.Context, to identity.NodeID, index uint64, quiet time.Duration, each func(Beat) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(quiet, func() { cancel(fmt.Errorf("rpc: no sign of life for %s", quiet)) })
	defer alarm.Stop()
	resp, err := c.send(ctx, http.MethodGet, to, "/v1/watch?index="+strconv.FormatUint(index, 10), nil)
	if err != nil {
		return watchError(ctx, err)
	}
	defer resp.Body.Close()
	limited := &io.LimitedReader{R: resp.Body}
	dec := json.NewDecoder(limited)
	for {
		limited.N = maxAnswer
		var b Beat
		if err := dec.Decode(&b); err != nil {
			return watchError(ctx, fmt.Errorf("rpc: watch: %w", err))
		}
		alarm.Reset(quiet)
		if err := each(b); err != nil {
			return err
		}
	}
}

func watchError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func (c *Client) ask(ctx context.Context, method string, to identity.NodeID, path string, in, out any) error {
	resp, err := c.send(ctx, method, to, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(resp.Body, maxAnswer, out)
}

// send returns the answer to a request, or the error that it is.
func (c *Client) send(ctx context.Context, method string, to identity.NodeID, path string, in any) (*http.Response, error) {
	req, err := request(ctx, method, "https://"+to.String()+path, in)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	return resp, refusal(resp)
}

func request(ctx context.Context, method, url string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("rpc: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	return req, nil
}

// refusal returns the error that an answer is, and closes it then.
func refusal(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	defer resp.Body.Close()
	var f fault
	if err := decode(resp.Body, maxJoin, &f); err != nil || f.Text == "" {
		if resp.StatusCode == http.StatusNotFound {
			return fmt.Errorf("rpc: %w", ErrUnasked)
		}
		return fmt.Errorf("rpc: the node answers %s; expected weft's node API", strings.ToLower(resp.Status))
	}
	f.Text = printable(f.Text)
	return &f
}

// printable returns what another node says so that it can go to a terminal, whoever that node is.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text[:min(len(text), maxText)])
}

// SendJoin asks on a connection made for it. It fills in the key and the two proofs.
func SendJoin(ctx context.Context, c *mux.Conn, token identity.Token, key ed25519.PrivateKey, j Join) (*Welcome, error) {
	j.Key = key.Public().(ed25519.PublicKey)
	cs := c.ConnectionState()
	var err error
	if j.Token, err = token.Proof(cs); err != nil {
		return nil, err
	}
	if j.Proof, err = Prove(cs, key); err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}
	defer transport.CloseIdleConnections()
	req, err := request(ctx, http.MethodPost, "https://manager/v1/join", j)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	if err := refusal(resp); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var w Welcome
	err = decode(resp.Body, maxAnswer, &w)
	w.Warning = printable(w.Warning)
	return &w, err
}
