package state

import (
	"crypto/ed25519"
	"net/netip"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/vxlan"
)

// State is what the cluster wants, after the command at Index. It is immutable: Apply returns another one, which shares
// what did not change. Workers hold a View of it, without what is not theirs to know.
type State struct {
	Index    uint64                        `json:"index"`
	Cluster  Cluster                       `json:"cluster"`
	Nodes    map[identity.NodeID]*Node     `json:"nodes"`
	Removed  map[identity.NodeID]time.Time `json:"removed,omitempty"` // nodes that are refused for ever, with when they were removed
	Networks map[NetworkID]*Network        `json:"networks"`
	Leases   map[NetworkID][]*Lease        `json:"leases,omitempty"` // by network, ordered by node
}

// Cluster is what holds for all of it.
type Cluster struct {
	ID       string          `json:"id"` // random, 25 digits of base 36
	Created  time.Time       `json:"created"`
	CACert   []byte          `json:"ca_cert"`          // DER
	CAKey    []byte          `json:"ca_key,omitempty"` // PKCS #8; managers only
	Tokens   map[Role]string `json:"tokens,omitempty"` // secrets of the join tokens; managers only
	Pools    []Pool          `json:"pools"`            // where default subnets come from
	Gossip   Keyring         `json:"gossip"`           // of memberlist
	LeaseTTL time.Duration   `json:"lease_ttl"`        // addresses of a node that nobody has seen for this long become free
	CertLife time.Duration   `json:"cert_life"`        // of node certificates
}

// Role is what a node does for the cluster.
type Role string

// The two roles.
const (
	Worker  Role = "worker"
	Manager Role = "manager"
)

// Availability says whether a node takes containers.
type Availability string

// The two availabilities.
const (
	Active Availability = "active"
	Drain  Availability = "drain" // keeps what it has, takes nothing new
)

// Node is one member of the cluster.
type Node struct {
	ID           identity.NodeID   `json:"id"`
	Name         string            `json:"name"` // unique
	Role         Role              `json:"role"`
	Availability Availability      `json:"availability"`
	Key          ed25519.PublicKey `json:"key"`
	Joined       time.Time         `json:"joined"`
	Report
}

// Report is what a node tells of itself. It is sent when it changes.
type Report struct {
	API      netip.AddrPort `json:"api"`              // node API and Raft, TCP
	Gossip   netip.AddrPort `json:"gossip"`           // memberlist, TCP and UDP
	VTEP     netip.AddrPort `json:"vtep"`             // VXLAN, UDP
	MTU      int            `json:"mtu"`              // of the underlay device
	Routes   []netip.Prefix `json:"routes,omitempty"` // destinations of the host's routing tables, without the default route; new subnets avoid them
	Version  string         `json:"version,omitempty"`
	KeyEpoch uint64         `json:"key_epoch"` // the newest epoch whose keys it has installed
}

// Pool is a range that default subnets are cut from.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"` // prefix length of each subnet
}

// Keyring holds symmetric keys by epoch. Rotation first adds a key (everybody can open what it seals), then makes it Primary
// (everybody seals with it), then removes the older ones; each step waits until the nodes report the one before.
type Keyring struct {
	Keys    []Key  `json:"keys,omitempty"` // oldest first
	Primary uint64 `json:"primary"`        // epoch of the key to seal with
}

// Key is one symmetric key.
type Key struct {
	Epoch   uint64    `json:"epoch"`
	Secret  []byte    `json:"secret"` // 32 bytes
	Created time.Time `json:"created"`
}

// NetworkID names a network: 16 random bytes, in text 25 digits of base 36.
type NetworkID [16]byte

// Driver is how far a network reaches.
type Driver string

// The drivers.
const (
	Overlay Driver = "overlay" // all nodes
	Bridge  Driver = "bridge"  // one node, the one in Network.Node
)

// Network is one layer-2 segment.
type Network struct {
	ID      NetworkID       `json:"id"`
	Created time.Time       `json:"created"`
	VNI     vxlan.VNI       `json:"vni"`
	Node    identity.NodeID `json:"node,omitzero"` // of a bridge network: the only node that has it
	Keys    Keyring         `json:"keys,omitzero"` // seal the network's records; only nodes that take part see them
	Subnets []Subnet        `json:"subnets"`
	NetworkSpec
	Tight  bool         `json:"tight,omitempty"`  // nearly all addresses are leased: nodes give back what they do not use
	Wanted []netip.Addr `json:"wanted,omitempty"` // addresses that a node asked for and another leases: give them back if unused

	WantedUntil []time.Time `json:"wanted_until,omitempty"` // of each of Wanted, when the wish lapses; until then no other node is given the address unasked
}

// NetworkSpec is what a user asks for.
type NetworkSpec struct {
	Name       string            `json:"name"`
	Driver     Driver            `json:"driver"`        // default overlay
	Ask        []Subnet          `json:"ask,omitempty"` // what the user gave; Network.Subnets has what became of it
	IPv6       bool              `json:"ipv6,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	Ingress    bool              `json:"ingress,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	MTU        int               `json:"mtu,omitempty"`     // 0: computed on each node
	AskVNI     vxlan.VNI         `json:"ask_vni,omitempty"` // 0: the lowest free one from 4096
	Encrypted  bool              `json:"encrypted,omitempty"`
	AllowSpoof bool              `json:"allow_spoof,omitempty"`
	Egress     Egress            `json:"egress,omitempty"` // as asked for; Reach has what follows from it
}

// Egress says what the containers of a network reach beyond it.
type Egress string

// The kinds of egress. The subnets of other networks are reached with none of them.
const (
	EgressInternet Egress = "internet" // all that their node reaches, and the node itself, but no link-local addresses; the default
	EgressFull     Egress = "full"     // link-local addresses too, such as a cloud's metadata service
	EgressNone     Egress = "none"     // nothing; that of internal networks
)

// Subnet is one range of addresses of a network. Only Prefix is required when asked for.
type Subnet struct {
	Prefix  netip.Prefix          `json:"prefix"`
	Range   netip.Prefix          `json:"range,omitzero"`   // addresses are handed out from here only; zero: the whole prefix
	Gateway netip.Addr            `json:"gateway,omitzero"` // default: the first address
	Aux     map[string]netip.Addr `json:"aux,omitempty"`    // reserved for others, by name
}

// Lease is the addresses that a node may hand out in a network. Holding a lease, an empty one too, is taking part in the network.
type Lease struct {
	Node      identity.NodeID `json:"node"`
	Addresses []netip.Addr    `json:"addresses"` // ordered
}

// Command is one change. Exactly one of the pointers is set. What is random in it was drawn by its proposer, so that every
// manager computes the same state.
type Command struct {
	At time.Time       `json:"at"` // set by the leader
	By identity.NodeID `json:"by"` // who asks; set by the manager that took the request from its mutually authenticated connection

	Init          *Init          `json:"init,omitempty"`
	AddNode       *AddNode       `json:"add_node,omitempty"`
	UpdateNode    *UpdateNode    `json:"update_node,omitempty"`
	RemoveNode    *RemoveNode    `json:"remove_node,omitempty"`
	Report        *Report        `json:"report,omitempty"` // of the node By
	CreateNetwork *CreateNetwork `json:"create_network,omitempty"`
	RemoveNetwork *RemoveNetwork `json:"remove_network,omitempty"`
	Lease         *AskLease      `json:"lease,omitempty"`
	Release       *Release       `json:"release,omitempty"`
	Expire        *Expire        `json:"expire,omitempty"`
	RotateToken   *RotateToken   `json:"rotate_token,omitempty"`
	RotateKeys    *RotateKeys    `json:"rotate_keys,omitempty"`
}

// Init makes the cluster with its first node. It also makes the network "ingress".
type Init struct {
	Cluster   Cluster   `json:"cluster"`
	Node      Node      `json:"node"`
	IngressID NetworkID `json:"ingress_id"`
	Secret    []byte    `json:"secret"` // the ingress network's first key
}

// AddNode adds a node that a manager has checked, or takes back the same node under the same key.
type AddNode struct {
	Node Node `json:"node"`
}

// UpdateNode changes a node; zero fields stay as they are.
type UpdateNode struct {
	ID           identity.NodeID `json:"id"`
	Role         Role            `json:"role,omitempty"`
	Availability Availability    `json:"availability,omitempty"`
}

// RemoveNode removes a node for ever, with its leases and its bridge networks.
type RemoveNode struct {
	ID identity.NodeID `json:"id"`
}

// CreateNetwork makes a network.
type CreateNetwork struct {
	ID     NetworkID   `json:"id"`
	Secret []byte      `json:"secret"` // its first key, 32 bytes
	Spec   NetworkSpec `json:"spec"`
}

// RemoveNetwork removes a network that no node has addresses of.
type RemoveNetwork struct {
	ID NetworkID `json:"id"`
}

// AskLease asks for addresses in a network for the node By, and makes it take part. The result is in Result.Lease.
type AskLease struct {
	Network NetworkID    `json:"network"`
	Count   int          `json:"count"`          // how many the node would like in each family that the network has; it may get fewer, at least one, or an error
	Want    []netip.Addr `json:"want,omitempty"` // these and no others, all or none
}

// Release gives addresses back. With Leave the node takes part no longer; it has no addresses left then.
type Release struct {
	Network   NetworkID    `json:"network"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Leave     bool         `json:"leave,omitempty"`
}

// Expire frees all leases of nodes that nobody has seen for the lease's lifetime.
type Expire struct {
	Nodes []identity.NodeID `json:"nodes"`
}

// RotateToken replaces the secret of a join token.
type RotateToken struct {
	Role   Role   `json:"role"`
	Secret string `json:"secret"`
}

// RotateKeys does one step of a rotation of all keyrings (gossip's and the networks').
type RotateKeys struct {
	Step    RotateStep           `json:"step"`
	Gossip  []byte               `json:"gossip,omitempty"` // with StepInstall: the new secrets
	Network map[NetworkID][]byte `json:"network,omitempty"`
}

// RotateStep is a step of a rotation.
type RotateStep string

// The steps, in order.
const (
	StepInstall RotateStep = "install" // add a key with the next epoch
	StepUse     RotateStep = "use"     // make the newest key primary
	StepRemove  RotateStep = "remove"  // drop all keys but the primary
)

// Result is what a command gives besides the new state.
type Result struct {
	Network *Network     `json:"network,omitempty"` // CreateNetwork
	Lease   []netip.Addr `json:"lease,omitempty"`   // AskLease: what the node got now, in addition to what it had
	Pending string       `json:"pending,omitempty"` // AskLease: why it got nothing yet; other nodes were asked to give back, ask again soon
}
