package router

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Bounds on packets in pieces, each of which holds 64 KiB.
const (
	maxGathered      = 64 // in a network: 4 MiB
	maxGatheredFrom  = 16 // from one container
	maxPieces        = 256
	gatherTimeout    = 30 * time.Second // as Linux (net.ipv4.ipfrag_time)
	fragHeader       = 8
	nextFragment     = 44
	ipv4Len, ipv6Len = 20, 40
)

// FragmentStats count packets that came in pieces.
type FragmentStats struct {
	Open       uint64 // incomplete now
	Whole      uint64
	TimedOut   uint64 // never complete
	Overlapped uint64 // forgotten, because pieces contradicted each other (RFC 5722, RFC 8200 §4.5)
	Crowded    uint64 // forgotten, because the same container, or the network, had too many
}

// fragments puts packets together (RFC 815, RFC 8200 §4.5). Pieces that overlap make the whole packet void, over IPv4 too, as in Linux.
//
//	room        IP header of the first piece    payload, each piece at its offset
//	├──────────┼───────────────────────────────┼──────────┬···········┬──────────┤
//	                                           │ 0..1480  │   hole    │ 2960..   │
type fragments struct {
	mu     sync.Mutex
	open   map[fragmentKey]*assembly
	from   map[netip.Addr]int
	order  []*assembly // by age
	timer  *time.Timer
	closed bool
	count  FragmentStats
	pool   sync.Pool
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4 only (RFC 791 §3.2); an IPv6 packet is told by its identification alone
}

// assembly is one packet in pieces.
type assembly struct {
	key    fragmentKey
	since  time.Time
	pieces []span // sorted, disjoint
	have   int
	total  int // 0 until the last piece has come
	header int // length of the IP header; 0 until the first piece has come
	proto  uint8
	hops   uint8 // the lowest of the pieces
	frame  frame.Frame
	buf    [payloadAt + 65536]byte
}

// span is a range of the payload.
type span struct{ from, to int }

// payloadAt is where the payload of an assembly starts: behind the longest header.
const payloadAt = frame.Headroom + 14 + 60

func newFragments() *fragments {
	return &fragments{
		open: make(map[fragmentKey]*assembly), from: make(map[netip.Addr]int),
		pool: sync.Pool{New: func() any { return new(assembly) }},
	}
}

// piece is what a fragment says of itself.
type piece struct {
	key    fragmentKey
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
	p.key = fragmentKey{src: f.SrcAddr(), dst: f.DstAddr()}
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

// add takes a fragment. It returns the packet when it was the last that was missing; that is the caller's until it releases it.
func (g *fragments) add(f *frame.Frame) (*assembly, drop.Reason) {
	var p piece
	if reason := p.read(f); reason != drop.None {
		return nil, reason
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, drop.NoRouter
	}
	a := g.open[p.key]
	if a == nil {
		a = g.begin(p.key)
	}
	if reason := a.put(&p); reason != drop.None {
		g.count.Overlapped++
		g.forget(a)
		g.pool.Put(a)
		return nil, reason
	}
	if a.total == 0 || a.have < a.total {
		return nil, drop.None
	}
	g.forget(a)
	reason := a.finish()
	if reason != drop.None {
		g.pool.Put(a)
		return nil, reason
	}
	g.count.Whole++
	return a, drop.None
}

// begin makes an assembly, at the cost of the container's oldest, or of the oldest of all, where there are too many.
func (g *fragments) begin(key fragmentKey) *assembly {
	crowd := func(mine bool) {
		i := slices.IndexFunc(g.order, func(a *assembly) bool { return !mine || a.key.src == key.src })
		old := g.order[i]
		g.count.Crowded++
		g.forget(old)
		g.pool.Put(old)
	}
	if g.from[key.src] >= maxGatheredFrom {
		crowd(true)
	} else if len(g.order) >= maxGathered {
		crowd(false)
	}
	a := g.pool.Get().(*assembly)
	a.key, a.since = key, time.Now()
	a.pieces, a.have, a.total, a.header, a.hops = a.pieces[:0], 0, 0, 0, 255
	g.open[key] = a
	g.from[key.src]++
	g.order = append(g.order, a)
	if len(g.order) == 1 {
		g.timer = time.AfterFunc(gatherTimeout, g.expire)
	}
	return a
}

// forget takes a out of the tables.
func (g *fragments) forget(a *assembly) {
	delete(g.open, a.key)
	if g.from[a.key.src]--; g.from[a.key.src] == 0 {
		delete(g.from, a.key.src)
	}
	i := slices.Index(g.order, a)
	g.order = slices.Delete(g.order, i, i+1)
	if len(g.order) == 0 {
		g.timer.Stop()
	}
}

// expire forgets what has been incomplete for too long.
func (g *fragments) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.order) > 0 && !g.closed {
		a := g.order[0]
		if left := gatherTimeout - time.Since(a.since); left > 0 {
			g.timer = time.AfterFunc(left, g.expire)
			return
		}
		g.count.TimedOut++
		g.forget(a)
		g.pool.Put(a)
	}
}

// release ends the caller's use of a whole packet.
func (g *fragments) release(a *assembly) { g.pool.Put(a) }

func (g *fragments) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	clear(g.open)
	clear(g.from)
	g.order = nil
}

func (g *fragments) stats() FragmentStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.count
	c.Open = uint64(len(g.order))
	return c
}

// put adds a piece. A piece that is there already does no harm; any other overlap does.
func (a *assembly) put(p *piece) drop.Reason {
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

// finish makes a frame of an assembly that has all its pieces.
func (a *assembly) finish() drop.Reason {
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
	a.frame.Set(a.buf[:], head, 14+len(ip))
	return a.frame.Parse()
}
