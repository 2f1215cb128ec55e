package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/mux"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

func TestWhoMayNotJoinIsToldWhy(t *testing.T) {
	a, other := start(t, "a").found(), start(t, "other").found()
	w := start(t, "w").join(a, state.Worker)
	lost := start(t, "lost") // a member of nothing
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	old := a.token(state.Worker)
	a.propose(state.Command{RotateToken: &state.RotateToken{Role: state.Worker, Secret: identity.NewSecret()}})
	good := a.token(state.Worker)
	late := start(t, "late", func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } })
	everywhere := start(t, "everywhere", func(c *Config) { c.Listen = netip.MustParseAddrPort("0.0.0.0:0") })

	for name, tc := range map[string]struct {
		token  identity.Token
		remote string
		who    *host
		kind   error
		words  []string
	}{
		"a token that was rotated":         {old, a.Addr().String(), nil, state.ErrDenied, []string{"rotated", "weft token show"}},
		"a token of another cluster":       {other.token(state.Worker), a.Addr().String(), nil, nil, []string{"another cluster"}},
		"a clock an hour off":              {good, a.Addr().String(), late, state.ErrInvalid, []string{"1h0m0s", "timedatectl"}},
		"a name that is taken":             {good, a.Addr().String(), start(t, "w"), state.ErrExists, []string{`"w"`}},
		"a worker instead of a manager":    {good, w.Addr().String(), nil, rpc.ErrUnavailable, []string{"no manager", "a (127.0.0.1:"}},
		"a node that is in no cluster":     {good, lost.Addr().String(), nil, nil, []string{"no member of a cluster", "weft init"}},
		"a port that nothing listens at":   {good, "127.0.0.1:1", nil, nil, []string{"127.0.0.1:1", "nothing listens"}},
		"something else than a node":       {good, plain.Addr().String(), nil, nil, []string{"no node API"}},
		"a port where nobody answers":      {good, silent.Addr().String(), nil, nil, []string{"no answer", "firewalls"}},
		"a name without an address":        {good, "nowhere.invalid:7373", nil, nil, []string{"nowhere.invalid", "no address"}},
		"an address without a port":        {good, "127.0.0.1", nil, nil, []string{"HOST:PORT"}},
		"a node that says not where it is": {good, a.Addr().String(), everywhere, nil, []string{"--advertise"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := tc.who
			if h == nil {
				h = start(t, "x")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := h.Join(ctx, JoinOptions{Token: tc.token, Remote: tc.remote, Name: h.name})
			says(t, err, tc.kind, tc.words...)
			if cert, _ := h.Identity().Certificates(); cert != nil || h.State() != nil {
				t.Error("the node is half a member")
			}
			if a.State().Nodes[h.ID()] != nil {
				t.Error("the cluster has the node")
			}
		})
	}
}

func TestWhoGuessesTokensHasToWait(t *testing.T) {
	a := start(t, "a").found()
	x := start(t, "x")
	token := a.token(state.Worker)
	bad := token
	bad.Secret = identity.NewSecret()
	o := JoinOptions{Token: bad, Remote: a.Addr().String(), Name: "x"}
	for range maxGuesses {
		says(t, x.Join(t.Context(), o), state.ErrDenied, "rotated")
	}
	o.Token = token
	says(t, x.Join(t.Context(), o), state.ErrDenied, "wait")
}

func TestTheGateOpensAgain(t *testing.T) {
	now := time.Unix(0, 0)
	g := newGate(func() time.Time { return now })
	from, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range maxGuesses {
		if err := g.pass(from); err != nil {
			t.Fatal(err)
		}
		g.fail(from)
	}
	if g.pass(from) == nil {
		t.Error("the gate is open")
	}
	if err := g.pass(other); err != nil {
		t.Errorf("another address: %v", err)
	}
	now = now.Add(guessTime)
	if err := g.pass(from); err != nil {
		t.Error(err)
	}
	g.fail(other)
	if _, kept := g.fails[mux.Source(from)]; kept {
		t.Error("an old failure is kept")
	}
}

func TestAKeyIsProvenOnItsOwnConnection(t *testing.T) {
	a := start(t, "a").found()
	thief, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	token := a.token(state.Worker)
	connect := func() *tls.Conn {
		c, err := tls.Dial("tcp", a.Addr().String(), identity.JoinTLS(token.Digest))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	one, two := connect(), connect()
	proof, err := rpc.Prove(one.ConnectionState(), thief.Key)
	if err != nil {
		t.Fatal(err)
	}
	j := rpc.Join{Key: thief.Key.Public().(ed25519.PublicKey), Proof: proof}
	if err := j.Check(one.ConnectionState()); err != nil {
		t.Errorf("on its own connection: %v", err)
	}
	if j.Check(two.ConnectionState()) == nil {
		t.Error("the proof holds on another connection")
	}
}

func TestGarbageOnThePortHarmsNobody(t *testing.T) {
	a := start(t, "a").found()
	garbage := make([]byte, 4096)
	rand.Read(garbage)
	for range 50 {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(garbage)
		c.Close()
	}
	until(t, "the garbage is counted", func() bool { return a.Refused()["handshake"] >= 50 })

	token := a.token(state.Worker)
	c, err := tls.Dial("tcp", a.Addr().String(), identity.JoinTLS(token.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		io.WriteString(c, "POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
		c.Write(bytes.Repeat([]byte(" "), 10000000)) // it is not read to its end
	}()
	answer := make([]byte, len("HTTP/1.1 400"))
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 400" {
		t.Errorf("an oversized request is answered by %q (%v), expected status 400", answer, err)
	}
	until(t, "the request is counted", func() bool { return a.Refused()["request"] >= 1 })
	start(t, "w").join(a, state.Worker)
}
