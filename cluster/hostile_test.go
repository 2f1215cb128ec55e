package cluster

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
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
	transport := &http.Transport{DisableKeepAlives: true, DialTLS: func(string, string) (net.Conn, error) { return c, nil }}
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
