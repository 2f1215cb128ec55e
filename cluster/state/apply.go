package state

import "github.com/weftnet/weft/cluster/identity"

// Apply returns the state after a command, with a larger Index if anything changed. s is nil for Init, and only then. It is pure:
// the same state and command give the same result everywhere. A command that is refused gives s itself and an error that
// wraps one of the sentinels; so does, without an error, one that changes nothing. What By may ask is judged here too.
func (s *State) Apply(c *Command) (*State, Result, error) {
	return s, Result{}, refuse(ErrInvalid, "the command is empty; expected exactly one change")
}

// Authorize says what is wrong with the node By asking for this, as things stand. Managers may ask for anything; workers may
// Report, lease and release, make and remove bridge networks of their own, and remove themselves.
func (s *State) Authorize(c *Command) error { return nil }

// View returns what a node may know: a manager everything; a worker neither the CA's key nor the join tokens, and the keys of
// those networks only that it takes part in; who is no member, no keys at all.
func (s *State) View(id identity.NodeID) *State { return s }
