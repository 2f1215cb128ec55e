package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/state"
)

// Init makes a cluster with this node as its first manager.
func (m *Member) Init(ctx context.Context, o InitOptions) error {
	if err := m.init(ctx, o); err != nil {
		return fmt.Errorf("cluster: init: %w", err)
	}
	return nil
}

func (m *Member) init(ctx context.Context, o InitOptions) error {
	if err := m.running(ctx); err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	if m.State() != nil {
		return ErrMember
	}
	if err := m.reachable(); err != nil {
		return err
	}
	c, err := m.initCommand(o)
	if err != nil {
		return err
	}
	s, _, err := (*state.State)(nil).Apply(c)
	if err != nil {
		return err
	}
	return m.establish(ctx, s)
}

// reachable refuses an address that others could not reach.
func (m *Member) reachable() error {
	if m.addr.Addr().IsUnspecified() {
		return fmt.Errorf("the node API listens at all addresses (%s) and none is advertised; give the one that the other nodes reach by --advertise", m.addr)
	}
	return nil
}

func (m *Member) initCommand(o InitOptions) (*state.Command, error) {
	now, id := m.cfg.Now(), m.Identity()
	name, err := hostName(o.Name)
	if err != nil {
		return nil, err
	}
	clusterID := identity.NewSecret()
	ca, err := identity.NewCA(clusterID, now)
	if err != nil {
		return nil, err
	}
	key, err := ca.MarshalKey()
	if err != nil {
		return nil, err
	}
	init := &state.Init{
		Cluster: state.Cluster{
			ID: clusterID, Created: now, CACert: ca.Cert.Raw, CAKey: key,
			Tokens:   map[state.Role]string{state.Worker: identity.NewSecret(), state.Manager: identity.NewSecret()},
			Pools:    o.Pools,
			Gossip:   state.Keyring{Keys: []state.Key{{Epoch: 1, Secret: newSecret(), Created: now}}, Primary: 1},
			LeaseTTL: o.LeaseTTL,
			CertLife: o.CertLife,
		},
		Node:   m.self(id, name, state.Manager),
		Secret: newSecret(),
	}
	rand.Read(init.IngressID[:])
	return &state.Command{At: now, By: id.ID(), Init: init}, nil
}

// self is this node as a member.
func (m *Member) self(id *identity.Identity, name string, role state.Role) state.Node {
	return state.Node{
		ID: id.ID(), Name: name, Role: role, Availability: state.Active,
		Key: id.Key.Public().(ed25519.PublicKey), Joined: m.cfg.Now(), Report: m.own(),
	}
}

// establish makes this node the only voter of a cluster with that state. The certificate is the last to be written: before
// it is there, the node is no member.
func (m *Member) establish(ctx context.Context, s *state.State) (err error) {
	id := m.Identity()
	cert, err := m.sign(s, s.Nodes[id.ID()])
	if err != nil {
		return err
	}
	if err := m.stopQuorum(); err != nil {
		return err
	}
	before := m.State()
	err = quorum.Seed(m.logDir(incarnation(s)), id.ID(), s)
	if err == nil {
		err = m.board.Save(s)
	}
	if err == nil {
		err = id.Save(m.cfg.Dir, cert, s.Cluster.CACert)
	}
	if err != nil {
		if before == nil {
			err = errors.Join(err, m.board.Wipe(), os.RemoveAll(m.raftDir()))
		}
		return err
	}
	m.board.Put(s)
	m.mux.CloseAll() // they were made as another cluster's member, or none's
	if err := m.startQuorum(); err != nil {
		return err
	}
	ctx, cancel := m.patience(ctx)
	defer cancel()
	return m.elected(ctx)
}

// JoinTokens returns the tokens with which others join. Only managers have them.
func (m *Member) JoinTokens(ctx context.Context) (worker, manager identity.Token, err error) {
	if _, err := m.standing(); err != nil {
		return worker, manager, err
	}
	s, err := m.manager()
	if err != nil {
		return worker, manager, fmt.Errorf("cluster: join tokens: %w", err)
	}
	digest := identity.Digest(s.Cluster.CACert)
	return identity.Token{Digest: digest, Secret: s.Cluster.Tokens[state.Worker]},
		identity.Token{Digest: digest, Secret: s.Cluster.Tokens[state.Manager]}, nil
}
