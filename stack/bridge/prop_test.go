package bridge

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// town is a network under test with the oracle of what must happen in it.
type town struct {
	*world
	rt     *rapid.T
	net    *Network
	ports  []*jack
	oracle *oracle
	next   uint64 // id of a letter
	rx     int    // wire frames that ports sent
}

// TestEveryFrameIsDeliveredOrCounted sends random frames through random tables. Each wire frame carries a number, by which it is
// found again at all receivers that the oracle names, once, and at no other; all else must be in the counters that the oracle
// names.
func TestEveryFrameIsDeliveredOrCounted(t *testing.T) {
	w := newWorld(t, 4)
	rapid.Check(t, func(rt *rapid.T) {
		w.networks.Store(&map[vxlan.VNI]*Network{})
		c := &town{world: w, rt: rt, net: w.network("town", houseVNI), next: 1 << 40, oracle: newOracle(Config{})}
		for i := range rapid.IntRange(1, 4).Draw(rt, "ports") {
			j := w.jack(c.net, PortConfig{
				Name:  fmt.Sprint(i),
				Joins: frame.Joins(rapid.IntRange(0, int(allJoins)).Draw(rt, "joins")),
			})
			if rapid.IntRange(0, 4).Draw(rt, "full") == 0 {
				j.failure = unix.EAGAIN
				c.oracle.full[placeOf(j.Port, nil)] = true
			}
			if j.plain = rapid.Bool().Draw(rt, "plain"); j.plain {
				j.joins = 0
			}
			c.ports = append(c.ports, j)
		}
		for range rapid.IntRange(1, 3).Draw(rt, "tables") {
			c.oracle.c = c.drawTable()
			c.net.SetTable(Compile(c.oracle.c))
			c.sendAll()
			c.lane.Flush()
		}
		c.compare()
	})
}

func (c *town) drawTable() Config {
	rt := c.rt
	t := Config{
		MTU:     rapid.IntRange(576, 1500).Draw(rt, "mtu"),
		Spoof:   rapid.IntRange(0, 3).Draw(rt, "spoof") == 0,
		Gateway: Gateway{MAC: gateway.mac, V4: gateway.v4, V6: gateway.v6},
	}
	for _, j := range c.ports {
		if rapid.IntRange(0, 5).Draw(rt, "port named") > 0 {
			t.Ports = append(t.Ports, j.Port)
		}
	}
	for _, o := range c.others {
		if rapid.IntRange(0, 3).Draw(rt, "static") == 0 {
			t.Statics = append(t.Statics, o.peer)
		}
	}
	for n := range rapid.IntRange(0, 8).Draw(rt, "endpoints") {
		e := host(byte(n+1)).endpoint(nil, nil)
		switch at := rapid.IntRange(0, 12).Draw(rt, "place"); {
		case at < 6 && len(t.Ports) > 0:
			e.Port = t.Ports[at%len(t.Ports)]
		case at < 12:
			e.Peer = c.others[at%len(c.others)].peer
		}
		t.Endpoints = append(t.Endpoints, e)
	}
	return t
}

// sendAll draws letters, lets them be sent, and asks the oracle about each.
func (c *town) sendAll() {
	for range rapid.IntRange(0, 60).Draw(c.rt, "letters") {
		if rapid.IntRange(0, 2).Draw(c.rt, "from outside") == 0 {
			o := rapid.SampledFrom(c.others).Draw(c.rt, "node")
			l := c.drawLetter(func(e *Endpoint) bool { return e.Peer == o.peer })
			l.pieces, l.owed = 1, false
			c.oracle.fromNode(o.peer, l)
			if reason := o.Send(o.home, houseVNI, parsed(c, l.build(c)), 65000); reason != drop.None {
				c.rt.Fatalf("cannot send %v: %s", l, reason)
			}
			continue
		}
		j := rapid.SampledFrom(c.ports).Draw(c.rt, "port")
		l := c.drawLetter(func(e *Endpoint) bool { return e.Port == j.Port })
		c.oracle.fromPort(j.Port, l)
		c.rx += l.pieces
		j.in = append(j.in, l.input(c))
	}
	for _, j := range c.ports {
		for len(j.in) > 0 {
			j.queue.Ready()
		}
	}
	for _, o := range c.others {
		o.Flush()
		c.await(c.receiver, o.home, o.peer)
	}
}

// drawLetter draws a letter, mostly one from somebody who is there.
func (c *town) drawLetter(there func(*Endpoint) bool) letter {
	rt := c.rt
	any := func(what string) who {
		if n := rapid.IntRange(1, 11).Draw(rt, what); n <= 10 {
			return host(byte(n)) // 9 and 10 are never known
		}
		return gateway
	}
	from, to := any("from"), any("to")
	if rapid.IntRange(0, 3).Draw(rt, "honest") > 0 {
		for _, e := range c.oracle.c.Endpoints {
			if there(&e) {
				from = who{e.MAC, e.Addresses[0], e.Addresses[1]}
			}
		}
	}
	l := letter{
		id: c.next, kind: kind(rapid.IntRange(0, int(kinds)-1).Draw(rt, "kind")), pieces: 1,
		src: from.mac, dst: to.mac, claim: from.mac, from: from.v4, to: to.v4,
		tags: max(rapid.IntRange(-5, 2).Draw(rt, "tags"), 0), owed: rapid.Bool().Draw(rt, "owed"),
	}
	lie := rapid.IntRange(0, 9).Draw(rt, "lie")
	if lie == 1 {
		from = any("liar's address")
		l.from = from.v4
	}
	if lie == 2 {
		l.claim = any("liar's MAC").mac
	}
	if rapid.IntRange(0, 3).Draw(rt, "to all") == 0 {
		l.dst = rapid.SampledFrom([]frame.MAC{frame.Broadcast, mdns.mac, allNodesMAC}).Draw(rt, "group")
	}
	c.shape(&l, from, to)
	c.next += uint64(l.pieces)
	return l
}

// shape fits addresses and sizes to the kind of l.
func (c *town) shape(l *letter, from, to who) {
	rt := c.rt
	switch l.kind {
	case anIPv6, aSolicitation, anAdvert:
		l.from, l.to = from.v6, to.v6
		if rapid.IntRange(0, 4).Draw(rt, "link-local") == 0 {
			l.from, l.to = linkLocal(from.mac), linkLocal(to.mac)
		}
		if rapid.IntRange(0, 7).Draw(rt, "no address") == 0 {
			l.from = netip.IPv6Unspecified()
		}
		if l.kind == anAdvert && rapid.Bool().Draw(rt, "about itself") {
			l.to = from.v6
		}
	case aRequest, aReply:
		switch rapid.IntRange(0, 7).Draw(rt, "no address") {
		case 0:
			l.from = void
		case 1:
			l.to = l.from
		}
	}
	mtu := c.oracle.c.MTU
	switch l.kind {
	case anIPv4, anIPv6, aTCP:
		l.size = rapid.SampledFrom([]int{80, 80, 80, 200, mtu - 1, mtu}).Draw(rt, "size")
		if l.kind != aTCP && rapid.IntRange(0, 9).Draw(rt, "too big") == 0 {
			l.size = mtu + rapid.IntRange(1, 100).Draw(rt, "excess")
		}
		if rapid.IntRange(0, 3).Draw(rt, "superframe") == 0 {
			l.pieces, l.owed = rapid.IntRange(2, 40).Draw(rt, "pieces"), true
		}
	}
}

// build returns the bytes of l. Its numbers stand at the end of each piece's payload, or else behind the packet.
func (l letter) build(t testing.TB) (b []byte) {
	from, to := who{mac: l.src}, who{mac: l.dst}
	headers := 28
	switch l.kind {
	case anIPv6:
		from.v6, to.v6, headers = l.from, l.to, 48
	case aTCP:
		headers = 40
		fallthrough
	case anIPv4, aRequest, aReply:
		from.v4, to.v4 = l.from, l.to
	}
	number := binary.BigEndian.AppendUint64(nil, l.id)
	switch l.kind {
	case anIPv4, anIPv6, aTCP:
		size := l.size - headers
		make, check := datagram, 34+6
		if l.kind == aTCP {
			make, check = segment, 34+16
		} else if l.kind == anIPv6 {
			check = 54 + 6
		}
		b = make(t, from, to, l.pieces*size)
		for at := 14 + headers; at < 14+headers+l.pieces*size; at += size {
			binary.BigEndian.PutUint64(b[at+size-8:], l.id+uint64(at-14-headers)/uint64(size))
		}
		f := parsed(t, b)
		binary.BigEndian.PutUint16(b[check:], frame.PseudoSum(f))
		binary.BigEndian.PutUint16(b[check:], ^frame.Sum(b[f.L4:f.End], 0))
	case aRequest, aReply:
		b = arpOf(t, map[kind]uint16{aRequest: 1, aReply: 2}[l.kind], from, l.dst, l.to)
		l.claim.Put(b[22:])
		b = append(b, number...)
	case aSolicitation, anAdvert:
		m := nd{src: l.from, target: l.to, dst: netip.AddrFrom16(allNodes)}
		if l.kind == anAdvert {
			m.advert, m.flags, m.options = true, flagOverride, linkAddr(optionTarget, l.claim)
		}
		b = append(readdressed(m.build(t), l.src, l.dst), number...)
	default:
		b = readdressed(append([]byte{12: 0x88, 13: 0xb5}, number...), l.src, l.dst)
	}
	for range l.tags {
		b = retagged(b)
	}
	return b
}

// input is what a device hands out for l.
func (l letter) input(t testing.TB) []byte {
	b := l.build(t)
	if !l.owed || l.kind > aTCP {
		return plain(b)
	}
	size := 0
	if l.pieces > 1 {
		f := parsed(t, b)
		size = (f.End - int(f.Payload)) / l.pieces
	}
	return owed(t, b, size)
}

// numberOf returns the number in a wire frame; ok is false for an answer of the switch, which has none.
func numberOf(t testing.TB, b []byte) (id uint64, ok bool) {
	f := parsed(t, b)
	switch {
	case f.Ether != frame.EtherIPv4 && f.Ether != frame.EtherIPv6 && f.Ether != frame.EtherARP:
	case f.Proto == frame.ProtoTCP || f.Proto == frame.ProtoUDP:
		b = b[:f.End]
	case f.End == len(b):
		return 0, false
	}
	return binary.BigEndian.Uint64(b[len(b)-8:]), true
}

// compare holds what happened against the oracle.
func (c *town) compare() {
	o := c.oracle
	places := make(map[place][][]byte)
	rx := 0
	drops := make(map[string]int)
	count := func(at place, counters *drop.Counters) {
		for r := range counters {
			if n := counters[r].Swap(0); n > 0 {
				drops[string(at)+" "+drop.Reason(r).String()] = int(n)
			}
		}
	}
	for _, j := range c.ports {
		at := placeOf(j.Port, nil)
		places[at] = wireOf(c, j.out)
		for _, w := range j.out {
			if !j.takes(&frame.Frame{Offload: w.Offload}) {
				c.rt.Errorf("%s was given %+v, and takes %b (plain: %v)", at, w.Offload, j.joins, j.plain)
			}
		}
		rx += int(j.RxFrames.Load())
		if tx := int(j.TxFrames.Load()); tx != len(places[at]) {
			c.rt.Errorf("%s: %d frames counted as written, %d were", at, tx, len(places[at]))
		}
		count(at, &j.Drops)
	}
	for _, n := range c.others {
		places[placeOf(nil, n.peer)] = c.world.hear(n)
	}
	count("network", &c.net.Drops)
	count("tunnel", &c.tunnel.Drops)
	for at, frames := range places {
		got, answers := make(map[uint64]int), 0
		for _, b := range frames {
			if id, ok := numberOf(c, b); ok {
				got[id]++
			} else {
				answers++
			}
		}
		if want := o.delivered[at]; !maps.Equal(got, want) {
			c.rt.Errorf("%s got %v, want %v", at, got, want)
		}
		if answers != o.answers[at] {
			c.rt.Errorf("%s got %d answers, want %d", at, answers, o.answers[at])
		}
	}
	if !maps.Equal(drops, o.drops) {
		c.rt.Errorf("counted %v, want %v", drops, o.drops)
	}
	if rx != c.rx {
		c.rt.Errorf("%d frames counted as read, %d were", rx, c.rx)
	}
}
