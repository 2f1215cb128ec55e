package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/cluster/board"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/mux"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// Member is this node's part in a cluster. Its methods may be called from any goroutine; those that take a context need Run
// to be running and wait for it.
type Member struct {
	cfg    Config
	lock   *os.File
	addr   netip.AddrPort // of the node API, as others reach it
	mux    *mux.Mux
	server *rpc.Server
	client *rpc.Client
	board  *board.Board
	gate   *gate

	identity atomic.Pointer[identity.Identity]
	quorum   atomic.Pointer[quorum.Quorum] // nil while this node is no manager
	heard    atomic.Pointer[heard]         // from the manager that it follows

	change sync.Mutex // held while membership or role change: by Init, Join, Leave, Restore and the role's keeper
	seats  sync.Mutex // held by the leader while the state and the voters are to change together

	used    atomic.Bool // by Run, or by a Close that came before it
	started chan struct{}
	stop    context.CancelFunc
	ended   chan struct{}
}

// Open reads what Dir has of the node, and listens. A node that is no member has a nil State.
func Open(cfg Config) (*Member, error) {
	m, err := open(cfg.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return m, nil
}

func open(cfg Config) (_ *Member, err error) {
	m := &Member{cfg: cfg, gate: newGate(cfg.Now), started: make(chan struct{}), ended: make(chan struct{})}
	if m.lock, err = board.Lock(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.lock.Close()
		}
	}()
	id, err := m.loadIdentity()
	if err != nil {
		return nil, err
	}
	m.board = board.New(cfg.Dir, cfg.file, cfg.Log)
	if err := m.recall(id); err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address or port for the node API", err)
	}
	m.addr = advertised(cfg, lis.Addr())
	m.mux = mux.New(lis, mux.Config{
		TLS:   func() *tls.Config { return m.Identity().ServerTLS(m.allow, alpns...) },
		Admit: m.admit,
		Log:   cfg.Log,
	})
	m.client = rpc.NewClient(func(ctx context.Context, id identity.NodeID) (*mux.Conn, error) {
		return m.dial(ctx, id, identity.NodeALPN)
	})
	m.server = &rpc.Server{Joiner: admission{m}, Node: node{m}, Beat: cfg.Timing.Beat, Log: cfg.Log}
	return m, nil
}

// recall takes up the membership that the disk tells of: the certificate makes a node a member. What else is there without
// one was left by an Init or Leave that did not come to its end.
func (m *Member) recall(id *identity.Identity) error {
	if cert, _ := id.Certificates(); cert == nil {
		return errors.Join(m.board.Wipe(), os.RemoveAll(m.raftDir()))
	}
	s, err := m.board.Read()
	if err != nil {
		return fmt.Errorf("%w; this node cannot know its cluster: remove %s and join again, or restore a backup", err, m.cfg.Dir)
	}
	m.board.Set(s)
	if !manages(s, id.ID()) {
		return os.RemoveAll(m.raftDir())
	}
	return nil
}

func (m *Member) loadIdentity() (*identity.Identity, error) {
	id, err := identity.Load(m.cfg.Dir)
	if err != nil {
		return nil, err
	}
	id.Now = m.cfg.Now
	m.identity.Store(id)
	return id, nil
}

// raftDir has one directory for each incarnation of the cluster, of which only the newest is used.
func (m *Member) raftDir() string { return filepath.Join(m.cfg.Dir, "raft") }

func (m *Member) logDir(incarnation uint64) string {
	return filepath.Join(m.raftDir(), strconv.FormatUint(incarnation, 10))
}

// Run serves other nodes, follows the state, and does a leader's duties, until ctx ends. It returns when all of it has
// ended. It runs once.
func (m *Member) Run(ctx context.Context) error {
	if !m.used.CompareAndSwap(false, true) {
		return errors.New("cluster: this member runs already, or has ended; open it again")
	}
	defer close(m.ended)
	ctx, m.stop = context.WithCancel(ctx)
	defer m.stop()
	close(m.started)
	defer m.lock.Close()
	defer m.halt()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer m.stop()
	parts.Go(func() { m.server.Run(ctx, m.mux.Listen(identity.JoinALPN), m.mux.Listen(identity.NodeALPN)) })
	for _, part := range []func(context.Context){m.board.Keep, m.keepRole, m.follow, m.lead, m.report, m.renew} {
		parts.Go(func() { part(ctx) })
	}
	if err := m.mux.Run(ctx); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// halt ends this node's part in Raft when all else has ended.
func (m *Member) halt() {
	m.change.Lock()
	defer m.change.Unlock()
	m.client.Close()
	if err := m.stopQuorum(); err != nil {
		m.cfg.Log.Error("end of Raft", "error", err)
	}
}

// Close gives up what Open took, if Run never ran, and otherwise ends Run and waits.
func (m *Member) Close() error {
	if m.used.CompareAndSwap(false, true) {
		defer close(m.ended)
		return errors.Join(m.mux.Close(), m.lock.Close())
	}
	select {
	case <-m.started:
		m.stop()
	case <-m.ended:
	}
	<-m.ended
	return nil
}

// running waits for Run.
func (m *Member) running(ctx context.Context) error {
	select {
	case <-m.ended:
		return errors.New("cluster: this member has ended; open it again")
	default:
	}
	select {
	case <-m.started:
		return nil
	case <-m.ended:
		return errors.New("cluster: this member has ended; open it again")
	case <-ctx.Done():
		return fmt.Errorf("cluster: Run does not run: %w", context.Cause(ctx))
	}
}

// ID returns the node's ID. It is another one after Leave.
func (m *Member) ID() identity.NodeID { return m.Identity().ID() }

// Identity returns the node's key and certificates. It is another one after Leave.
func (m *Member) Identity() *identity.Identity { return m.identity.Load() }

// Addr returns the address that the node API advertises.
func (m *Member) Addr() netip.AddrPort { return m.addr }

// State returns what this node may know of the cluster, nil if it is no member. A node that was removed is not among its
// own state's Nodes.
func (m *Member) State() *state.State { return m.board.Get() }

// Changed returns a channel that is closed at the next change of State.
func (m *Member) Changed() <-chan struct{} { return m.board.Next() }

// Refused returns how many connections and requests of others were refused, by reason.
func (m *Member) Refused() map[string]uint64 {
	counts := map[string]uint64{"request": m.server.Refused()}
	for _, r := range []mux.Reason{mux.Full, mux.Handshake, mux.Denied, mux.Nobody} {
		counts[r.String()] = m.mux.Refused(r)
	}
	return counts
}

// standing returns the state of a node that is a member, or why it is none.
func (m *Member) standing() (*state.State, error) {
	s := m.State()
	switch {
	case s == nil:
		return nil, ErrNoMember
	case s.Nodes[m.ID()] == nil:
		return nil, ErrRemoved
	}
	return s, nil
}

// manages reports whether a node is a manager.
func manages(s *state.State, id identity.NodeID) bool {
	return s != nil && s.Nodes[id] != nil && s.Nodes[id].Role == state.Manager
}

// allow says why a node may not talk to this one.
func (m *Member) allow(id identity.NodeID) error {
	s := m.State()
	if s == nil {
		return ErrNoMember
	}
	if at, removed := s.Removed[id]; removed {
		return fmt.Errorf("node %s was removed from the cluster at %s", id, at.Format(time.RFC3339))
	}
	if s.Nodes[id] == nil {
		return fmt.Errorf("node %s is not known here", id)
	}
	return nil
}

// admit is allow for one protocol.
func (m *Member) admit(alpn string, peer identity.NodeID) error {
	if alpn == identity.JoinALPN {
		return nil
	}
	if err := m.allow(peer); err != nil {
		return err
	}
	if alpn == identity.RaftALPN && !manages(m.State(), peer) {
		return fmt.Errorf("node %s is no manager; only managers take part in Raft", peer)
	}
	return nil
}

// dial connects to a node, where the state says that it is.
func (m *Member) dial(ctx context.Context, id identity.NodeID, alpn string) (*mux.Conn, error) {
	s := m.State()
	if s == nil || s.Nodes[id] == nil {
		return nil, fmt.Errorf("cluster: node %s is not known here", id)
	}
	return m.mux.Dial(ctx, s.Nodes[id].API.String(), m.Identity().ClientTLS(m.allow, id, alpn))
}
