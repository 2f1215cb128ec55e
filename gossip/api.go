package gossip

import (
	"crypto/ed25519"
	"net/netip"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// Directory says who belongs to the cluster.
type Directory interface {
	// PublicKey returns a node's identity key. False means that it is no member of the cluster, or no longer: what it sends
	// is refused, and its records are dropped. It is asked often and must not block.
	PublicKey(identity.NodeID) (ed25519.PublicKey, bool)
}

// Record is one fact about a network, from the node that owns it. Value is shared: do not change it.
type Record struct {
	Owner  identity.NodeID
	Key    string
	Value  []byte
	Time   uint64 // Lamport time of its owner, which starts at the wall clock's milliseconds
	Hidden bool   // its owner does not answer: the record comes back when the owner does
}

// Liveness is what is known of a member's life.
type Liveness int

// The states of a member.
const (
	Alive   Liveness = iota
	Suspect          // does not answer this node; its records are hidden
	Dead             // failed, or left
)

// String returns the state as listings print it.
func (l Liveness) String() string {
	switch l {
	case Alive:
		return "alive"
	case Suspect:
		return "suspect"
	default:
		return "dead"
	}
}

// Member is a node of the cluster as gossip sees it.
type Member struct {
	ID       identity.NodeID
	Addr     netip.AddrPort
	State    Liveness
	LastSeen time.Time // now for one that is alive; for one that never was, when this node learnt of it
}

// Traffic counts messages and their bytes, without what memberlist and the transport add.
type Traffic struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

// Stats counts what happened since New.
type Stats struct {
	Sent     map[string]Traffic `json:"sent"`     // by kind of message
	Received map[string]Traffic `json:"received"` // by kind of message
	Refused  map[string]uint64  `json:"refused"`  // messages and records, by reason
	Equal    uint64             `json:"equal"`    // digests of peers that equalled this node's
	Differed uint64             `json:"differed"` // digests of peers that did not
	Own      int                `json:"own"`      // own records that wait to be sent
	Relayed  int                `json:"relayed"`  // others' records that wait to be passed on
	Inbox    int                `json:"inbox"`    // messages that wait to be handled
	Suspects uint64             `json:"suspects"` // how often a member stopped answering

	Duplicates uint64 `json:"duplicates"` // records that came though they were there already
}
