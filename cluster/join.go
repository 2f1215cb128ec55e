package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// maxJoinRoutes keeps a request to join short; the node's next report has all its routes.
const maxJoinRoutes = 512

// Join makes this node a member of the cluster that the token names, or changes nothing.
func (m *Member) Join(ctx context.Context, o JoinOptions) error {
	if err := m.join(ctx, o); err != nil {
		return fmt.Errorf("cluster: join: %w", err)
	}
	return nil
}

func (m *Member) join(ctx context.Context, o JoinOptions) error {
	if err := m.running(ctx); err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	if err := m.free(); err != nil {
		return err
	}
	if err := m.reachable(); err != nil {
		return err
	}
	name, err := hostName(o.Name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*m.cfg.Timing.Propose)
	defer cancel()
	w, err := m.apply(ctx, o, name)
	if err != nil {
		return err
	}
	if w.Warning != "" {
		m.cfg.Log.Warn("joined, but", "warning", w.Warning)
	}
	return m.enter(o.Token, w)
}

// free refuses a node that is a member. One whose certificate expired may come back: nobody talks to it any more.
func (m *Member) free() error {
	s := m.State()
	if s == nil {
		return nil
	}
	if s.Nodes[m.ID()] == nil {
		return ErrRemoved
	}
	if cert, _ := m.Identity().Certificates(); cert != nil && m.cfg.Now().Before(cert.NotAfter) {
		return ErrMember
	}
	return nil
}

// apply asks a manager to take this node in.
func (m *Member) apply(ctx context.Context, o JoinOptions, name string) (*rpc.Welcome, error) {
	if _, port, err := net.SplitHostPort(o.Remote); err != nil || port == "" {
		return nil, fmt.Errorf("manager %q: expected HOST:PORT, as in 192.0.2.1:7373", o.Remote)
	}
	c, err := m.mux.Dial(ctx, o.Remote, identity.JoinTLS(o.Token.Digest))
	if err != nil {
		return nil, dialError(o.Remote, err)
	}
	defer c.Close()
	report := m.own()
	report.Routes = report.Routes[:min(len(report.Routes), maxJoinRoutes)]
	return rpc.SendJoin(ctx, c, o.Token, m.Identity().Key, rpc.Join{Name: name, Clock: m.cfg.Now(), Report: report})
}

// dialError says what to do about a manager that cannot be reached.
func dialError(remote string, err error) error {
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	remedy := "check the address, and that weft agent runs there"
	switch {
	case errors.As(err, &dns):
		remedy = "no address is known for this name; check it, or give an address"
	case errors.Is(err, syscall.ECONNREFUSED):
		remedy = "nothing listens there; check the port (the node API's, usually 7373), and that weft agent runs"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		remedy = "there is no route to it; check the address and this host's network"
	case errors.As(err, &record):
		remedy = "what listens there is no node API; check the port (usually 7373)"
	case identity.Refused(err):
		remedy = "the node there is no member of a cluster; run weft init there, or name a manager"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		remedy = "there is no answer; check the address, and that firewalls let its TCP port pass"
	}
	return fmt.Errorf("manager %s: %w; %s", remote, err, remedy)
}

// genuine refuses an answer that no manager gives to this node now. Only managers can sign certificates, but a worker that
// answers in a manager's place may have seen the one that this node had before, with the end of which it comes back.
func genuine(w *rpc.Welcome, s *state.State, token identity.Token, id identity.NodeID, now time.Time) error {
	if identity.Digest(w.CA) != token.Digest || !bytes.Equal(s.Cluster.CACert, w.CA) || s.Nodes[id] == nil {
		return errors.New("is not about this node and the token's cluster")
	}
	cert, err := x509.ParseCertificate(w.Cert)
	if err != nil {
		return fmt.Errorf("has no certificate: %w", err)
	}
	if !now.Before(cert.NotAfter) {
		return fmt.Errorf("is an old one: its certificate ended at %s; ask another manager", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// enter makes this node the member that a manager made it. The certificate is the last to be written: before it is there, the
// node is no member.
func (m *Member) enter(token identity.Token, w *rpc.Welcome) error {
	s, err := state.Decode(w.State)
	if err != nil {
		return err
	}
	id := m.Identity()
	if err := genuine(w, s, token, id.ID(), m.cfg.Now()); err != nil {
		return fmt.Errorf("the manager's answer %w; nothing was changed", err)
	}
	if err := m.stopQuorum(); err != nil {
		return err
	}
	if err := os.RemoveAll(m.raftDir()); err != nil {
		return err
	}
	err = m.board.Save(s)
	if err == nil {
		err = id.Save(m.cfg.Dir, w.Cert, w.CA)
	}
	if err != nil {
		if m.State() == nil {
			err = errors.Join(err, m.board.Wipe())
		}
		return fmt.Errorf("%w; this node is no member; when there is room on the disk, join again", err)
	}
	m.board.Put(s)
	m.mux.CloseAll()
	return nil
}

// Leave ends this node's membership: the cluster removes it, and it forgets what it knew. With force it forgets also when no
// manager can be told, and as the last manager.
func (m *Member) Leave(ctx context.Context, force bool) error {
	if err := m.leave(ctx, force); err != nil {
		return fmt.Errorf("cluster: leave: %w", err)
	}
	return nil
}

func (m *Member) leave(ctx context.Context, force bool) error {
	if err := m.running(ctx); err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	s := m.State()
	if s == nil {
		return ErrNoMember
	}
	if s.Nodes[m.ID()] != nil {
		if err := m.resign(ctx, s); err != nil {
			if !force {
				return err
			}
			m.cfg.Log.Warn("this node leaves without the cluster's consent", "error", err)
		}
	}
	return m.forget()
}

// resign has the cluster remove this node.
func (m *Member) resign(ctx context.Context, s *state.State) error {
	if manages(s, m.ID()) && len(s.Managers()) == 1 {
		return fmt.Errorf("%w: this node is the last manager, and the cluster ends with it; promote another one first (weft node promote), or use --force",
			state.ErrDenied)
	}
	ctx, cancel := m.patience(ctx)
	defer cancel()
	if _, err := m.carry(ctx, state.Command{RemoveNode: &state.RemoveNode{ID: m.ID()}}); err != nil {
		return fmt.Errorf("%w; use --force to leave without telling the cluster, and remove the node there (weft node rm)", err)
	}
	return nil
}

// forget makes this node a new one, member of nothing. The key goes first: without it the rest is nobody's.
func (m *Member) forget() error {
	if err := m.stopQuorum(); err != nil {
		return err
	}
	if err := identity.Forget(m.cfg.Dir); err != nil {
		return err
	}
	if _, err := m.loadIdentity(); err != nil {
		return err
	}
	m.heard.Store(nil)
	m.board.Put(nil)
	m.mux.CloseAll()
	return errors.Join(m.board.Wipe(), os.RemoveAll(m.raftDir()))
}
