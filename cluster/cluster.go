// Package cluster makes a node a member of a cluster: it joins and leaves, keeps the node's copy of the cluster's state, and
// carries changes to the leader. Managers agree on the order of changes by Raft (Ongaro and Ousterhout, In Search of an
// Understandable Consensus Algorithm, 2014; package quorum); all other nodes follow a manager.
//
//	         ┌──────────────────── one TCP port, TLS 1.3 (mux) ────────────────────┐
//	         │ weft-join/1            weft-node/1                 weft-raft/1      │
//	         └─────┬───────────────────────┬───────────────────────────┬───────────┘
//	               ▼                       ▼                           ▼ managers only
//	token ─► admit ─► AddNode ──► Propose ─► leader ─► log ─► state.Apply on every manager
//	                                 ▲                                 │
//	Report, leases, users' changes ──┘                                 ▼
//	State() ◄── file ◄── newest ◄──────────────── watch ◄─────────── View(node)
//
// A node's membership goes through these states:
//
//	no member ──Init, Join, Restore──► worker ◄──UpdateNode──► manager
//	    ▲                                 └───────────┬───────────┘
//	    │                                             ▼
//	    └──────────────Leave──────────────── removed by another, or still a member
//
// A state only ever gives way to one with a larger index. It outlives the loss of the quorum, and of all managers, and
// restarts: what a node knows it goes on working with.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/weftnet/weft/cluster/board"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// What callers test for. The errors that wrap them name what is wrong and the remedy; those of refused commands wrap the
// sentinels of package state.
var (
	ErrNoMember = errors.New("this node is a member of no cluster; run weft init or weft join first")
	ErrMember   = errors.New("this node is a member of a cluster already; run weft leave first")
	ErrNoQuorum = errors.New("no quorum")
	ErrRemoved  = errors.New("this node was removed from the cluster; run weft leave, then join again")
)

// Config says how a node takes part.
type Config struct {
	Dir       string         // keeps identity, state and Raft's log
	Listen    netip.AddrPort // of the node API; port 0 takes a free one
	Advertise netip.AddrPort // how others reach it; zero fields are those of Listen
	Version   string
	Log       *slog.Logger                         // nil discards
	Report    func() state.Report                  // what this node tells of itself; asked every Timing.Report and when the state changes. API is filled in
	Seen      func() map[identity.NodeID]time.Time // when gossip last saw each node alive; nil: leases never expire
	Known     Known                                // answers members that ask what this node knows; nil: nothing is asked of it
	Now       func() time.Time                     // nil: time.Now
	Timing    Timing                               // zero fields: DefaultTiming's
	file      board.File                           // writes the state's copy; tests make it fail
}

// Known returns when the record that owner told under key in a network is in force on this node. Until ctx ends it waits for that; it
// returns an error at once if the record is refused here. It is asked only for owners that take part in the network.
type Known func(ctx context.Context, owner identity.NodeID, network state.NetworkID, key string) error

// Timing is how long things take.
type Timing struct {
	Raft    time.Duration // heartbeats and elections of Raft
	Tick    time.Duration // how often a leader looks at its duties, and a node at its role
	Report  time.Duration // at least this long between reports
	Beat    time.Duration // of a watch stream; a follower takes another manager after three without
	Propose time.Duration // how long a proposal is tried when its context has no deadline
	Step    time.Duration // between the steps of a rotation of keys
	Behind  time.Duration // how long a rotation waits for nodes that do not report the new key
	Rotate  time.Duration // age at which keys are rotated
	Renew   time.Duration // between attempts to renew a certificate
	Demoted time.Duration // how long a demoted manager waits to be taken out of Raft before it ends its own
}

// DefaultTiming returns the timing of a cluster on a LAN.
func DefaultTiming() Timing {
	return Timing{
		Raft:    time.Second,
		Tick:    time.Second,
		Report:  5 * time.Second,
		Beat:    3 * time.Second,
		Propose: 10 * time.Second,
		Step:    10 * time.Second,
		Behind:  5 * time.Minute,
		Rotate:  12 * time.Hour,
		Renew:   time.Hour,
		Demoted: 10 * time.Second,
	}
}

// InitOptions describe a new cluster. Zero fields are the defaults of state.Init.
type InitOptions struct {
	Name     string // the node's; default the host's
	Pools    []state.Pool
	LeaseTTL time.Duration
	CertLife time.Duration
}

// JoinOptions say which cluster to join.
type JoinOptions struct {
	Token  identity.Token
	Remote string // HOST:PORT of any manager
	Name   string // the node's; default the host's
}

// alpns are the protocols of the node port.
var alpns = []string{identity.JoinALPN, identity.NodeALPN, identity.RaftALPN}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Report == nil {
		c.Report = func() state.Report { return state.Report{} }
	}
	if !c.Listen.Addr().IsValid() {
		c.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), c.Listen.Port())
	}
	t, d := &c.Timing, DefaultTiming()
	for _, f := range []struct {
		have *time.Duration
		or   time.Duration
	}{
		{&t.Raft, d.Raft}, {&t.Tick, d.Tick}, {&t.Report, d.Report}, {&t.Beat, d.Beat}, {&t.Propose, d.Propose},
		{&t.Step, d.Step}, {&t.Behind, d.Behind}, {&t.Rotate, d.Rotate}, {&t.Renew, d.Renew}, {&t.Demoted, d.Demoted},
	} {
		*f.have = cmp.Or(*f.have, f.or)
	}
	return c
}

// advertised returns how others reach what listens at lis.
func advertised(c Config, lis net.Addr) netip.AddrPort {
	real := lis.(*net.TCPAddr).AddrPort()
	addr, port := c.Advertise.Addr(), c.Advertise.Port()
	if !addr.IsValid() {
		addr = real.Addr().Unmap()
	}
	return netip.AddrPortFrom(addr, cmp.Or(port, real.Port()))
}

// hostName returns a name for a node that was given none: the first label of its host's.
func hostName(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("cluster: no name was given, and the host has none: %w", err)
	}
	label, _, _ := strings.Cut(strings.ToLower(host), ".")
	return label, nil
}
