// Package simnet is a network in memory for memberlist: packets and streams between the nodes of one process, with the
// delays and faults of a real one. It follows memberlist's Transport contract, and works inside a testing/synctest bubble,
// for it waits by channels and timers alone; then what happens depends on the seed and on the order in which the nodes send.
//
//	Listen ──► Transport ── WriteTo ──► cut? lost? ── Latency+Jitter (twice if duplicated) ──► cut? full? ──► PacketCh
//	               │
//	               └────── DialTimeout ── one round trip ──► StreamCh ;  chunks: Latency+Jitter each, in order,
//	                                                         a lost one arrives after the repetition, a cut holds them
//
//	Partition: packets across it vanish, streams across it stand still, dials across it run into their time limit.
//	Crash:     the same towards everybody, at once and for ever; listening at the address again is a restart,
//	           and resets the streams of the life before.
//	Shutdown:  the node is gone but its host is there: dials are refused.
//
// Bandwidth is not modelled, nor are headers counted. Everything may be called from any goroutine.
package simnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Link is what happens between every two nodes.
type Link struct {
	Latency   time.Duration `json:"latency_ns"` // one way
	Jitter    time.Duration `json:"jitter_ns"`  // up to this much more, drawn for each packet; packets overtake each other by it
	Loss      float64       `json:"loss"`       // share of the packets that vanish; of a stream's chunks, that come late
	Duplicate float64       `json:"duplicate"`  // share that arrives twice, the second time with a delay of its own
	Reorder   float64       `json:"reorder"`    // share that takes up to three times longer, so that later ones overtake it
}

// Counters is what the nodes at one address have sent and received, over all their lives.
type Counters struct {
	SentPackets, SentBytes         uint64
	ReceivedPackets, ReceivedBytes uint64
	Largest                        int    // bytes of the largest packet sent
	Dials                          uint64 // streams opened from here
	StreamSent, StreamReceived     uint64 // bytes, of streams opened by either side

	// Packets sent from here that did not arrive: by Link.Loss, for want of a way or of a node, for a full queue there.
	Lost, Unreachable, Overflowed uint64
}

// Network connects the nodes. The zero value is not usable; New makes one.
type Network struct {
	seed uint64

	mu       sync.Mutex
	link     Link
	nodes    map[netip.AddrPort]*Transport // at most one at an address; stays when shut down, goes when crashed
	group    map[netip.AddrPort]int        // sides of the partition; who is not in it is on side 0
	dice     map[path]*rand.Rand
	counters map[netip.AddrPort]*Counters
	pipes    map[*pipe]struct{} // open connections
}

// path is one direction between two nodes. Each has a random sequence of its own, so that one node's packets do not change
// what becomes of another's.
type path struct{ from, to netip.AddrPort }

// New makes a network without nodes.
func New(seed uint64, link Link) *Network {
	return &Network{
		seed:     seed,
		link:     link,
		nodes:    make(map[netip.AddrPort]*Transport),
		dice:     make(map[path]*rand.Rand),
		counters: make(map[netip.AddrPort]*Counters),
		pipes:    make(map[*pipe]struct{}),
	}
}

// Addr is an address for node i, from 0 up to 65535.
func Addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}), 7946)
}

// SetLink changes the link for what is sent from now on.
func (n *Network) SetLink(link Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = link
}

// Listen starts a node at an address that has none, or whose node has crashed or shut down.
func (n *Network) Listen(addr netip.AddrPort) (*Transport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.nodes[addr]; t != nil && !t.gone {
		return nil, fmt.Errorf("simnet: listen %s: a node listens there already; shut it down or crash it first", addr)
	}
	for p := range n.pipes {
		p.reset(addr)
	}
	t := &Transport{
		net:     n,
		addr:    addr,
		packets: make(chan *memberlist.Packet, queue),
		streams: newBacklog(),
		done:    make(chan struct{}),
	}
	n.nodes[addr] = t
	n.count(addr) // so that Counters knows it
	return t, nil
}

// Crash ends the node at an address as a power failure does: nobody hears from it again, and nothing that its goroutines
// still do reaches anybody. It is for the caller to end them.
func (n *Network) Crash(addr netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.nodes[addr]
	if t == nil {
		return
	}
	delete(n.nodes, addr)
	t.end()
	for p := range n.pipes {
		p.crash(addr)
	}
}

// Partition splits the network: nodes reach only those of their own group. Nodes that are in no group form one more. It
// replaces an earlier partition; without groups it heals it.
func (n *Network) Partition(groups ...[]netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.group = make(map[netip.AddrPort]int)
	for i, g := range groups {
		for _, addr := range g {
			n.group[addr] = i + 1
		}
	}
	for p := range n.pipes {
		p.hold(n.cut(p.a.local, p.a.remote))
	}
}

// Heal ends the partition. Streams that stood still go on.
func (n *Network) Heal() { n.Partition() }

// Reachable reports whether neither partition nor crash is between two addresses, and nodes run at both.
func (n *Network) Reachable(a, b netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	ta, tb := n.nodes[a], n.nodes[b]
	return ta != nil && tb != nil && !ta.gone && !tb.gone && !n.cut(a, b)
}

// Counters returns what the nodes at an address have sent and received; zeros if there never was one.
func (n *Network) Counters(addr netip.AddrPort) Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.counters[addr]; c != nil {
		return *c
	}
	return Counters{}
}

// cut reports whether the partition is between two addresses. n.mu is held, here and in all that follows.
func (n *Network) cut(a, b netip.AddrPort) bool { return n.group[a] != n.group[b] }

func (n *Network) count(addr netip.AddrPort) *Counters {
	c := n.counters[addr]
	if c == nil {
		c = new(Counters)
		n.counters[addr] = c
	}
	return c
}

// draw returns the random sequence of one direction.
func (n *Network) draw(from, to netip.AddrPort) *rand.Rand {
	p := path{from, to}
	r := n.dice[p]
	if r == nil {
		r = rand.New(rand.NewPCG(n.seed^number(from), number(to)))
		n.dice[p] = r
	}
	return r
}

// number makes a seed of an address.
func number(addr netip.AddrPort) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range addr.Addr().As16() {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return (h ^ uint64(addr.Port())) * 1099511628211
}

// delay draws how long a packet or chunk takes.
func (n *Network) delay(r *rand.Rand) time.Duration {
	d := n.link.Latency
	if n.link.Jitter > 0 {
		d += time.Duration(r.Int64N(int64(n.link.Jitter)))
	}
	if r.Float64() < n.link.Reorder {
		d += time.Duration(r.Float64() * 2 * float64(d))
	}
	return d
}

// send takes a packet on its way. b belongs to the network from here on.
func (n *Network) send(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.count(from)
	c.SentPackets++
	c.SentBytes += uint64(len(b))
	c.Largest = max(c.Largest, len(b))
	r := n.draw(from, to)
	if r.Float64() < n.link.Loss {
		c.Lost++
		return
	}
	copies := 1
	if r.Float64() < n.link.Duplicate {
		copies = 2
	}
	for range copies {
		time.AfterFunc(n.delay(r), func() { n.deliver(from, to, b) })
	}
}

// deliver ends a packet's way, unless the way or the node is not there any more.
func (n *Network) deliver(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.nodes[to]
	if t == nil || t.gone || n.cut(from, to) {
		n.count(from).Unreachable++
		return
	}
	select {
	case t.packets <- packet(from, b):
		c := n.count(to)
		c.ReceivedPackets++
		c.ReceivedBytes += uint64(len(b))
	default:
		n.count(from).Overflowed++
	}
}
