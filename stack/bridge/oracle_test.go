package bridge

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// kind is what a letter is.
type kind int

const (
	anIPv4 kind = iota
	anIPv6
	aTCP
	aRequest // ARP
	aReply
	aSolicitation
	anAdvert
	neitherOfThem
	kinds
)

// letter is a frame, or a superframe, in the terms of the oracle.
type letter struct {
	id       uint64 // of its first wire frame; the others follow on
	kind     kind
	src, dst frame.MAC
	from, to netip.Addr // of the packet; in ARP and ND who asks or tells, and about whom
	claim    frame.MAC  // the MAC that ARP or ND say
	pieces   int
	size     int // IP packet of each piece
	tags     int
	owed     bool
}

func (l letter) String() string {
	return fmt.Sprintf("#%d kind %d %v>%v %v>%v claims %v, %d of %d bytes, %d tags", l.id, l.kind, l.src, l.dst, l.from, l.to, l.claim, l.pieces, l.size, l.tags)
}

// place is a port by its name or another node by its address.
type place string

func placeOf(p *Port, peer *vxlan.Peer) place {
	switch {
	case p != nil:
		return place("port " + p.Name)
	case peer != nil:
		return place("node " + peer.Addr.String())
	}
	return ""
}

// oracle says what must happen to letters, by lists and loops alone.
type oracle struct {
	c    Config
	full map[place]bool // ports whose device takes nothing

	delivered map[place]map[uint64]int
	answers   map[place]int
	drops     map[string]int
}

func newOracle(c Config) *oracle {
	return &oracle{c: c, full: map[place]bool{}, delivered: map[place]map[uint64]int{}, answers: map[place]int{}, drops: map[string]int{}}
}

func (o *oracle) drop(at place, r drop.Reason, n int) { o.drops[string(at)+" "+r.String()] += n }

// deliver lets p or peer have all pieces of l.
func (o *oracle) deliver(at place, l letter) {
	if o.full[at] {
		o.drop(at, drop.QueueFull, l.pieces)
		return
	}
	if o.delivered[at] == nil {
		o.delivered[at] = map[uint64]int{}
	}
	for i := range l.pieces {
		o.delivered[at][l.id+uint64(i)]++
	}
}

func (o *oracle) answer(at place) {
	if o.full[at] {
		o.drop(at, drop.QueueFull, 1)
		return
	}
	o.answers[at]++
}

func (o *oracle) byMAC(m frame.MAC) *Endpoint {
	for i := range o.c.Endpoints {
		if o.c.Endpoints[i].MAC == m {
			return &o.c.Endpoints[i]
		}
	}
	return nil
}

func owns(e *Endpoint, a netip.Addr) bool {
	return slices.Contains(e.Addresses, a) || a == linkLocal(e.MAC)
}

// hasOwner reports whether somebody has the address, and at which port.
func (o *oracle) hasOwner(a netip.Addr) (port *Port, ok bool) {
	for i := range o.c.Endpoints {
		if owns(&o.c.Endpoints[i], a) {
			return o.c.Endpoints[i].Port, true
		}
	}
	return nil, a == o.c.Gateway.V4 || a == o.c.Gateway.V6
}

// mayBe says why e may not have sent l, None if it may.
func mayBe(e *Endpoint, l letter) drop.Reason {
	switch l.kind {
	case anIPv4, aTCP:
		if !owns(e, l.from) {
			return drop.SpoofedAddress
		}
	case anIPv6, aSolicitation, anAdvert:
		if !owns(e, l.from) && !l.from.IsUnspecified() {
			return drop.SpoofedAddress
		}
		if l.kind == anAdvert && !owns(e, l.to) {
			return drop.SpoofedAddress
		}
		if l.kind == anAdvert && l.claim != e.MAC {
			return drop.SpoofedMAC
		}
	case aRequest, aReply:
		if l.claim != e.MAC {
			return drop.SpoofedMAC
		}
		if !owns(e, l.from) && !l.from.IsUnspecified() {
			return drop.SpoofedAddress
		}
	}
	return drop.None
}

// fromPort says what becomes of a letter from a port.
func (o *oracle) fromPort(p *Port, l letter) {
	at := placeOf(p, nil)
	if !o.c.Spoof {
		e := o.byMAC(l.src)
		if e == nil || e.Port != p {
			o.drop(at, drop.SpoofedMAC, l.pieces)
			return
		}
		if r := mayBe(e, l); r != drop.None {
			o.drop(at, r, l.pieces)
			return
		}
	}
	forGateway := o.byMAC(l.dst) == nil && l.dst == o.c.Gateway.MAC
	if (l.dst.IsGroup() || forGateway) && (l.kind == aRequest && l.from != l.to || l.kind == aSolicitation) {
		if where, ok := o.hasOwner(l.to); ok && where != p {
			o.answer(at)
			return
		}
	}
	switch d := o.byMAC(l.dst); {
	case l.dst.IsGroup():
		o.flood(p, l, o.nodes())
	case forGateway:
		o.drop(at, drop.NoRouter, l.pieces)
	case d == nil:
		o.flood(p, l, o.c.Statics)
	case d.Port == p:
		o.drop(at, drop.SamePort, l.pieces)
	case d.Port != nil:
		o.deliver(placeOf(d.Port, nil), l)
	case d.Peer != nil:
		o.toNode(p, d.Peer, l)
	default:
		o.drop(at, drop.NoRoute, l.pieces)
	}
}

// nodes returns all peers of the network, each once.
func (o *oracle) nodes() (all []*vxlan.Peer) {
	for _, e := range o.c.Endpoints {
		all = append(all, e.Peer)
	}
	all = append(all, o.c.Statics...)
	slices.SortFunc(all, func(a, b *vxlan.Peer) int {
		return slices.Compare([]byte(placeOf(nil, a)), []byte(placeOf(nil, b)))
	})
	return slices.DeleteFunc(slices.Compact(all), func(p *vxlan.Peer) bool { return p == nil })
}

func (o *oracle) flood(from *Port, l letter, nodes []*vxlan.Peer) {
	nowhere := len(nodes) == 0
	for _, p := range o.c.Ports {
		if p != from {
			o.deliver(placeOf(p, nil), l)
			nowhere = false
		}
	}
	for _, n := range nodes {
		o.toNode(from, n, l)
	}
	if nowhere {
		o.drop(placeOf(from, nil), drop.NoRoute, l.pieces)
	}
}

func (o *oracle) toNode(from *Port, n *vxlan.Peer, l letter) {
	if l.size <= o.c.MTU {
		o.deliver(placeOf(nil, n), l)
		return
	}
	o.drop(placeOf(from, nil), drop.TooBig, l.pieces)
	if !l.from.IsUnspecified() && (l.from.Is6() || !l.dst.IsGroup()) { // RFC 1122 §3.2.2, RFC 4443 §2.4
		o.answer(placeOf(from, nil))
	}
}

// fromNode says what becomes of a letter from another node.
func (o *oracle) fromNode(n *vxlan.Peer, l letter) {
	r := drop.NotOwner
	static := slices.Contains(o.c.Statics, n)
	e := o.byMAC(l.src)
	switch {
	case l.size > o.c.MTU && (l.kind == anIPv4 || l.kind == anIPv6):
		r = drop.TooBig
	case !slices.Contains(o.nodes(), n):
		r = drop.UnknownVTEP
	case e != nil && e.Peer == n && (o.c.Spoof || mayBe(e, l) == drop.None || static && o.ownerless(l)),
		e == nil && l.src != o.c.Gateway.MAC && (o.c.Spoof || static && o.ownerless(l)):
		r = o.inward(l)
	}
	if r != drop.None {
		o.drop("network", r, 1)
	}
}

// ownerless reports whether nobody owns the addresses that l speaks for.
func (o *oracle) ownerless(l letter) bool {
	if l.kind == neitherOfThem {
		return true
	}
	_, taken := o.hasOwner(l.from)
	if l.kind == anAdvert && !taken {
		_, taken = o.hasOwner(l.to)
	}
	return !taken
}

// inward delivers a letter that came by the tunnel.
func (o *oracle) inward(l letter) drop.Reason {
	switch d := o.byMAC(l.dst); {
	case d != nil && d.Port != nil:
		o.deliver(placeOf(d.Port, nil), l)
	case d != nil:
		return drop.NoRoute
	case l.dst == o.c.Gateway.MAC:
		return drop.NoRouter
	case len(o.c.Ports) == 0:
		return drop.NoRoute
	default:
		for _, p := range o.c.Ports {
			o.deliver(placeOf(p, nil), l)
		}
	}
	return drop.None
}
