package bridge

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// arpOf is an ARP packet in which a station speaks of a target.
func arpOf(t testing.TB, op uint16, from who, to frame.MAC, target netip.Addr) []byte {
	t.Helper()
	eth := layers.Ethernet{SrcMAC: hardware(from.mac), DstMAC: hardware(to), EthernetType: layers.EthernetTypeARP}
	return serialize(t, &eth, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: hardware(from.mac), SourceProtAddress: from.v4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
	})
}

var (
	all4 = who{frame.Broadcast, netip.MustParseAddr("255.255.255.255"), netip.Addr{}}
	mdns = who{0x01005e0000fb, netip.MustParseAddr("224.0.0.251"), netip.Addr{}}
	all6 = who{allNodesMAC, netip.Addr{}, netip.AddrFrom16(allNodes)}
	void = netip.IPv4Unspecified()
)

func TestFramesGoWhereTheTableSays(t *testing.T) {
	everybody := []string{"b", "first", "second", "static"}
	runSteps(t, []step{
		{"to a local station", "a", datagram(t, asker, owner, 100), []string{"b"}, ""},
		{"to a local station over IPv6", "a", datagram(t, asker.six(), owner.six(), 100), []string{"b"}, ""},
		{"to a station of another node", "a", datagram(t, asker, far, 100), []string{"first"}, ""},
		{"to a station of a static node", "a", datagram(t, asker, kernel, 100), []string{"static"}, ""},
		{"tagged to a local station", "a", retagged(datagram(t, asker, owner, 100)), []string{"b"}, ""},
		{"tagged to another node", "a", retagged(datagram(t, asker, far, 100)), []string{"first"}, ""},
		{"neither IP nor ARP", "a", readdressed(append(make([]byte, 12), 0x88, 0xb5, 1, 2), asker.mac, far.mac), []string{"first"}, ""},
		{"to all", "a", datagram(t, asker, all4, 100), everybody, ""},
		{"to a group", "a", datagram(t, asker, mdns, 100), everybody, ""},
		{"to a group over IPv6", "a", datagram(t, asker.six(), all6, 100), everybody, ""},
		{"to a MAC that nobody owns", "a", datagram(t, asker, nobody, 100), []string{"b", "static"}, ""},
		{"to the sender's own port", "a", datagram(t, asker, asker, 100), nil, "a same-port"},
		{"to the gateway of a network without router", "a", datagram(t, asker, gateway, 100), nil, "a no-router"},
		{"from another node to a local station", "first", datagram(t, far, asker, 100), []string{"a"}, ""},
		{"from another node, tagged", "first", retagged(datagram(t, far, asker, 100)), []string{"a"}, ""},
		{"from another node to all", "first", datagram(t, far, all4, 100), []string{"a", "b"}, ""},
		{"from another node to a group", "second", datagram(t, wide.six(), all6, 100), []string{"a", "b"}, ""},
		{"from another node to a station of a third", "first", datagram(t, far, wide, 100), nil, "net no-route"},
		{"from another node to itself", "first", datagram(t, far, far, 100), nil, "net no-route"},
		{"from another node to a MAC that nobody owns", "first", datagram(t, far, nobody, 100), []string{"a", "b"}, ""},
		{"from another node to the gateway", "first", datagram(t, far, gateway, 100), nil, "net no-router"},
	})
}

func TestAddressRequestsThatTheTableCannotAnswerGoToAll(t *testing.T) {
	everybody := []string{"b", "first", "second", "static"}
	runSteps(t, []step{
		{"a request for an address that nobody has", "a", arpOf(t, 1, asker, frame.Broadcast, nobody.v4), everybody, ""},
		{"an announcement by a request", "a", arpOf(t, 1, asker, frame.Broadcast, asker.v4), everybody, ""},
		{"an announcement by a reply", "a", arpOf(t, 2, asker, frame.Broadcast, asker.v4), everybody, ""},
		{"a probe for the asker's own address", "a", arpOf(t, 1, who{asker.mac, void, asker.v6}, frame.Broadcast, asker.v4), everybody, ""},
		{"a reply to one station", "a", arpOf(t, 2, asker, far.mac, far.v4), []string{"first"}, ""},
		{"a request to one station", "a", arpOf(t, 1, asker, far.mac, far.v4), []string{"first"}, ""},
		{"a solicitation for an address that nobody has", "a", nd{target: nobody.v6}.build(t), everybody, ""},
		{"the asker's search for its own address", "a", nd{src: netip.IPv6Unspecified(), target: asker6}.build(t), everybody, ""},
		{"an unsolicited advertisement", "a", nd{advert: true, target: asker6, flags: 0x20, options: linkAddr(2, asker.mac)}.build(t), everybody, ""},
		{"a request from another node", "first", arpOf(t, 1, far, frame.Broadcast, asker.v4), []string{"a", "b"}, ""},
	})
}

func TestAddressRequestsAreAnsweredFromTheTable(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		name  string
		frame []byte
		mac   frame.MAC
	}{
		{"ARP for a local station", arpOf(t, 1, asker, frame.Broadcast, owner.v4), owner.mac},
		{"ARP for a station of another node", arpOf(t, 1, asker, frame.Broadcast, far.v4), far.mac},
		{"ARP for the gateway", arpOf(t, 1, asker, frame.Broadcast, gateway.v4), gateway.mac},
		{"an ARP probe for an address that another has", arpOf(t, 1, who{asker.mac, void, asker.v6}, frame.Broadcast, far.v4), far.mac},
		{"tagged ARP", retagged(arpOf(t, 1, asker, frame.Broadcast, far.v4)), far.mac},
		{"ND for a local station", nd{target: owner.v6}.build(t), owner.mac},
		{"ND for a station of another node", nd{target: far.v6}.build(t), far.mac},
		{"ND for the gateway", nd{target: gateway.v6}.build(t), gateway.mac},
		{"ND for a link-local address", nd{target: linkLocal(far.mac)}.build(t), far.mac},
		{"a search for an address that another has", nd{src: netip.IPv6Unspecified(), target: far.v6}.build(t), far.mac},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.TB = t
			h.send("a", c.frame)
			got := h.heard()
			if len(got) != 1 || len(got["a"]) != 1 {
				t.Fatalf("%v heard something, want a single answer to a", got)
			}
			f := parsed(t, got["a"][0])
			mac, ok := frame.MAC(0), false
			if f.Ether == frame.EtherARP {
				mac, _, _, _, ok = arpRequest(f)
			} else {
				_, _, _, mac, ok = neighbor(f)
			}
			if !ok || mac != c.mac || f.Src() != c.mac {
				t.Errorf("the answer says %v (from %v, sound: %v), want %v", mac, f.Src(), ok, c.mac)
			}
			if drops := h.drops(); len(drops) > 0 {
				t.Errorf("counted %v, want nothing", drops)
			}
		})
	}
}

func TestSuperframePassesToALocalPortUntouched(t *testing.T) {
	h := newHouse(t)
	in := owed(t, segment(t, asker, owner, 60_000), 1410)
	h.a.say(in)
	if len(h.b.out) != 1 || !bytes.Equal(input(h.b.out[0].Offload, h.b.out[0].bytes), in) {
		t.Fatalf("%d writes, want the superframe in one, as it came", len(h.b.out))
	}
	if rx, tx := h.a.RxFrames.Load(), h.b.TxFrames.Load(); rx != 43 || tx != 43 {
		t.Errorf("%d wire frames counted from a, %d to b; want 43 each", rx, tx)
	}
	if r, w := h.a.RxReads.Load(), h.b.TxWrites.Load(); r != 1 || w != 1 {
		t.Errorf("%d reads and %d writes, want one each", r, w)
	}
	if rx, tx := h.a.RxBytes.Load(), h.b.TxBytes.Load(); rx != 60_054 || tx != 60_054 {
		t.Errorf("%d bytes from a, %d to b, want 60054", rx, tx)
	}
}

func TestSuperframeIsCutForThePeer(t *testing.T) {
	h := newHouse(t)
	b := segment(t, asker, far, 60_000)
	h.a.say(owed(t, b, 9000))
	var payload []byte
	for _, w := range h.world.hear(h.first) {
		f := parsed(t, w)
		if !f.Verify() || f.End-int(f.L3) > 1450 {
			t.Fatalf("a packet of %d bytes, checksum right: %v", f.End-int(f.L3), f.Verify())
		}
		payload = append(payload, w[f.Payload:f.End]...)
	}
	if !bytes.Equal(payload, b[54:]) {
		t.Errorf("%d bytes of payload arrived, other than the %d that were sent", len(payload), len(b)-54)
	}
	if tx := h.first.peer.TxMessages.Load(); tx != 1 {
		t.Errorf("%d messages, want 1", tx)
	}
}

func TestFramesOfOneFlowFromTheTunnelAreJoined(t *testing.T) {
	h := newHouse(t)
	for range 40 {
		if reason := h.first.Send(h.first.home, houseVNI, parsed(t, datagram(t, far, asker, 500)), 65000); reason != drop.None {
			t.Fatal(reason)
		}
	}
	h.tell(h.first, houseVNI)
	if n := len(h.a.out); n != 1 || h.a.out[0].GSO != frame.GSOUDP {
		t.Fatalf("%d writes, want one superframe", n)
	}
	if got := h.a.hear(t); len(got) != 40 {
		t.Errorf("%d datagrams, want 40", len(got))
	}
	if frames, writes := h.a.TxFrames.Load(), h.a.TxWrites.Load(); frames != 40 || writes != 1 {
		t.Errorf("%d frames in %d writes counted, want 40 in 1", frames, writes)
	}
	if rx := h.first.peer.RxFrames.Load(); rx != 40 {
		t.Errorf("%d frames from the peer counted, want 40", rx)
	}
}

// TestFloodedRunsArriveWhole holds that what is joined for one receiver does not show in what another gets.
func TestFloodedRunsArriveWhole(t *testing.T) {
	h := newHouse(t)
	var run, want [][]byte
	for i := range 70 {
		b := datagram(t, asker, mdns, 200-i/69*50) // a short one ends the run, and has it delivered before the rest
		run, want = append(run, owed(t, b, 0)), append(want, b)
	}
	h.a.say(run...)
	if n := len(h.b.out); n > 2 {
		t.Errorf("%d writes, want the run joined", n)
	}
	for place, got := range h.heard() {
		if !equalFrames(got, want) {
			t.Errorf("%s got %d frames, other than the %d that were sent", place, len(got), len(want))
		}
	}
}

func TestFloodedCopiesThatDoNotFitAreCounted(t *testing.T) {
	h := newHouse(t, func(h *house) { h.config.MTU = 1000 })
	h.a.say(plain(datagram(t, asker, all4, 1000-27)))
	if got := h.heard(); len(got) != 1 || len(got["b"]) != 1 {
		t.Errorf("%d places heard it, want b alone", len(got))
	}
	if got := h.drops(); len(got) != 1 || got["a too-big"] != 3 {
		t.Errorf("counted %v, want the three copies for other nodes", got)
	}
}

func TestSendersLearnTheMTU(t *testing.T) {
	h := newHouse(t)
	for name, c := range map[string]struct {
		in    []byte
		count uint64
		mtu   int
	}{
		"IPv4":                     {plain(datagram(t, asker, far, 1450-27)), 1, 1450},
		"IPv6":                     {plain(datagram(t, asker.six(), far.six(), 1450-47)), 1, 1450},
		"tagged":                   {plain(retagged(datagram(t, asker, far, 1450-27))), 1, 1450},
		"datagrams in one read":    {owed(t, datagram(t, asker, far, 6000), 2000), 3, 1450},
		"a datagram, checksum due": {owed(t, datagram(t, asker, far, 2000), 0), 1, 1450},
	} {
		t.Run(name, func(t *testing.T) {
			h.TB = t
			h.a.say(c.in)
			got := h.heard()
			if len(got) != 1 || len(got["a"]) != 1 {
				t.Fatalf("%v heard something, want one message to a", got)
			}
			p := decoded(t, got["a"][0])
			mtu := 0
			if m, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
				mtu = int(m.Seq)
			} else if m, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
				mtu = int(m.Payload[2])<<8 | int(m.Payload[3])
			}
			if mtu != c.mtu {
				t.Errorf("told an MTU of %d, want %d", mtu, c.mtu)
			}
			if drops := h.drops(); len(drops) != 1 || drops["a too-big"] != c.count {
				t.Errorf("counted %v, want a too-big %d", drops, c.count)
			}
		})
	}
}

func TestNothingIsForwardedWithoutATable(t *testing.T) {
	w := newWorld(t, 1)
	n := w.network("new", 7)
	a := w.jack(n, PortConfig{Name: "a", Joins: allJoins})
	a.say(plain(datagram(t, asker, owner, 10)))
	if a.Drops[drop.SpoofedMAC].Load() != 1 {
		t.Errorf("drops %v, want one spoofed-mac", a.Drops.Snapshot())
	}
	w.tell(w.others[0], 8, datagram(t, asker, owner, 10))
	if w.tunnel.Drops[drop.UnknownVNI].Load() != 1 {
		t.Errorf("drops %v, want one unknown-vni", w.tunnel.Drops.Snapshot())
	}
}

func TestLonelyStationHasNowhereToSend(t *testing.T) {
	w := newWorld(t, 0)
	n := w.network("lonely", 7)
	a := w.jack(n, PortConfig{Name: "a"})
	n.SetTable(Compile(Config{MTU: 1450, Ports: []*Port{a.Port}, Endpoints: []Endpoint{asker.endpoint(a, nil), owner.endpoint(nil, nil)}}))
	for name, to := range map[string]who{"a group": mdns, "a MAC that nobody owns": nobody, "a station that is nowhere": owner} {
		a.say(plain(datagram(t, asker, to, 10)))
		if got := a.Drops[drop.NoRoute].Swap(0); got != 1 || len(a.out) != 0 {
			t.Errorf("a frame to %s: no-route %d, want 1; %d frames came back", name, got, len(a.out))
		}
	}
}

func TestNewTableHoldsForTheNextFrame(t *testing.T) {
	h := newHouse(t)
	b := datagram(t, asker, far, 100)
	h.a.say(plain(b))
	if got := h.heard(); len(got["first"]) != 1 {
		t.Fatalf("%v heard the first frame, want the first node", got)
	}
	moved := h.config
	moved.Endpoints = append([]Endpoint{far.endpoint(nil, h.second)}, h.config.Endpoints[:2]...)
	h.net.SetTable(Compile(moved))
	h.a.say(plain(b))
	if got := h.heard(); len(got) != 1 || len(got["second"]) != 1 {
		t.Errorf("%v heard the second frame, want the second node", got)
	}
	h.tell(h.first, houseVNI, datagram(t, far, asker, 100))
	if got := h.drops(); len(got) != 1 || got["net unknown-vtep"] != 1 {
		t.Errorf("counted %v, want a frame from a node that has nothing in the network any more", got)
	}
	h.tell(h.second, houseVNI, datagram(t, far, asker, 100))
	if got := h.heard(); len(got["a"]) != 1 {
		t.Errorf("%v heard the frame from the new place", got)
	}
}

func TestNetworksShareNothing(t *testing.T) {
	w := newWorld(t, 1)
	type net struct {
		*Network
		a, b *jack
	}
	var nets []net
	for _, name := range []string{"red", "blue"} { // the same addresses and MACs in both
		n := net{Network: w.network(name, vxlan.VNI(len(nets)+1))}
		n.a, n.b = w.jack(n.Network, PortConfig{Name: "a", Joins: allJoins}), w.jack(n.Network, PortConfig{Name: "b", Joins: allJoins})
		n.SetTable(Compile(Config{MTU: 1450, Ports: []*Port{n.a.Port, n.b.Port}, Endpoints: []Endpoint{
			asker.endpoint(n.a, nil), owner.endpoint(n.b, nil), far.endpoint(nil, w.others[0]),
		}}))
		nets = append(nets, n)
	}
	red, blue := nets[0], nets[1]
	quiet := func(what string, n net) {
		t.Helper()
		if len(n.a.out)+len(n.b.out) != 0 {
			t.Errorf("%s was heard in network %s", what, n.Name)
		}
	}
	red.a.in = [][]byte{plain(datagram(t, asker, owner, 100)), plain(datagram(t, asker, mdns, 100)), plain(datagram(t, asker, far, 100))}
	blue.a.in = [][]byte{plain(datagram(t, asker, owner, 200))}
	red.a.queue.Ready()
	blue.a.queue.Ready() // in the same round, on the same lane
	w.lane.Flush()
	if r, b := red.b.hear(t), blue.b.hear(t); len(r) != 2 || len(b) != 1 || len(b[0]) != 242 {
		t.Errorf("%d frames in red, %d in blue; want 2 and 1", len(r), len(b))
	}
	w.await(w.others[0].receiver, w.others[0].peer, w.others[0].home)
	for _, v := range w.others[0].vnis {
		if v != red.VNI {
			t.Errorf("a frame of red left with VNI %d", v)
		}
	}
	if n := len(w.hear(w.others[0])); n != 2 {
		t.Errorf("%d frames left by the tunnel, want 2", n)
	}
	w.tell(w.others[0], blue.VNI, datagram(t, far, asker, 100), datagram(t, far, mdns, 100))
	quiet("a frame from the tunnel for blue", red)
	if n := len(blue.a.hear(t)) + len(blue.b.hear(t)); n != 3 {
		t.Errorf("%d frames heard in blue, want 3", n)
	}
}

// TestRepliesDoNotDisturbWhatIsQueued mixes frames that are answered at once with frames that wait for the flush.
func TestRepliesDoNotDisturbWhatIsQueued(t *testing.T) {
	h := newHouse(t)
	var in, local, remote [][]byte
	for i := range 30 {
		l, r := datagram(t, asker, owner, 100+i), datagram(t, asker, far, 100+i)
		local, remote = append(local, l), append(remote, r)
		in = append(in, plain(l), plain(arpOf(t, 1, asker, frame.Broadcast, far.v4)), plain(r), plain(datagram(t, asker, far, 3000)))
	}
	h.a.say(in...)
	got := h.heard()
	for place, want := range map[string][][]byte{"b": local, "first": remote} {
		if !equalFrames(got[place], want) {
			t.Errorf("%s got %d frames, other than the %d that were sent", place, len(got[place]), len(want))
		}
	}
	arps, errors := 0, 0
	for _, b := range got["a"] {
		if p := decoded(t, b); p.Layer(layers.LayerTypeARP) != nil {
			arps++
		} else if p.Layer(layers.LayerTypeICMPv4) != nil {
			errors++
		}
	}
	if arps != 30 || errors != 30 {
		t.Errorf("%d ARP replies and %d ICMP errors, want 30 each", arps, errors)
	}
}

// equalFrames reports whether both are the same but for IPv4 identifications, which mean nothing in packets with DF.
func equalFrames(a, b [][]byte) bool {
	same := func(a, b []byte) bool {
		const id, check, rest = 18, 24, 26
		return len(a) == len(b) && bytes.Equal(a[:id], b[:id]) && bytes.Equal(a[id+2:check], b[id+2:check]) && bytes.Equal(a[rest:], b[rest:])
	}
	return slices.EqualFunc(a, b, same)
}
