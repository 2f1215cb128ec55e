package vxlan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
)

// Checksum says when outer UDP checksums are sent.
type Checksum uint8

// The ways to send outer checksums. Segmented sends (UDP_SEGMENT) always carry one: the kernel refuses them without.
const (
	ChecksumAuto Checksum = iota // IPv4: zero for single datagrams (RFC 7348 §5), present in segmented sends; IPv6: present
	ChecksumOn                   // always present
	ChecksumOff                  // IPv4: always zero, at the price of never segmenting
)

// Config describes a tunnel endpoint.
type Config struct {
	Local     netip.Addr // the underlay address that this node sends from and receives at
	Port      uint16     // UDP port of all tunnel endpoints; 0 means 4789
	Checksum  Checksum
	Receivers int // receiving sockets, sharing the port by SO_REUSEPORT; 0 means 1
}

const (
	paths      = 4       // sending sockets, and so source ports, per peer (RFC 7348 §5: entropy for the underlay)
	bufferSize = 4 << 20 // bytes of socket buffer asked for
)

// Tunnel is this node's tunnel endpoint. Its methods may be called from any goroutine.
type Tunnel struct {
	cfg   Config
	socks []int

	mu    sync.Mutex // guards changes of peers
	peers atomic.Pointer[map[netip.Addr]*Peer]

	// Drops counts frames from the underlay that belong to no network.
	Drops drop.Counters
}

// Listen opens the tunnel's receiving sockets. If the port is taken, the error says by what it probably is, and what to do.
func Listen(cfg Config) (*Tunnel, error) {
	if cfg.Port == 0 {
		cfg.Port = Port
	}
	cfg.Receivers = max(cfg.Receivers, 1)
	t := &Tunnel{cfg: cfg}
	t.peers.Store(&map[netip.Addr]*Peer{})
	if err := t.probe(); err != nil {
		return nil, err
	}
	for range cfg.Receivers {
		fd, err := listen(cfg, cfg.Receivers > 1)
		if err != nil {
			t.Close()
			return nil, t.explain(err)
		}
		t.socks = append(t.socks, fd)
	}
	return t, nil
}

// probe finds out whether somebody else has the port: SO_REUSEPORT would let a second agent of the same user join in silence,
// and take half of the frames.
func (t *Tunnel) probe() error {
	fd, err := listen(t.cfg, false)
	if err != nil {
		return t.explain(err)
	}
	return unix.Close(fd)
}

func (t *Tunnel) explain(err error) error {
	at := netip.AddrPortFrom(t.cfg.Local, t.cfg.Port)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("vxlan: UDP %s is in use, probably by a kernel VXLAN device (`ip -d link show type vxlan`) or another agent; "+
			"remove it, or set another underlay port on all nodes: %w", at, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("vxlan: %s is not an address of this host (`ip address`); set the underlay address to one that is: %w", t.cfg.Local, err)
	}
	return fmt.Errorf("vxlan: listen on UDP %s: %w", at, err)
}

// Local returns the address and port at which the tunnel receives.
func (t *Tunnel) Local() netip.AddrPort { return netip.AddrPortFrom(t.cfg.Local, t.cfg.Port) }

// Receivers returns how many receiving sockets there are.
func (t *Tunnel) Receivers() int { return len(t.socks) }

// Peers returns the peers that there are now, by address. The map must not be changed.
func (t *Tunnel) Peers() map[netip.Addr]*Peer { return *t.peers.Load() }

// Peer returns the peer at addr, which it makes if there is none yet. Datagrams from addr are accepted from then on.
func (t *Tunnel) Peer(addr netip.Addr) (*Peer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.Peers()[addr]; p != nil {
		return p, nil
	}
	p, err := t.connect(addr)
	if err != nil {
		return nil, err
	}
	next := maps.Clone(t.Peers())
	next[addr] = p
	t.peers.Store(&next)
	return p, nil
}

// Remove forgets peers: their datagrams are refused from now on. Their sockets must be closed by Peer.Close when no thread can hold
// them any more.
func (t *Tunnel) Remove(peers ...*Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := maps.Clone(t.Peers())
	for _, p := range peers {
		delete(next, p.Addr)
	}
	t.peers.Store(&next)
}

// Close closes all sockets. No Sender or Receiver may be in use, nor used after.
func (t *Tunnel) Close() {
	for _, p := range t.Peers() {
		p.Close()
	}
	t.peers.Store(&map[netip.Addr]*Peer{})
	for _, fd := range t.socks {
		unix.Close(fd)
	}
	t.socks = nil
}

// Overhead returns how many bytes VXLAN adds to an inner IP packet between endpoints of local's family: 50 over IPv4, 70 over IPv6.
func Overhead(local netip.Addr) int {
	if local.Is4() {
		return 20 + overhead
	}
	return 40 + overhead
}
