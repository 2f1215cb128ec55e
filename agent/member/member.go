// Package member makes a node part of a cluster: it joins what the cluster wants (Raft) with what is where right now (gossip) and with
// what this node has attached, and hands the data plane a plan.
//
//	cluster.Member ── State: networks, nodes, leases ─┐
//	gossip.Gossip ─── Records: endpoints elsewhere ───┼─► follow ─► plan.Config ─► Plane
//	endpoint.Store ── endpoints here ─────────────────┘      │
//	       ▲                                                 └─► gossip: networks entered, records put, keys
//	Attach, Detach
//
// Everything is derived anew at each change; nothing is patched. What a node says of itself is believed only within its lease: a record
// with an address that its owner does not lease is left out, and shown as a problem.
package member

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/vxlan"
)

// Plane is the data plane. Its methods may be called from any goroutine.
type Plane interface {
	// Apply makes the plan true as far as that is possible at once. When it returns, the names in it lead to their containers: other nodes
	// are told so.
	Apply(*plan.Config) error
	// Fault says why the port of an endpoint here is not up; nil if it is.
	Fault(network vxlan.VNI, endpoint string) error
	// Verify compiles the tables anew and tells where those in force differ.
	Verify() []string
	// MTU is that of the underlay's device.
	MTU() (int, error)
}

// Config says what a Member is.
type Config struct {
	Dir       string
	Advertise netip.Addr
	API       uint16 // TCP port
	Gossip    uint16 // TCP and UDP port
	VXLAN     uint16 // UDP port
	Profile   gossip.Profile
	Timing    cluster.Timing
	Version   string
	Log       *slog.Logger
	Plane     Plane
}

// Member is this node in its cluster, or waiting to be in one.
type Member struct {
	cfg     Config
	log     *slog.Logger
	cluster *cluster.Member
	lock    *os.File // of the data directory

	gossip  atomic.Pointer[gossip.Gossip] // nil while this node is in no cluster; changed under mu
	epoch   atomic.Uint64                 // the newest key epoch installed
	wake    chan struct{}                 // asks the loop to follow
	ctx     context.Context               // ends with Run
	cancel  context.CancelFunc
	working sync.WaitGroup // commands about leases under way

	mu       sync.Mutex // guards what follows
	store    *endpoint.Store
	reserved map[reservation]bool    // addresses that an attachment under way has taken
	busy     map[state.NetworkID]int // attachments under way
	gossiped chan struct{}           // closed when gossip's Run has ended
	entered  map[state.NetworkID]bool
	problems []string                          // what could not be made true
	giving   map[state.NetworkID]chan struct{} // closed when addresses of the network are given back
	doubtful map[state.NetworkID][]netip.Addr  // that were given back, but nobody said so: they may yet be another's
	asked    map[reservation]time.Time         // when an address in use that another node leases was asked for
	single   map[state.NetworkID]bool          // where addresses in use are asked for one by one, some being another node's
	naming   map[string]bool                   // containers being attached
	peers    []netip.AddrPort                  // that gossip was told
	stop     context.CancelFunc                // of gossip
	views    map[state.NetworkID]view          // of the networks in the plan in force
	applied  chan struct{}                     // closed when the next plan is in force
	ends     watch                             // of the containers
}

type reservation struct {
	network state.NetworkID
	addr    netip.Addr
}

// Open takes the data directory, which no other agent may have, and reads what is there.
func Open(cfg Config) (*Member, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w; choose another with --data-dir", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w; choose another with --data-dir", err)
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		lock.Close()
		return nil, fmt.Errorf("another agent uses the data directory %s; stop it, or choose another with --data-dir", cfg.Dir)
	}
	m := &Member{
		cfg: cfg, log: cfg.Log, lock: lock, wake: make(chan struct{}, 1), reserved: make(map[reservation]bool), busy: make(map[state.NetworkID]int),
		entered: make(map[state.NetworkID]bool),
		giving:  make(map[state.NetworkID]chan struct{}), naming: make(map[string]bool),
		doubtful: make(map[state.NetworkID][]netip.Addr), asked: make(map[reservation]time.Time), single: make(map[state.NetworkID]bool),
		applied: make(chan struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.ends.look = m.Wake
	if m.store, err = endpoint.Load(cfg.Dir); err == nil {
		rank(m.store.All())
		any := netip.IPv4Unspecified()
		if cfg.Advertise.Is6() {
			any = netip.IPv6Unspecified()
		}
		m.cluster, err = cluster.Open(cluster.Config{
			Dir: filepath.Join(cfg.Dir, "cluster"), Listen: netip.AddrPortFrom(any, cfg.API), Advertise: netip.AddrPortFrom(cfg.Advertise, cfg.API),
			Version: cfg.Version, Log: cfg.Log, Report: m.report, Seen: m.seen, Known: m.known, Timing: cfg.Timing,
		})
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return m, nil
}

// settle is how long a burst of changes is collected before the plan is made anew.
const settle = 5 * time.Millisecond

// audit is how often the containers' namespaces are looked at, and what could not be done is tried again.
const audit = 2 * time.Second

// Run keeps the node in line with the cluster until ctx ends. Endpoints stay attached after that.
func (m *Member) Run(ctx context.Context) error {
	defer m.lock.Close()
	ctx, cancel := context.WithCancel(ctx)
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = m.cluster.Run(ctx)
	}()
	tick := time.NewTicker(audit)
	defer tick.Stop()
	for running := true; running; {
		changed, began := m.cluster.Changed(), time.Now()
		heard := m.follow()
		rest := max(settle, time.Since(began)) // at most half of a core, however much changes
		select {
		case <-ctx.Done():
			running = false
		case <-ended:
			running = false
		case <-changed:
			pause(ctx, rest)
		case <-heard:
			pause(ctx, rest)
		case <-m.wake:
		case <-tick.C:
		}
	}
	cancel()
	m.cancel()
	m.working.Wait()
	m.mu.Lock()
	m.quiet()
	m.ends.close()
	m.mu.Unlock()
	<-ended
	return err
}

func pause(ctx context.Context, rest time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rest):
	}
}

// Wake makes the loop follow again: a port was lost.
func (m *Member) Wake() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// follow brings gossip and the data plane in line with the cluster's state. It returns a channel that closes at gossip's next change.
func (m *Member) follow() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.followLocked()
}

func (m *Member) followLocked() <-chan struct{} {
	st := m.cluster.State()
	m.problems = nil
	m.ends.follow(m.store.All()) // before the look: no end is missed
	m.reap()
	if st == nil {
		m.quiet()
		m.apply(&plan.Config{}, nil)
		return nil
	}
	if err := m.listen(st); err != nil {
		m.problem("gossip: %v", err)
		m.apply(m.compile(st))
		return nil
	}
	heard := m.gossip.Load().Changed() // before the records are read: no change is missed
	m.takePart(st)
	m.apply(m.compile(st))
	m.giveBack(st)
	return heard
}

// apply hands the data plane a plan, and tells those who wait for what is in it.
func (m *Member) apply(p *plan.Config, views map[state.NetworkID]view) {
	if err := m.cfg.Plane.Apply(p); err != nil {
		m.log.Debug("not everything could be attached", "error", err) // shown with each port
	}
	m.views = views
	close(m.applied)
	m.applied = make(chan struct{})
}

func (m *Member) problem(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// Problems lists what could not be made true, a sentence each.
func (m *Member) Problems() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string{}, m.problems...)
}

// listen makes gossip run, with the keys of st.
func (m *Member) listen(st *state.State) error {
	if m.gossip.Load() == nil {
		id := m.cluster.Identity()
		any := netip.IPv4Unspecified()
		if m.cfg.Advertise.Is6() {
			any = netip.IPv6Unspecified()
		}
		g, err := gossip.New(gossip.Config{
			Self: id.ID(), Key: id.Key, Bind: netip.AddrPortFrom(any, m.cfg.Gossip), Advertise: netip.AddrPortFrom(m.cfg.Advertise, m.cfg.Gossip),
			Directory: directory{m.cluster}, Profile: m.cfg.Profile, Keys: st.Cluster.Gossip, Log: m.log,
		})
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := g.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				m.log.Error("gossip ended", "error", err)
			}
		}()
		m.gossiped, m.stop = ended, stop
		m.gossip.Store(g)
	}
	if err := m.gossip.Load().SetKeys(st.Cluster.Gossip); err != nil {
		return err
	}
	m.epoch.Store(newest(st.Cluster.Gossip))
	var peers []netip.AddrPort
	for _, n := range st.Nodes {
		if n.ID != m.cluster.ID() && n.Gossip.IsValid() {
			peers = append(peers, n.Gossip)
		}
	}
	slices.SortFunc(peers, netip.AddrPort.Compare)
	if slices.Equal(peers, m.peers) {
		return nil
	}
	m.peers = peers
	g := m.gossip.Load()
	m.working.Go(func() { // dialing takes its time; gossip itself tries those again that do not answer
		if n, err := g.Join(peers); err != nil {
			m.log.Debug("no other node answers", "joined", n, "error", err)
		}
	})
	return nil
}

// quiet ends gossip.
func (m *Member) quiet() {
	if m.gossip.Load() == nil {
		return
	}
	m.stop()
	<-m.gossiped
	if err := m.gossip.Load().Close(); err != nil {
		m.log.Debug("gossip", "error", err)
	}
	m.gossip.Store(nil)
	clear(m.entered)
	m.peers = nil
}

// takePart enters the networks in which this node holds a lease, and tells its endpoints there.
func (m *Member) takePart(st *state.State) {
	for id, n := range st.Networks {
		if st.Lease(id, m.cluster.ID()) == nil || n.Driver == state.Bridge || len(n.Keys.Keys) == 0 {
			continue
		}
		if err := m.gossip.Load().Enter(id, n.Keys); err != nil {
			m.problem("network %s: %v", n.Name, err)
			continue
		}
		m.entered[id] = true
		m.tell(id)
	}
	for id := range m.entered {
		if st.Networks[id] == nil || st.Lease(id, m.cluster.ID()) == nil {
			m.gossip.Load().Exit(id)
			delete(m.entered, id)
		}
	}
}

// directory is what gossip asks who belongs to the cluster.
type directory struct{ cluster *cluster.Member }

func (d directory) PublicKey(id identity.NodeID) (ed25519.PublicKey, bool) {
	st := d.cluster.State()
	if st == nil || st.Nodes[id] == nil {
		return nil, false
	}
	return st.Nodes[id].Key, true
}

func newest(k state.Keyring) uint64 {
	if len(k.Keys) == 0 {
		return 0
	}
	return k.Keys[len(k.Keys)-1].Epoch
}

// report is what this node tells the cluster of itself.
func (m *Member) report() state.Report {
	mtu, err := m.cfg.Plane.MTU()
	if err != nil {
		m.log.Debug("the underlay's MTU is not known", "error", err)
	}
	return state.Report{
		API:    netip.AddrPortFrom(m.cfg.Advertise, m.cfg.API),
		Gossip: netip.AddrPortFrom(m.cfg.Advertise, m.cfg.Gossip),
		VTEP:   netip.AddrPortFrom(m.cfg.Advertise, m.cfg.VXLAN),
		MTU:    mtu, Routes: routes(), Version: m.cfg.Version, KeyEpoch: m.epoch.Load(),
	}
}

// seen tells when gossip last saw each node.
func (m *Member) seen() map[identity.NodeID]time.Time {
	all := map[identity.NodeID]time.Time{m.cluster.ID(): time.Now()}
	if g := m.gossip.Load(); g != nil {
		for _, other := range g.Members() {
			all[other.ID] = other.LastSeen
		}
	}
	return all
}
