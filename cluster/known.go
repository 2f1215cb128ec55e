package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// ErrUnasked is what Known returns for a node of an older version, which cannot be asked.
var ErrUnasked = rpc.ErrUnasked

// Known returns when the record that this node told under key in a network is in force on another, as its Config.Known says, or an error
// if it is not within rpc.Patience, is refused there, or ctx ends.
func (m *Member) Known(ctx context.Context, other identity.NodeID, network state.NetworkID, key string) error {
	if err := m.running(ctx); err != nil {
		return err
	}
	if err := m.client.Known(ctx, other, &rpc.Known{Network: network, Key: key, Index: m.index()}); err != nil {
		return fmt.Errorf("cluster: node %s: %w", other, err)
	}
	return nil
}

// Known answers a peer's question (rpc.Node). Who takes no part in a network learns nothing of it.
func (n node) Known(ctx context.Context, peer identity.NodeID, k *rpc.Known) error {
	if n.cfg.Known == nil {
		return fmt.Errorf("this node keeps no records: %w", state.ErrInvalid)
	}
	s, err := n.newer(ctx, peer, k)
	switch {
	case err != nil:
		return err
	case s.Lease(k.Network, peer) == nil:
		return fmt.Errorf("node %s takes no part in network %s: %w", peer, k.Network, state.ErrDenied)
	case s.Lease(k.Network, n.ID()) == nil:
		return nil // no container here is on the network
	}
	err = n.cfg.Known(ctx, peer, k.Network, k.Key)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", rpc.ErrUnavailable, err)
	}
	return err
}

// newer returns a state in which both take part in the network or, failing that, one as new as the peer's.
func (n node) newer(ctx context.Context, peer identity.NodeID, k *rpc.Known) (*state.State, error) {
	for {
		changed := n.Changed()
		s, err := n.standing()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", rpc.ErrUnavailable, err)
		}
		if s.Index >= k.Index || s.Lease(k.Network, peer) != nil && s.Lease(k.Network, n.ID()) != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the state here has index %d; expected %d: %w", s.Index, k.Index, rpc.ErrUnavailable)
		}
	}
}
