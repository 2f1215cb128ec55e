package vxlan

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// Peer is another tunnel endpoint: the sockets that send to it, and what went to and fro. Counters may be read at any time.
type Peer struct {
	Addr netip.Addr

	paths [paths]path
	mtu   atomic.Int32 // largest inner IP packet that the path takes now
	noGSO atomic.Bool  // the kernel refused UDP_SEGMENT on this path

	TxFrames, TxBytes, TxMessages atomic.Uint64 // frames and their bytes, and the messages that carried them
	RxFrames, RxBytes, RxMessages atomic.Uint64
}

// path is a pair of sockets with one source port, connected so that the kernel looks the route up once.
type path struct {
	segment int // with checksum: takes UDP_SEGMENT
	plain   int // for single datagrams; the same socket unless these go without a checksum
}

// connect makes a peer with all its sockets.
func (t *Tunnel) connect(addr netip.Addr) (*Peer, error) {
	p := &Peer{Addr: addr}
	for i := range p.paths {
		p.paths[i] = path{-1, -1}
	}
	zero := addr.Is4() && t.cfg.Checksum != ChecksumOn
	p.noGSO.Store(zero && t.cfg.Checksum == ChecksumOff)
	for i := range p.paths {
		if err := p.paths[i].open(t.cfg, addr, zero); err != nil {
			p.Close()
			return nil, fmt.Errorf("vxlan: connect to peer %s: %w", addr, err)
		}
	}
	p.RefreshMTU()
	return p, nil
}

func (s *path) open(cfg Config, addr netip.Addr, zero bool) (err error) {
	if s.segment, err = dial(netip.AddrPortFrom(cfg.Local, 0), netip.AddrPortFrom(addr, cfg.Port), false); err != nil {
		return err
	}
	if s.plain = s.segment; !zero {
		return nil
	}
	local, err := localPort(s.segment)
	if err != nil {
		return err
	}
	s.plain, err = dial(netip.AddrPortFrom(cfg.Local, local), netip.AddrPortFrom(addr, cfg.Port), true)
	return err
}

// MTU returns the largest inner IP packet, in bytes, that the underlay's path to the peer takes in one piece.
func (p *Peer) MTU() int { return int(p.mtu.Load()) }

// Room returns how long the parsed frame f's IP packet may be at most for the path to take it: MTU, less any VLAN tags.
func (p *Peer) Room(f *frame.Frame) int { return p.MTU() - (int(f.L3) - etherLen) }

// Segments reports whether runs of datagrams leave in one message (UDP_SEGMENT).
func (p *Peer) Segments() bool { return !p.noGSO.Load() }

// RefreshMTU asks the kernel for the path's MTU: the device's, the route's, or what path MTU discovery (RFC 1191, RFC 8201) has found.
// A router's message reaches the one socket that it quotes; others learn of it when they send next. So the smallest counts.
func (p *Peer) RefreshMTU() {
	outer := 0
	for _, s := range p.paths {
		for _, fd := range [...]int{s.segment, s.plain} {
			mtu, err := pathMTU(fd, p.Addr.Is4())
			if err == nil && (outer == 0 || mtu < outer) {
				outer = mtu
			}
		}
	}
	if outer == 0 {
		return // not connected any more; keep the last value
	}
	ip := 40
	if p.Addr.Is4() {
		ip = 20
	}
	p.mtu.Store(int32(outer - ip - overhead))
}

// Close closes the peer's sockets. No thread may hold the peer any more.
func (p *Peer) Close() {
	for i := range p.paths {
		s := &p.paths[i]
		if s.plain != s.segment && s.plain >= 0 {
			unix.Close(s.plain)
		}
		if s.segment >= 0 {
			unix.Close(s.segment)
		}
		*s = path{-1, -1}
	}
}
