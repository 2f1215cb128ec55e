package datagram

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// How long a flow lasts when nothing comes or goes.
const (
	idleUnanswered = 30 * time.Second
	idleAnswered   = 180 * time.Second // RFC 4787 §4.3 wants two minutes at least
	idleDNS        = 10 * time.Second  // RFC 4787 §4.3 lets well-known ports be shorter
	idlePing       = 60 * time.Second  // RFC 5508 §3.2

	portDNS = 53
)

// key names a mapping.
type key struct {
	net   *Network
	addr  netip.Addr
	port  uint16 // source port or echo id
	proto uint8
}

// shard holds a part of all mappings.
type shard struct {
	mu       sync.RWMutex
	mappings map[key]*mapping
}

func (t *Table) shard(k *key) *shard {
	a := k.addr.As16()
	h := (binary.LittleEndian.Uint64(a[8:]) ^ uint64(k.port)) * 0x9e3779b97f4a7c15
	return &t.shards[h>>58%shards]
}

func (s *shard) find(k *key) *mapping {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mappings[*k]
}

// list returns the shard's mappings.
func (s *shard) list() []*mapping {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*mapping, 0, len(s.mappings))
	for _, m := range s.mappings {
		all = append(all, m)
	}
	return all
}

// mapping is one source port or echo id of a container, and the socket that stands for it. It is a loop.Source.
type mapping struct {
	key  key
	sock int

	pending atomic.Bool // the socket has something to say about what was sent

	out      sync.Mutex // held while the socket is used to send, and when it is closed
	closed   bool
	discover int     // IP_MTU_DISCOVER as it was set last
	single   bool    // the kernel refuses UDP_SEGMENT for this socket
	lastOut  *remote // most datagrams go where the one before went
	refused  *remote // whose datagram was too big last

	mu      sync.Mutex // guards the maps; changes are made with out held too
	remotes map[netip.AddrPort]*remote
	moved   map[netip.AddrPort]*remote // those that admit leads elsewhere, by where

	lastIn *remote // of the table's thread
}

// remote is a flow: whom a mapping's container writes to.
type remote struct {
	m         *mapping
	dst, wire netip.AddrPort // as the container knows it, and where it is
	born      int64          // by Table.clock, as all times
	sent, got atomic.Int64   // last each way; got 0: nothing yet
	last      atomic.Uint64  // a header of the datagram sent last, for quotes
	told      atomic.Uint32  // path MTU that the container was told last; 0: none

	txPackets, txBytes, rxPackets, rxBytes atomic.Uint64

	place // in the wheel
}

// timeout returns how long the flow may be idle.
func (r *remote) timeout() time.Duration {
	switch {
	case r.m.key.proto != frame.ProtoUDP:
		return idlePing
	case r.dst.Port() == portDNS:
		return idleDNS
	case r.got.Load() != 0:
		return idleAnswered
	}
	return idleUnanswered
}

// deadline returns when the flow ends unless something comes or goes.
func (r *remote) deadline() int64 { return max(r.sent.Load(), r.got.Load()) + int64(r.timeout()) }

// open returns the mapping of k, which it makes if there is none.
func (n *Network) open(k *key) (*mapping, drop.Reason) {
	t := n.t
	s := t.shard(k)
	if m := s.find(k); m != nil {
		return m, drop.None
	}
	l := t.thread()
	if l == nil {
		return nil, drop.RouterFault
	}
	if !t.sockets.Take(n.name, k.addr) {
		return nil, drop.FlowLimit
	}
	sock, err := socket(k.proto, k.addr.Is4())
	if err != nil {
		t.sockets.Give(n.name, k.addr)
		return nil, t.refusal(k.proto, err)
	}
	m := &mapping{key: *k, sock: sock, discover: -1, remotes: make(map[netip.AddrPort]*remote)}
	s.mu.Lock()
	other := s.mappings[*k]
	closed := n.closed.Load() || t.closed.Load()
	if other == nil && !closed {
		s.mappings[*k] = m
	}
	s.mu.Unlock()
	if other != nil || closed {
		unix.Close(sock)
		t.sockets.Give(n.name, k.addr)
		return other, drop.PortClosed
	}
	_ = l.Post(func() { // if the loop has ended, so has m
		if m.closed { // only this thread sets it
			return
		}
		if err := l.Serve(m); err != nil {
			t.log.Warn("a container's datagrams get no answers", "network", n.name, "container", m.key.addr, "error", err)
			m.end()
		}
	})
	return m, drop.None
}

// known returns the remote at wire, nil if the container did not write there. It is for the table's thread.
func (m *mapping) known(wire netip.AddrPort) *remote {
	if r := m.lastIn; r != nil && r.wire == wire {
		return r
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.moved[wire]
	if r == nil {
		if r = m.remotes[wire]; r == nil || r.wire != wire {
			return nil
		}
	}
	m.lastIn = r
	return r
}

// add makes a remote. The caller holds m.out.
func (m *mapping) add(dst, wire netip.AddrPort) *remote {
	t := m.key.net.t
	now := t.clock()
	r := &remote{m: m, dst: dst, wire: wire, born: now}
	r.sent.Store(now)
	m.mu.Lock()
	m.remotes[dst] = r
	if wire != dst {
		if m.moved == nil {
			m.moved = make(map[netip.AddrPort]*remote)
		}
		m.moved[wire] = r
	}
	m.mu.Unlock()
	t.wheel.add(r, now)
	return r
}

// drop ends a flow. The caller holds m.out, on the table's thread.
func (m *mapping) drop(r *remote) {
	n := m.key.net
	m.mu.Lock()
	delete(m.remotes, r.dst)
	if m.moved[r.wire] == r {
		delete(m.moved, r.wire)
	}
	m.mu.Unlock()
	if m.lastOut == r {
		m.lastOut = nil
	}
	if m.lastIn == r {
		m.lastIn = nil
	}
	if m.refused == r {
		m.refused = nil
	}
	n.t.wheel.remove(r)
	n.t.limit.Give(n.name, m.key.addr)
}

// cut ends the flows that pick picks, and reports whether none is left. It is for the table's thread.
func (m *mapping) cut(pick func(*remote) bool) (empty bool) {
	m.out.Lock()
	defer m.out.Unlock()
	for _, r := range m.remotes {
		if pick(r) {
			m.drop(r)
		}
	}
	return len(m.remotes) == 0
}

// expire ends r if it was idle for too long, and reports whether it did, and whether none is left. It is for the table's thread.
func (m *mapping) expire(r *remote, now int64) (ended, empty bool) {
	m.out.Lock()
	defer m.out.Unlock()
	if r.deadline() > now {
		return false, false
	}
	m.drop(r)
	return true, len(m.remotes) == 0
}

// end ends all flows and closes the socket. It is for the table's thread.
func (m *mapping) end() {
	t := m.key.net.t
	s := t.shard(&m.key)
	s.mu.Lock()
	if s.mappings[m.key] == m { // first: who finds m closed looks again
		delete(s.mappings, m.key)
	}
	s.mu.Unlock()
	m.out.Lock()
	defer m.out.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	for _, r := range m.remotes {
		m.drop(r)
	}
	t.loop.Load().Forget(m)
	unix.Close(m.sock)
	t.sockets.Give(m.key.net.name, m.key.addr)
}

// FD returns the socket.
func (m *mapping) FD() int { return m.sock }

// Ready reads a batch of answers and errors.
func (m *mapping) Ready() (int, bool) { return m.key.net.t.reader.serve(m), true }
