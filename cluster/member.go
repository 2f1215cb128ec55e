package cluster

import (
	"context"
	"errors"
	"net/netip"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// Member is this node's part in a cluster. Its methods may be called from any goroutine; those that take a context need Run
// to be running and wait for it.
type Member struct{}

// Open reads what Dir has of the node, and listens. A node that is no member has a nil State.
func Open(cfg Config) (*Member, error) { return nil, errors.ErrUnsupported }

// Run serves other nodes, follows the state, and does a leader's duties, until ctx ends. It returns when all of it has ended.
func (m *Member) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Close gives up what Open took, if Run never ran, and otherwise waits for Run to end.
func (m *Member) Close() error { return nil }

// ID returns the node's ID. It is another one after Leave.
func (m *Member) ID() identity.NodeID { return identity.NodeID{} }

// Identity returns the node's key and certificates. It is another one after Leave.
func (m *Member) Identity() *identity.Identity { return nil }

// Addr returns the address that the node API advertises.
func (m *Member) Addr() netip.AddrPort { return netip.AddrPort{} }

// State returns what this node may know of the cluster, nil if it is no member. A node that was removed is not among its
// own state's Nodes.
func (m *Member) State() *state.State { return nil }

// Changed returns a channel that is closed at the next change of State.
func (m *Member) Changed() <-chan struct{} { return nil }

// Init makes a cluster with this node as its first manager.
func (m *Member) Init(ctx context.Context, o InitOptions) error { return errors.ErrUnsupported }

// Join makes this node a member of the cluster that the token names, or changes nothing.
func (m *Member) Join(ctx context.Context, o JoinOptions) error { return errors.ErrUnsupported }

// Leave ends this node's membership: the cluster removes it, and it forgets what it knew. With force it forgets also when no
// manager can be told, and as the last manager.
func (m *Member) Leave(ctx context.Context, force bool) error { return errors.ErrUnsupported }

// Propose has the cluster do a command, by the leader, and returns when this node's State includes it. While there is no
// leader it tries until ctx ends, or for Timing.Propose if ctx has no deadline. A command is done at most once.
func (m *Member) Propose(ctx context.Context, c state.Command) (state.Result, error) {
	return state.Result{}, errors.ErrUnsupported
}

// Quorum returns the leader, or why there is none.
func (m *Member) Quorum() (leader identity.NodeID, err error) {
	return leader, errors.ErrUnsupported
}

// Backup returns the whole state, with the cluster's secrets, as Restore takes it. Only managers have it.
func (m *Member) Backup(ctx context.Context) ([]byte, error) { return nil, errors.ErrUnsupported }

// Restore makes this node the only manager of the cluster in the backup; the managers that it had become workers. On a node
// that is a member it needs force.
func (m *Member) Restore(ctx context.Context, backup []byte, force bool) error {
	return errors.ErrUnsupported
}

// JoinTokens returns the tokens with which others join. Only managers have them.
func (m *Member) JoinTokens(ctx context.Context) (worker, manager identity.Token, err error) {
	return worker, manager, errors.ErrUnsupported
}

// NewKeys returns the first step of a rotation of all of a cluster's keys, with new secrets; the leader does the next ones.
func NewKeys(s *state.State) *state.RotateKeys { return nil }
