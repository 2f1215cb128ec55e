package api

import (
	"net/netip"
	"time"

	"github.com/weftnet/weft/gossip"
)

// InitRequest makes a cluster, with this node as its first manager (POST /v1/cluster/init).
type InitRequest struct {
	Name     string         `json:"name,omitempty"`      // the node's; default its host name
	Pools    []netip.Prefix `json:"pools,omitempty"`     // where default subnets come from; default 10.0.0.0/8
	PoolSize int            `json:"pool_size,omitempty"` // prefix length of default subnets; default 24, of IPv6 64
}

// JoinTokens are the tokens with which others join, and where.
type JoinTokens struct {
	Worker  string         `json:"worker,omitempty"` // whole tokens, WFTKN-1-...
	Manager string         `json:"manager,omitempty"`
	Remote  netip.AddrPort `json:"remote"` // a manager's API
}

// JoinRequest makes this node a member (POST /v1/cluster/join).
type JoinRequest struct {
	Token  string `json:"token"`
	Remote string `json:"remote"` // HOST:PORT of any manager
	Name   string `json:"name,omitempty"`
}

// LeaveRequest ends this node's membership, and detaches its containers (POST /v1/cluster/leave).
type LeaveRequest struct {
	Force bool `json:"force"` // also when no manager can be told, or when this is the last manager
}

// Cluster describes the cluster as this node sees it (GET /v1/cluster).
type Cluster struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Node     string    `json:"node"` // this node's ID
	Role     string    `json:"role"`
	Index    uint64    `json:"index"`            // of the state that this node has
	Quorum   bool      `json:"quorum"`           // a leader answers: changes are possible
	Leader   string    `json:"leader,omitempty"` // its name
	Problem  string    `json:"problem,omitempty"`
	Nodes    int       `json:"nodes"`
	Managers int       `json:"managers"`
	Pools    []Pool    `json:"pools"`
	KeyEpoch uint64    `json:"key_epoch"` // of the gossip key in use
	Rotating bool      `json:"rotating"`  // a rotation of keys is under way

	Refused map[string]uint64 `json:"refused"` // connections and requests at this node's API port, by reason
	Gossip  *gossip.Stats     `json:"gossip,omitempty"`
}

// Pool is a range that default subnets are cut from.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// Member is a node of the cluster (GET /v1/nodes).
type Member struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Self         bool           `json:"self"`
	Status       string         `json:"status"`       // ready, suspect or down, as gossip sees it
	Availability string         `json:"availability"` // active or drain
	Role         string         `json:"role"`         // worker or manager
	Leader       bool           `json:"leader"`
	Version      string         `json:"version"`
	Joined       time.Time      `json:"joined"`
	API          netip.AddrPort `json:"api"`
	Gossip       netip.AddrPort `json:"gossip"`
	VTEP         netip.AddrPort `json:"vtep"`
	MTU          int            `json:"mtu"`
	Routes       []netip.Prefix `json:"routes"`
	Networks     []string       `json:"networks"` // in which it takes part
}

// Values of Member.Status.
const (
	NodeReady   = "ready"
	NodeSuspect = "suspect"
	NodeDown    = "down"
)

// MemberChange changes a node (POST /v1/nodes/{node}); empty fields stay as they are.
type MemberChange struct {
	Role         string `json:"role,omitempty"`
	Availability string `json:"availability,omitempty"`
}

// RestoreRequest makes this node, and no other, the manager of the cluster in a backup (POST /v1/cluster/restore).
type RestoreRequest struct {
	Backup []byte `json:"backup"`
	Force  bool   `json:"force"` // also on a node that is a member now
}

// Check is one finding of a check-up (GET /v1/doctor).
type Check struct {
	Name   string `json:"name"`
	Level  string `json:"level"` // ok, warn or fail
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// Values of Check.Level.
const (
	CheckOK   = "ok"
	CheckWarn = "warn"
	CheckFail = "fail"
)
