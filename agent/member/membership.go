package member

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// How long leaving waits for the managers, and for those that do not answer: then it is by force.
const (
	leaveTime = 10 * time.Second
	forceTime = 2 * time.Second
)

// Cluster describes the cluster as this node sees it (api.Membership).
func (m *Member) Cluster(context.Context) (api.Cluster, error) {
	st := m.cluster.State()
	if st == nil {
		return api.Cluster{}, errNoMember
	}
	c := api.Cluster{
		ID: st.Cluster.ID, Created: st.Cluster.Created, Node: m.cluster.ID().String(), Index: st.Index, Nodes: len(st.Nodes),
		Managers: len(st.Managers()), KeyEpoch: st.Cluster.Gossip.Primary, Rotating: len(st.Cluster.Gossip.Keys) > 1,
		Refused: m.cluster.Refused(),
	}
	if g := m.gossip.Load(); g != nil {
		stats := g.Stats()
		c.Gossip = &stats
	}
	if self := st.Nodes[m.cluster.ID()]; self != nil {
		c.Role = string(self.Role)
	} else {
		c.Problem = "this node was removed from the cluster; weft leave --force, then join again"
	}
	for _, p := range st.Cluster.Pools {
		c.Pools = append(c.Pools, api.Pool{Base: p.Base, Size: p.Size})
	}
	leader, err := m.cluster.Quorum()
	if err != nil {
		c.Problem = err.Error()
		return c, nil
	}
	c.Quorum, c.Leader = true, nodeName(st, leader)
	return c, nil
}

// Init makes a cluster with this node as its first manager (api.Membership).
func (m *Member) Init(ctx context.Context, r api.InitRequest) (api.JoinTokens, error) {
	name, err := hostName(r.Name)
	if err != nil {
		return api.JoinTokens{}, refuse(err)
	}
	var pools []state.Pool
	for _, p := range r.Pools {
		size := r.PoolSize
		if size == 0 {
			size = 24
			if p.Addr().Is6() {
				size = 64
			}
		}
		pools = append(pools, state.Pool{Base: p, Size: size})
	}
	if err := m.cluster.Init(ctx, cluster.InitOptions{Name: name, Pools: pools}); err != nil {
		return api.JoinTokens{}, refuse(err)
	}
	m.follow()
	m.Wake()
	return m.Tokens(ctx)
}

// Join makes this node a member (api.Membership).
func (m *Member) Join(ctx context.Context, r api.JoinRequest) (api.Member, error) {
	name, err := hostName(r.Name)
	if err != nil {
		return api.Member{}, refuse(err)
	}
	token, err := identity.ParseToken(r.Token)
	if err != nil {
		return api.Member{}, api.Refuse(400, "%w", err)
	}
	if err := m.cluster.Join(ctx, cluster.JoinOptions{Token: token, Remote: r.Remote, Name: name}); err != nil {
		return api.Member{}, refuse(err)
	}
	m.follow()
	m.Wake()
	return m.Member(ctx, m.cluster.ID().String())
}

// hostName returns name, or this host's name without its domain.
func hostName(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("this host has no name (%w); name the node with --name", err)
	}
	if i := slices.Index([]byte(host), '.'); i >= 0 {
		host = host[:i]
	}
	return host, nil
}

// Leave detaches all containers and ends this node's membership (api.Membership).
func (m *Member) Leave(ctx context.Context, r api.LeaveRequest) error {
	if m.cluster.State() == nil {
		return errNoMember
	}
	if !r.Force {
		if err := m.mayLeave(ctx); err != nil {
			return refuse(err)
		}
	}
	m.mu.Lock()
	err := m.store.Remove(m.store.All()...)
	m.followLocked()
	g := m.gossip.Load()
	m.mu.Unlock()
	if g != nil {
		err = errors.Join(err, g.Leave(time.Second))
	}
	wait := leaveTime
	if _, noQuorum := m.cluster.Quorum(); noQuorum != nil {
		wait = forceTime
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := m.cluster.Leave(ctx, r.Force); err != nil {
		m.mu.Lock()
		m.quiet() // it has taken leave of the others: begin anew
		m.followLocked()
		m.mu.Unlock()
		return refuse(fmt.Errorf("%w; the containers are detached, and this node is still a member", err))
	}
	m.follow()
	return err
}

// mayLeave says why this node cannot leave without force, before anything is detached: nobody can be told, or the cluster would end.
func (m *Member) mayLeave(ctx context.Context) error {
	if err := m.led(ctx); err != nil {
		return fmt.Errorf("%w; weft leave --force leaves without telling the others, who remove this node with weft node rm", err)
	}
	st := m.cluster.State()
	managers := st.Managers()
	if len(managers) != 1 || managers[0].ID != m.cluster.ID() {
		return nil
	}
	if others := len(st.Nodes) - 1; others > 0 {
		return deny(state.ErrDenied, "this node is the only manager, and the other nodes (%d) would be left without one; weft node promote one of them first, or end the cluster with --force", others)
	}
	return deny(state.ErrDenied, "this node is the last of its cluster, which would be gone with its networks; say --force")
}

// led waits until the cluster has a leader, as it has after an election, or until ctx ends. A removed node need not wait.
func (m *Member) led(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	for {
		_, err := m.cluster.Quorum()
		if err == nil || errors.Is(err, cluster.ErrRemoved) {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(again):
		}
	}
}

// Tokens returns the join tokens (api.Keeper).
func (m *Member) Tokens(ctx context.Context) (api.JoinTokens, error) {
	if m.cluster.State() == nil {
		return api.JoinTokens{}, errNoMember
	}
	worker, manager, err := m.cluster.JoinTokens(ctx)
	if err != nil {
		return api.JoinTokens{}, refuse(err)
	}
	return api.JoinTokens{Worker: worker.String(), Manager: manager.String(), Remote: netip.AddrPortFrom(m.cfg.Advertise, m.cfg.API)}, nil
}

// RotateToken replaces a join token (api.Keeper).
func (m *Member) RotateToken(ctx context.Context, role string) (api.JoinTokens, error) {
	if _, err := m.propose(ctx, state.Command{RotateToken: &state.RotateToken{Role: state.Role(role), Secret: identity.NewSecret()}}); err != nil {
		return api.JoinTokens{}, err
	}
	return m.Tokens(ctx)
}

// RotateKeys begins a rotation of all keys; the leader does its further steps (api.Keeper).
func (m *Member) RotateKeys(ctx context.Context) error {
	st := m.cluster.State()
	if st == nil {
		return errNoMember
	}
	_, err := m.propose(ctx, state.Command{RotateKeys: cluster.NewKeys(st)})
	return err
}

// newKey returns a random key.
func newKey() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return b
}

// Backup returns all that the managers know, secrets too (api.Keeper).
func (m *Member) Backup(ctx context.Context) ([]byte, error) {
	if m.cluster.State() == nil {
		return nil, errNoMember
	}
	b, err := m.cluster.Backup(ctx)
	return b, refuse(err)
}

// Restore makes this node the only manager of the cluster in a backup (api.Keeper).
func (m *Member) Restore(ctx context.Context, r api.RestoreRequest) error {
	if err := m.cluster.Restore(ctx, r.Backup, r.Force); err != nil {
		return refuse(err)
	}
	m.follow()
	m.Wake()
	return nil
}

// propose sends a command to the managers. When it returns, what that changed is in force on this node.
func (m *Member) propose(ctx context.Context, c state.Command) (state.Result, error) {
	if m.cluster.State() == nil {
		return state.Result{}, errNoMember
	}
	res, err := m.cluster.Propose(ctx, c)
	m.follow()
	return res, refuse(err)
}
