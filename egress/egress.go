// Package egress is the way out of a node's overlay networks, without any NAT of the kernel's: what containers send beyond their network is
// ended here, and begun anew by sockets of this host. TCP connections are dialed first and accepted after, so that a container sees of the
// remote what it would without us: refused stays refused (RFC 9293 §3.5.2), unreachable stays unreachable (RFC 1122 §4.2.3.9).
//
//	SYN of a container
//	   │
//	Policy.Admit ── forbidden ─────────────────► ICMP administratively prohibited
//	   │
//	room for it? ── no ────────────────────────► nothing: the container tries again, as with a full table of a kernel's NAT
//	   │
//	  dial ────┬─── refused ───────────────────► RST
//	   │       ├─── no route, no answer ───────► ICMP unreachable
//	   │       └─── no socket left ────────────► nothing
//	 accept ───── container gave up ───────────► RST to the remote
//	   │
//	relay.Run, until both have ended, or the container, the network or its policy has
//
// Datagrams and echo requests go the same way by package egress/datagram. Both count against the same limit for each container.
package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/egress/datagram"
	"github.com/weftnet/weft/stack/loop"
)

// What Config's zero values stand for.
const (
	defaultFlows   = 16384
	defaultTimeout = 30 * time.Second
)

// maxFiles is as many descriptors as are reckoned with, where a process may have more.
const maxFiles = 1 << 20

// Config describes an Egress. The zero value is a sound one.
type Config struct {
	FlowsPerContainer int           // connections, datagram flows and echo flows of one container's address together; 0: 16,384
	Loop              *loop.Loop    // the thread that reads answers to datagrams (datagram.Config); nil: one of its own
	DialTimeout       time.Duration // for a remote that does not answer; 0: 30 s, which is less than the minutes that containers try for
	Log               *slog.Logger
}

// Egress is the way out of all networks of a node. Its methods may be called from any goroutine.
type Egress struct {
	timeout   time.Duration
	log       *slog.Logger
	limit     *datagram.Quota // of flows
	sockets   *datagram.Quota // of connections
	datagrams *datagram.Table
	dial      func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)

	mu       sync.Mutex
	networks map[*Network]struct{}
	sweep    *time.Timer // nil while no network has a connection
	closed   bool
}

// New returns a way out that no network uses yet.
func New(c Config) (*Egress, error) {
	if c.FlowsPerContainer < 0 || c.DialTimeout < 0 {
		return nil, fmt.Errorf("egress: %d flows for a container, %s to dial: neither can be negative; 0 is the default", c.FlowsPerContainer, c.DialTimeout)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("egress: limit of open files: %w", err)
	}
	most := int(min(files.Cur, maxFiles))
	e := &Egress{
		timeout:  cmp.Or(c.DialTimeout, defaultTimeout),
		log:      c.Log,
		limit:    datagram.NewQuota(cmp.Or(c.FlowsPerContainer, defaultFlows), 0),
		sockets:  datagram.NewQuota(most/2, most*5/8), // datagrams have a quarter; what is left is for the agent itself
		dial:     dial,
		networks: make(map[*Network]struct{}),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	e.datagrams, err = datagram.New(datagram.Config{Limit: e.limit, Loop: c.Loop, Log: e.log})
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	return e, nil
}

// ErrClosed is why flows end when the way out does.
var ErrClosed = errors.New("egress: closed")

// Close ends all flows and waits for them. It is idempotent.
func (e *Egress) Close() {
	e.mu.Lock()
	e.closed = true
	all := make([]*Network, 0, len(e.networks))
	for n := range e.networks {
		all = append(all, n)
	}
	if e.sweep != nil {
		e.sweep.Stop()
	}
	e.mu.Unlock()
	for _, n := range all {
		n.Close()
	}
	if err := e.datagrams.Close(); err != nil {
		e.log.Warn("the datagrams' way out did not close", "error", err)
	}
}

// PingAllowed returns why echo requests cannot be taken out, and the remedy; nil if they can.
func (e *Egress) PingAllowed() error { return e.datagrams.PingAllowed() }

// sweepEvery is how often connections are looked after.
const sweepEvery = 15 * time.Second

// awake has connections looked after from now on, as long as there are any.
func (e *Egress) awake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sweep == nil && !e.closed {
		e.sweep = time.AfterFunc(sweepEvery, e.look)
	}
}

// look ends connections of which one side has broken while the relay waits for the other to take bytes, which may be for ever.
func (e *Egress) look() {
	e.mu.Lock()
	all := make([]*Network, 0, len(e.networks))
	for n := range e.networks {
		all = append(all, n)
	}
	e.mu.Unlock()
	left := 0
	for _, n := range all {
		left += n.look()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
	case left > 0:
		e.sweep.Reset(sweepEvery)
	default:
		e.sweep = nil
	}
}

// Flow is one connection, or what one container exchanges with one remote by datagrams or echo requests.
type Flow struct {
	Network      string         `json:"network"`
	Protocol     uint8          `json:"protocol"`
	Container    netip.AddrPort `json:"container"` // with its source port or echo id
	Remote       netip.AddrPort `json:"remote"`    // port 0 for echo requests
	Local        netip.AddrPort `json:"local"`     // this host's end, whose address is unspecified for datagrams; none while it is dialed
	State        string         `json:"state"`     // dialing, established or closing; of datagrams unreplied or replied
	Age          time.Duration  `json:"age"`
	Idle         time.Duration  `json:"idle"`
	Up           uint64         `json:"up"` // bytes from the container
	Down         uint64         `json:"down"`
	RTT          time.Duration  `json:"rtt,omitempty"`          // to the remote
	ContainerRTT time.Duration  `json:"containerRTT,omitempty"` // to the container
}

// Flows lists what there is now, by network, container and remote.
func (e *Egress) Flows() []Flow {
	e.mu.Lock()
	all := make([]*Network, 0, len(e.networks))
	for n := range e.networks {
		all = append(all, n)
	}
	e.mu.Unlock()
	var flows []Flow
	for _, n := range all {
		flows = n.connections(flows)
	}
	for _, d := range e.datagrams.Flows() {
		f := Flow{
			Network: d.Network, Protocol: d.Proto, Container: d.Container, Remote: d.Remote, Local: d.Local, State: "unreplied",
			Age: d.Age, Idle: d.Idle, Up: d.TxBytes, Down: d.RxBytes,
		}
		if d.RxPackets > 0 {
			f.State = "replied"
		}
		flows = append(flows, f)
	}
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Container.Compare(b.Container), cmp.Compare(a.Protocol, b.Protocol), a.Remote.Compare(b.Remote))
	})
	return flows
}

// Stats are of all networks since each was made; those that were closed are not among them.
type Stats struct {
	Networks map[string]NetworkStats `json:"networks"`
}

// Stats returns what was done so far.
func (e *Egress) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Stats{Networks: make(map[string]NetworkStats, len(e.networks))}
	for n := range e.networks {
		s.Networks[n.name] = n.Stats()
	}
	return s
}
