package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// trap is a worker that serves the join protocol in a manager's place, and keeps what it is sent.
type trap struct {
	addr string
	got  chan []byte
}

// disguise hides from net/http that its connections are TLS: it would not serve a protocol that it does not know.
type disguise struct{ net.Listener }

func (d disguise) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// lay lays a trap with a worker's identity. It answers by what answer returns, or refuses.
func lay(t *testing.T, w *host, answer func() *rpc.Welcome) trap {
	t.Helper()
	id := w.Identity()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", id.ServerTLS(func(identity.NodeID) error { return nil }, identity.JoinALPN))
	if err != nil {
		t.Fatal(err)
	}
	tr := trap{addr: lis.Addr().String(), got: make(chan []byte, 1)}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what was cut off is no use
		tr.got <- b
		if a := answer(); a != nil {
			json.NewEncoder(rw).Encode(a)
			return
		}
		http.Error(rw, "{}", http.StatusForbidden)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(disguise{lis}) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return tr
}

// sendJoin sends a Join on a connection of its own, and returns the status and the body that it is answered by.
func sendJoin(t *testing.T, to *host, change func(tls.ConnectionState, *rpc.Join)) (int, string) {
	t.Helper()
	c, err := tls.Dial("tcp", to.Addr().String(), identity.JoinTLS(to.token(state.Worker).Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var j rpc.Join
	change(c.ConnectionState(), &j)
	b, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, "https://manager/v1/join", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAWorkerThatPosesAsAManagerLearnsNoToken(t *testing.T) {
	a := start(t, "a").found()
	w := start(t, "w").join(a, state.Worker)
	token := a.token(state.Manager)
	trap := lay(t, w, func() *rpc.Welcome { return nil })
	x := start(t, "x")
	failed := x.Join(t.Context(), JoinOptions{Token: token, Remote: trap.addr, Name: "x"})
	if failed == nil {
		t.Fatal("x joined at a worker")
	}
	var got []byte
	select {
	case got = <-trap.got:
	default:
		t.Fatalf("x did not ask: %v", failed)
	}
	if bytes.Contains(got, []byte(token.Secret)) {
		t.Errorf("the worker is sent the manager token's secret: %s", got)
	}
	var taken rpc.Join
	if err := json.Unmarshal(got, &taken); err != nil {
		t.Fatal(err)
	}
	thief, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(tls.ConnectionState, *rpc.Join){
		"as it is": func(_ tls.ConnectionState, j *rpc.Join) { *j = taken },
		"with the worker's own key": func(cs tls.ConnectionState, j *rpc.Join) {
			*j = taken
			j.Key = thief.Key.Public().(ed25519.PublicKey)
			if j.Proof, err = rpc.Prove(cs, thief.Key); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if status, text := sendJoin(t, a, change); status != http.StatusForbidden {
			t.Errorf("what the worker was sent is answered by %d when it is passed on %s: %s", status, name, text)
		}
	}
	if n := len(a.State().Nodes); n != 2 {
		t.Errorf("the cluster has %d nodes; expected 2", n)
	}
}

func TestAnOldWelcomeIsRefused(t *testing.T) {
	a := start(t, "a").found()
	w := start(t, "w").join(a, state.Worker)
	var later time.Duration
	x := start(t, "x", func(c *Config) { c.Now = func() time.Time { return time.Now().Add(later) } }).join(a, state.Worker)
	cert, ca := x.Identity().Certificates()
	forged := x.State().Encode()
	x.kill()
	later = state.DefaultCertLife + time.Minute // x comes back when its certificate is over
	x.boot()
	trap := lay(t, w, func() *rpc.Welcome { return &rpc.Welcome{Cert: cert.Raw, CA: ca.Raw, State: forged} })
	err := x.Join(t.Context(), JoinOptions{Token: a.token(state.Worker), Remote: trap.addr, Name: "x"})
	says(t, err, nil, "old one", "nothing was changed")
}

func TestOnlyManagersTalkRaft(t *testing.T) {
	a := start(t, "a").found()
	b, w := start(t, "b").join(a, state.Manager), start(t, "w").join(a, state.Worker)
	voting(t, a, b)
	until(t, "w knows them", func() bool { return w.State().Index == a.State().Index })
	if _, err := a.dial(t.Context(), w.ID(), identity.RaftALPN); err == nil {
		t.Error("a manager talks Raft to a worker")
	}
	c, err := w.dial(t.Context(), a.ID(), identity.RaftALPN)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("a worker reads %d bytes of Raft", n)
	}
	live, err := b.dial(t.Context(), a.ID(), identity.RaftALPN) // while b is a manager
	if err != nil {
		t.Fatal(err)
	}
	a.propose(state.Command{UpdateNode: &state.UpdateNode{ID: b.ID(), Role: state.Worker}})
	live.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := live.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("a demoted manager's connection does not end: %v", err)
	}
}

func TestSecretsOnDiskAreTheirOwnersAlone(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	a := start(t, "a").found()
	b := start(t, "b", func(c *Config) { c.Dir = open }).join(a, state.Manager)
	voting(t, a, b)
	secrets := func() (list []string) {
		c := a.State().Cluster
		for _, s := range [][]byte{c.CAKey, []byte(c.Tokens[state.Worker]), []byte(c.Tokens[state.Manager])} {
			list = append(list, string(s), base64.StdEncoding.EncodeToString(s))
		}
		return list
	}
	holds := func() (found []string) {
		err := filepath.WalkDir(open, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, s := range secrets() {
				if bytes.Contains(text, []byte(s)) {
					found = append(found, path)
					break
				}
			}
			return err
		})
		if err != nil {
			return []string{err.Error()} // a file that went while it was looked for
		}
		return found
	}
	until(t, "a manager's disk has the secrets", func() bool { return slices.Contains(holds(), filepath.Join(open, "state.json")) })
	for _, path := range []string{"key.pem", "state.json", "raft"} {
		info, err := os.Stat(filepath.Join(open, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may use %s: %s", path, info.Mode())
		}
	}
	a.propose(state.Command{UpdateNode: &state.UpdateNode{ID: b.ID(), Role: state.Worker}})
	until(t, "a worker's disk has none", func() bool { return b.quorum.Load() == nil && len(holds()) == 0 })
	for _, h := range []*host{a, b} {
		for _, s := range secrets() {
			if h.log.says(s) {
				t.Errorf("%s logs a secret", h.name)
			}
		}
	}
}
