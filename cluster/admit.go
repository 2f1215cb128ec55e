package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/mux"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

const (
	maxSkew    = 5 * time.Minute // between a joining node's clock and this one's
	maxGuesses = 10              // failed joins of one host in guessTime
	guessTime  = time.Minute
)

// admission takes nodes in (rpc.Joiner).
type admission struct{ *Member }

// Join checks who wants to join, has the cluster add it, and signs its certificate.
func (a admission) Join(ctx context.Context, from netip.Addr, cs tls.ConnectionState, j *rpc.Join) (*rpc.Welcome, error) {
	if err := a.gate.pass(from); err != nil {
		return nil, err
	}
	s, err := a.manager()
	if err != nil {
		return nil, err
	}
	role, err := check(s, cs, j, a.cfg.Now())
	if err != nil {
		a.gate.fail(from)
		a.cfg.Log.Warn("a node may not join", "from", from, "name", j.Name, "error", err)
		return nil, err
	}
	n := state.Node{
		ID: identity.IDOf(j.Key), Name: j.Name, Role: role, Availability: state.Active,
		Key: j.Key, Joined: a.cfg.Now(), Report: j.Report,
	}
	ctx, cancel := a.patience(ctx)
	defer cancel()
	answer, err := a.carry(ctx, state.Command{AddNode: &state.AddNode{Node: n}})
	if err != nil {
		return nil, err
	}
	if err := a.board.Await(ctx, answer.Index); err != nil {
		return nil, err
	}
	w, err := a.welcome(n.ID)
	if err == nil {
		w.Warning = callBack(ctx, j.Report.API)
	}
	return w, err
}

// check returns the role that a joining node gets, or why it may not join.
func check(s *state.State, cs tls.ConnectionState, j *rpc.Join, now time.Time) (state.Role, error) {
	role, err := proven(s, cs, j)
	if err != nil {
		return "", err
	}
	if role == "" {
		return "", fmt.Errorf("the join token is of this cluster, but it was rotated since it was given out, or is mistyped; "+
			"ask a manager for the new one: weft token show worker: %w", state.ErrDenied)
	}
	if err := j.Check(cs); err != nil {
		return "", err
	}
	if skew := j.Clock.Sub(now).Round(time.Second); skew.Abs() > maxSkew {
		return "", fmt.Errorf("the joining node's clock says %s, the manager's %s: they differ by %s, expected at most %s; "+
			"set the clocks (timedatectl set-ntp true) and join again: %w",
			j.Clock.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), skew.Abs(), maxSkew, state.ErrInvalid)
	}
	return role, nil
}

// proven returns the role whose token a joining node proves that it knows, none if there is no such.
func proven(s *state.State, cs tls.ConnectionState, j *rpc.Join) (role state.Role, err error) {
	for _, r := range []state.Role{state.Worker, state.Manager} {
		secret := s.Cluster.Tokens[r]
		if secret == "" {
			continue // whose proof anybody could make
		}
		want, err := identity.Token{Secret: secret}.Proof(cs)
		if err != nil {
			return "", err
		}
		if hmac.Equal(want, j.Token) {
			role = r
		}
	}
	return role, nil
}

// welcome is what a node that was added needs.
func (m *Member) welcome(id identity.NodeID) (*rpc.Welcome, error) {
	s, err := m.manager()
	if err != nil {
		return nil, err
	}
	n := s.Nodes[id]
	if n == nil {
		return nil, fmt.Errorf("node %s was removed while it joined: %w", id, state.ErrDenied)
	}
	cert, err := m.sign(s, n)
	if err != nil {
		return nil, err
	}
	return &rpc.Welcome{Cert: cert, CA: s.Cluster.CACert, State: s.View(id).Encode()}, nil
}

// callBack returns a warning if nothing listens where a node says that it does. The others need it there only if it becomes a
// manager.
func callBack(ctx context.Context, at netip.AddrPort) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return fmt.Sprintf("the manager cannot reach this node's API at %s (%v); check --advertise and firewalls before it is made a manager", at, err)
	}
	c.Close()
	return ""
}

// gate slows down who guesses tokens.
type gate struct {
	now func() time.Time

	mu    sync.Mutex
	fails map[netip.Prefix]guesses
}

type guesses struct {
	since time.Time
	count int
}

func newGate(now func() time.Time) *gate {
	return &gate{now: now, fails: make(map[netip.Prefix]guesses)}
}

// pass refuses an address that failed too often lately.
func (g *gate) pass(from netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.fails[mux.Source(from)]
	if left := guessTime - g.now().Sub(f.since); f.count >= maxGuesses && left > 0 {
		return fmt.Errorf("%d joins from %s failed within %s; wait %s, and check the token: %w", f.count, from, guessTime, left.Round(time.Second), state.ErrDenied)
	}
	return nil
}

// fail counts one failure, and forgets the old ones.
func (g *gate) fail(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for source, f := range g.fails {
		if now.Sub(f.since) >= guessTime {
			delete(g.fails, source)
		}
	}
	source := mux.Source(from)
	f := g.fails[source]
	if f.count == 0 {
		f.since = now
	}
	f.count++
	g.fails[source] = f
}
