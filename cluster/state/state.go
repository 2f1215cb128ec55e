// Package state is what a cluster wants, as one pure state machine: a State, the Commands that change it, and Apply, which
// computes the next State from both and from nothing else. Every manager applies the same commands in the order of its Raft
// log (Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm, 2014, section 2) and so has the same State.
//
//	nil ──Init──► State ──Command──► State ──Command──► State ...      what is random in a command, its proposer drew;
//	                │ View(node)                                       the only clock is Command.At, the leader's
//	                ▼
//	             State without what is not the node's to know
//
// A State is never written to after it was made: Apply copies what it changes and shares the rest, so that a State may be
// read from everywhere without a lock. A command that is refused changes nothing. Apply keeps nothing of the command either.
//
// Addresses go from managers to nodes in leases, and from nodes to containers without asking (package ipam is the arithmetic):
//
//	free ──AskLease──► leased by one node ──Release, Expire, RemoveNode──► free
//	                     │  ▲
//	  another asks for it ▼  │ a minute passes
//	                   wanted: its node gives it back if no container has it
package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/cluster/identity"
)

// What a refused command is, to test for with errors.Is. The error's text names the value, what was expected, and the remedy.
var (
	ErrNotFound  = errors.New("not found")
	ErrExists    = errors.New("already exists")
	ErrInUse     = errors.New("in use")
	ErrInvalid   = errors.New("invalid")
	ErrExhausted = errors.New("exhausted")
	ErrDenied    = errors.New("denied")
)

// refusal is a sentence for a person that is one of the sentinels to a program.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

// refuse returns an error that says what it says and is of that kind.
func refuse(kind error, format string, args ...any) error {
	return &refusal{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Network returns the network of that name, ID, or unique beginning of an ID, in this order.
func (s *State) Network(ref string) (*Network, error) {
	return find(s.Networks, ref, "network", func(n *Network) string { return n.Name })
}

// NodeByRef returns the node of that name, ID, or unique beginning of an ID, in this order.
func (s *State) NodeByRef(ref string) (*Node, error) {
	return find(s.Nodes, ref, "node", func(n *Node) string { return n.Name })
}

// find does the work of both.
func find[ID interface {
	comparable
	String() string
}, T any](all map[ID]*T, ref, what string, name func(*T) string) (*T, error) {
	var byID []*T
	for id, v := range all {
		if name(v) == ref {
			return v, nil
		}
		if ref != "" && strings.HasPrefix(id.String(), ref) {
			byID = append(byID, v)
		}
	}
	switch len(byID) {
	case 0:
		return nil, refuse(ErrNotFound, "no %s has the name or ID %q; see weft %s ls", what, ref, what)
	case 1:
		return byID[0], nil
	}
	return nil, refuse(ErrInvalid, "%d %ss have an ID that begins with %q; give more of it", len(byID), what, ref)
}

// Managers returns the managers, ordered by ID.
func (s *State) Managers() []*Node {
	var managers []*Node
	for _, n := range s.Nodes {
		if n.Role == Manager {
			managers = append(managers, n)
		}
	}
	slices.SortFunc(managers, func(a, b *Node) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return managers
}

// Lease returns what a node leases in a network, nil if it takes no part in it.
func (s *State) Lease(net NetworkID, node identity.NodeID) *Lease {
	leases := s.Leases[net]
	if i, ok := findLease(leases, node); ok {
		return leases[i]
	}
	return nil
}

// Participants returns the nodes that take part in a network, ordered by ID.
func (s *State) Participants(net NetworkID) []identity.NodeID {
	ids := make([]identity.NodeID, 0, len(s.Leases[net]))
	for _, l := range s.Leases[net] {
		ids = append(ids, l.Node)
	}
	return ids
}

// findLease returns where a node's lease is among a network's, or belongs.
func findLease(leases []*Lease, node identity.NodeID) (int, bool) {
	return slices.BinarySearchFunc(leases, node, func(l *Lease, id identity.NodeID) int { return bytes.Compare(l.Node[:], id[:]) })
}

// nodeName returns a node's name for messages, or its ID if it is no member.
func (s *State) nodeName(id identity.NodeID) string {
	if n := s.Nodes[id]; n != nil {
		return n.Name
	}
	return id.String()
}
