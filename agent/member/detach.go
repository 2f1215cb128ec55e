package member

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/cluster/state"
)

// Detach takes a container off its networks, or off one (api.Endpoints).
func (m *Member) Detach(_ context.Context, name, network string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.store.Of(name)
	st := m.cluster.State()
	if network != "" && st != nil {
		n, err := st.Network(network)
		if err != nil {
			return refuse(err)
		}
		old = slices.DeleteFunc(old, func(e *endpoint.Endpoint) bool { return e.Network != n.ID })
	}
	if len(old) == 0 {
		where := "this node"
		if network != "" {
			where = "network " + network + " of this node"
		}
		return refuse(deny(state.ErrNotFound, "no container %q is attached to %s; see weft endpoint ls", name, where))
	}
	err := m.store.Remove(old...)
	m.followLocked()
	if err != nil {
		return fmt.Errorf("%s is detached, but an agent that starts before the disk takes that would attach it again: %w", name, err)
	}
	m.log.Info("detached", "container", name, "endpoints", len(old))
	return nil
}

// reap takes out containers whose namespace has ended, before a plan names them: another namespace may be at their path by now. What could
// not be written to disk before is written now. The caller holds the lock.
func (m *Member) reap() {
	var old []*endpoint.Endpoint
	for _, e := range m.store.All() {
		if err := e.Container.Alive(); errors.Is(err, endpoint.ErrGone) {
			m.log.Info("a container has ended; its endpoint is removed", "container", e.Container.Name, "why", err)
			old = append(old, e)
		}
	}
	err := m.store.Flush()
	if len(old) > 0 {
		err = m.store.Remove(old...)
	}
	if err != nil {
		m.log.Error("the list of endpoints is not on disk", "error", err)
	}
}
