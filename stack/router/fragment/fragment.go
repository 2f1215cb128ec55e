// Package fragment puts IP packets together that come in pieces (RFC 791 §3.2, RFC 815, RFC 8200 §4.5), within bounds of memory and time.
//
//	a Packet    room        IP header of the first piece    payload, each piece at its offset
//	            ├──────────┼───────────────────────────────┼──────────┬···········┬──────────┤
//	                                                       │ 0..1480  │   hole    │ 2960..   │
//
// Pieces that overlap make the whole packet void, over IPv4 too (RFC 5722, and so Linux); one that comes twice does no harm.
package fragment

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Bounds on packets that are incomplete. Each holds 64 KiB.
const (
	Max     = 64               // in a table: 4 MiB
	MaxFrom = 16               // of one sender
	Timeout = 30 * time.Second // as Linux (net.ipv4.ipfrag_time)

	maxPieces = 256
)

const (
	fragHeader       = 8
	nextFragment     = 44
	ipv4Len, ipv6Len = 20, 40
)

// Stats count packets that came in pieces.
type Stats struct {
	Open       uint64 // incomplete now
	Whole      uint64
	TimedOut   uint64 // never complete
	Overlapped uint64 // forgotten, because pieces contradicted each other (RFC 5722, RFC 8200 §4.5)
	Crowded    uint64 // forgotten, because the same container, or the network, had too many
}

// Table holds the packets that are incomplete. Its methods may be called from any goroutine.
type Table struct {
	mu     sync.Mutex
	open   map[key]*Packet
	from   map[netip.Addr]int
	order  []*Packet // by age
	timer  *time.Timer
	closed bool
	count  Stats
	pool   sync.Pool
}

type key struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4 only (RFC 791 §3.2); an IPv6 packet is told by its identification alone
}

// Packet is one in pieces, and in the end a whole one.
type Packet struct {
	Frame frame.Frame // set and parsed when it is whole

	key    key
	since  time.Time
	pieces []span // sorted, disjoint
	have   int
	total  int // 0 until the last piece has come
	header int // length of the IP header; 0 until the first piece has come
	proto  uint8
	hops   uint8 // the lowest of the pieces
	buf    [payloadAt + 65536]byte
}

// span is a range of the payload.
type span struct{ from, to int }

// payloadAt is where the payload of a packet starts: behind the longest header.
const payloadAt = frame.Headroom + 14 + 60

// New returns an empty table.
func New() *Table {
	return &Table{
		open: make(map[key]*Packet), from: make(map[netip.Addr]int),
		pool: sync.Pool{New: func() any { return new(Packet) }},
	}
}

// piece is what a fragment says of itself.
type piece struct {
	key    key
	offset int
	more   bool
	hops   uint8
	next   uint8  // IPv6: the protocol behind the fragment header
	header []byte // that the whole packet will have
	data   []byte
}

// read takes a fragment apart.
func (p *piece) read(f *frame.Frame) drop.Reason {
	ip := f.Bytes()[f.L3:f.End]
	p.key = key{src: f.SrcAddr(), dst: f.DstAddr()}
	bad := drop.BadIPv4
	if f.Ether == frame.EtherIPv4 {
		n := int(ip[0]&15) * 4
		flags := binary.BigEndian.Uint16(ip[6:])
		p.key.id, p.key.proto = uint32(binary.BigEndian.Uint16(ip[4:])), ip[9]
		p.offset, p.more = int(flags&0x1fff)*8, flags&0x2000 != 0
		p.hops, p.next, p.header, p.data = ip[8], ip[9], ip[:n], ip[n:]
	} else {
		bad = drop.BadIPv6
		if ip[6] != nextFragment {
			return drop.NotForwarded // other extension headers in front
		}
		h := ip[ipv6Len:]
		flags := binary.BigEndian.Uint16(h[2:])
		p.key.id = binary.BigEndian.Uint32(h[4:])
		p.offset, p.more = int(flags&^7), flags&1 != 0
		p.hops, p.next, p.header, p.data = ip[7], h[0], ip[:ipv6Len], h[fragHeader:]
	}
	if len(p.data) == 0 || p.more && len(p.data)%8 != 0 {
		return bad
	}
	longest := 0xffff
	if f.Ether == frame.EtherIPv4 {
		longest -= ipv4Len // which counts there
	}
	if p.offset+len(p.data) > longest {
		return drop.TooLarge
	}
	return drop.None
}

// Add takes a parsed frame that is a fragment. It returns the packet when it was the last that was missing; that is the caller's until it releases it.
func (t *Table) Add(f *frame.Frame) (*Packet, drop.Reason) {
	var p piece
	if reason := p.read(f); reason != drop.None {
		return nil, reason
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, drop.NoRouter
	}
	a := t.open[p.key]
	if a == nil {
		a = t.begin(p.key)
	}
	if reason := a.put(&p); reason != drop.None {
		t.count.Overlapped++
		t.forget(a)
		t.pool.Put(a)
		return nil, reason
	}
	if a.total == 0 || a.have < a.total {
		return nil, drop.None
	}
	t.forget(a)
	reason := a.finish()
	if reason != drop.None {
		t.pool.Put(a)
		return nil, reason
	}
	t.count.Whole++
	return a, drop.None
}

// begin makes a packet, at the cost of the container's oldest, or of the oldest of all, where there are too many.
func (t *Table) begin(k key) *Packet {
	crowd := func(mine bool) {
		i := slices.IndexFunc(t.order, func(a *Packet) bool { return !mine || a.key.src == k.src })
		old := t.order[i]
		t.count.Crowded++
		t.forget(old)
		t.pool.Put(old)
	}
	if t.from[k.src] >= MaxFrom {
		crowd(true)
	} else if len(t.order) >= Max {
		crowd(false)
	}
	a := t.pool.Get().(*Packet)
	a.key, a.since = k, time.Now()
	a.pieces, a.have, a.total, a.header, a.hops = a.pieces[:0], 0, 0, 0, 255
	t.open[k] = a
	t.from[k.src]++
	t.order = append(t.order, a)
	if len(t.order) == 1 {
		t.timer = time.AfterFunc(Timeout, t.expire)
	}
	return a
}

// forget takes a out of the tables.
func (t *Table) forget(a *Packet) {
	delete(t.open, a.key)
	if t.from[a.key.src]--; t.from[a.key.src] == 0 {
		delete(t.from, a.key.src)
	}
	i := slices.Index(t.order, a)
	t.order = slices.Delete(t.order, i, i+1)
	if len(t.order) == 0 {
		t.timer.Stop()
	}
}

// expire forgets what has been incomplete for too long.
func (t *Table) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.order) > 0 && !t.closed {
		a := t.order[0]
		if left := Timeout - time.Since(a.since); left > 0 {
			t.timer = time.AfterFunc(left, t.expire)
			return
		}
		t.count.TimedOut++
		t.forget(a)
		t.pool.Put(a)
	}
}

// Release ends the caller's use of a whole packet.
func (t *Table) Release(a *Packet) { t.pool.Put(a) }

// Close forgets all, and takes nothing any more.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	clear(t.open)
	clear(t.from)
	t.order = nil
}

// Stats returns what has happened so far.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.count
	c.Open = uint64(len(t.order))
	return c
}

// put adds a piece. A piece that is there already does no harm; any other overlap does.
func (a *Packet) put(p *piece) drop.Reason {
	bad := drop.BadIPv4
	if a.key.src.Is6() {
		bad = drop.BadIPv6
	}
	s := span{p.offset, p.offset + len(p.data)}
	if !p.more {
		if a.total != 0 && a.total != s.to {
			return bad
		}
		if n := len(a.pieces); n > 0 && a.pieces[n-1].to > s.to {
			return bad
		}
		a.total = s.to
	} else if a.total != 0 && s.to >= a.total {
		return bad
	}
	i, there := slices.BinarySearchFunc(a.pieces, s, func(x, y span) int { return x.from - y.from })
	if there && a.pieces[i] == s {
		return drop.None
	}
	if there || i > 0 && a.pieces[i-1].to > s.from || i < len(a.pieces) && a.pieces[i].from < s.to || len(a.pieces) == maxPieces {
		return bad
	}
	a.pieces = slices.Insert(a.pieces, i, s)
	a.have += len(p.data)
	a.hops = min(a.hops, p.hops)
	copy(a.buf[payloadAt+p.offset:], p.data)
	if p.offset == 0 {
		a.header, a.proto = len(p.header), p.next
		copy(a.buf[payloadAt-a.header:], p.header)
	}
	return drop.None
}

// finish makes a frame of a packet that has all its pieces.
func (a *Packet) finish() drop.Reason {
	ip := a.buf[payloadAt-a.header : payloadAt+a.total]
	ether := uint16(frame.EtherIPv4)
	if a.key.src.Is4() {
		if len(ip) > 0xffff { // a header with options
			return drop.TooLarge
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[6:], 0)
		ip[8] = a.hops
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^frame.Sum(ip[:a.header], 0))
	} else {
		ether = frame.EtherIPv6
		binary.BigEndian.PutUint16(ip[4:], uint16(a.total))
		ip[6], ip[7] = a.proto, a.hops
	}
	head := payloadAt - a.header - 14
	clear(a.buf[head : head+12])
	binary.BigEndian.PutUint16(a.buf[head+12:], ether)
	a.Frame.Set(a.buf[:], head, 14+len(ip))
	return a.Frame.Parse()
}
