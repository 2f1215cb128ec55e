package bridge

import (
	"bytes"
	"maps"
	"net/netip"
	"sync"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// listener is a router that remembers what it got, and refuses with reason.
type listener struct {
	reason drop.Reason
	got    [][]byte
	from   []*Port
}

func (r *listener) Receive(from *Port, f *frame.Frame) drop.Reason {
	r.got, r.from = append(r.got, bytes.Clone(f.Bytes())), append(r.from, from)
	return r.reason
}

func withRouter(r Router) func(*house) { return func(h *house) { h.config.Router = r } }

func TestTheRouterGetsWhatIsForTheGatewayAndNothingElse(t *testing.T) {
	r := new(listener)
	runSteps(t, []step{
		{"to the gateway", "a", datagram(t, asker, gateway, 100), nil, ""},
		{"to the gateway over IPv6", "b", datagram(t, owner.six(), gateway.six(), 100), nil, ""},
		{"through the gateway", "a", datagram(t, asker, who{gwMAC, netip.MustParseAddr("192.0.2.1"), gw6}, 100), nil, ""},
		{"to another station", "a", datagram(t, asker, owner, 100), []string{"b"}, ""},
		{"from another node to the gateway", "first", datagram(t, far, gateway, 100), nil, "net no-router"},
		{"with another's address", "a", datagram(t, who{asker.mac, owner.v4, owner.v6}, gateway, 100), nil, "a spoofed-address"},
		{"with another's MAC", "a", datagram(t, who{owner.mac, asker.v4, asker.v6}, gateway, 100), nil, "a spoofed-mac"},
	}, withRouter(r))
	if len(r.got) != 3 {
		t.Fatalf("the router got %d frames, want 3", len(r.got))
	}
	if r.from[0].Name != "a" || r.from[1].Name != "b" || !bytes.Equal(r.got[0], datagram(t, asker, gateway, 100)) {
		t.Errorf("the router got % x from %s first; want the first step's from a", r.got[0], r.from[0].Name)
	}
}

func TestWhatTheRouterRefusesIsCountedAtThePort(t *testing.T) {
	runSteps(t, []step{{"to the gateway", "a", datagram(t, asker, gateway, 100), nil, "a forbidden"}}, withRouter(&listener{reason: drop.Forbidden}))
}

// A kernel that has the gateway in its neighbor table asks it alone whether it is still there, and forgets it if not.
func TestTheGatewayAnswersThoseWhoAskItAlone(t *testing.T) {
	for name, router := range map[string]Router{"with a router": new(listener), "without": nil} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, withRouter(router))
			h.a.say(plain(arpOf(t, 1, asker, gwMAC, gw4)))
			h.a.say(plain(readdressed(nd{target: gw6}.build(t), asker.mac, gwMAC)))
			got := h.heard()
			if len(got["a"]) != 2 || len(got) != 1 {
				t.Fatalf("heard %v, want two answers at a", got)
			}
			for _, b := range got["a"] {
				if frame.MACFrom(b[6:]) != gwMAC || frame.MACFrom(b) != asker.mac {
					t.Errorf("answer % x, want it from the gateway to the asker", b)
				}
			}
			if drops := h.drops(); len(drops) > 0 {
				t.Errorf("counted %v", drops)
			}
		})
	}
}

// membership is an IGMPv2 report, which every container's kernel sends when it joins a group.
func membership(t *testing.T, from who) []byte {
	ether := layers.Ethernet{SrcMAC: hardware(from.mac), DstMAC: hardware(0x01005e0000fb), EthernetType: layers.EthernetTypeIPv4}
	ip := layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolIGMP, SrcIP: from.v4.AsSlice(), DstIP: mdns.v4.AsSlice()}
	return serialize(t, &ether, &ip, gopacket.Payload{0x16, 0, 0x09, 0x04, 224, 0, 0, 251})
}

// listening is what an MLD report (RFC 2710 §3) or a router solicitation (RFC 4861 §4.1) looks like from outside: ICMPv6 of a kind.
func listening(t *testing.T, from who, kind uint8) []byte {
	ether := layers.Ethernet{SrcMAC: hardware(from.mac), DstMAC: hardware(0x333300000002), EthernetType: layers.EthernetTypeIPv6}
	ip := layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.v6.AsSlice(), DstIP: netip.MustParseAddr("ff02::2").AsSlice()}
	icmp := layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	check(t, icmp.SetNetworkLayerForChecksum(&ip))
	return serialize(t, &ether, &ip, &icmp, gopacket.Payload(make([]byte, 20)))
}

func TestTheRouterHearsWhatIsForRoutersAlone(t *testing.T) {
	alone := func(router Router) func(*house) {
		return func(h *house) {
			h.config.Ports, h.config.Statics, h.config.Router = []*Port{h.a.Port}, nil, router
			h.config.Endpoints = h.config.Endpoints[:1]
		}
	}
	words := map[string][]byte{
		"an IGMP report": membership(t, asker), "an MLD report": listening(t, asker, 131), "an MLDv2 report": listening(t, asker, 143),
		"an MLD done": listening(t, asker, 132), "a router solicitation": listening(t, asker, 133),
	}
	for name, b := range words {
		t.Run(name, func(t *testing.T) {
			runSteps(t, []step{
				{"with a router", "a", b, nil, ""},
				{"a datagram to a group", "a", datagram(t, asker, mdns, 100), nil, "a no-route"},
				{"another group message", "a", listening(t, asker, 200), nil, "a no-route"},
			}, alone(new(listener)))
			runSteps(t, []step{{"without", "a", b, nil, "a no-route"}}, alone(nil))
			runSteps(t, []step{{"with others", "a", b, []string{"b", "first", "second", "static"}, ""}}, withRouter(new(listener)))
		})
	}
}

// roomFor returns a packet as a router sends it: the frame's bytes in parts, with zeroes where the Ethernet header goes.
func roomFor(b []byte, split int) [][]byte {
	c := bytes.Clone(b)
	clear(c[:EthernetLen])
	return [][]byte{c[:split], c[split:]}
}

func TestTheRouterReachesContainersOfThisNode(t *testing.T) {
	for name, c := range map[string]struct {
		to     who
		place  string
		reason drop.Reason
	}{
		"a container here":              {owner, "b", drop.None},
		"a container here, over IPv6":   {owner.six(), "b", drop.None},
		"a container of another node":   {far, "", drop.NoRoute},
		"an address that nobody has":    {nobody, "", drop.NoRoute},
		"the gateway":                   {gateway, "", drop.NoRoute},
		"an address outside, over IPv6": {who{v6: netip.MustParseAddr("2001:db8::1")}, "", drop.NoRoute},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			want := datagram(t, who{gwMAC, gateway.v4, gateway.v6}, who{c.to.mac, c.to.v4, c.to.v6}, 100)
			to := c.to.v4
			if !to.IsValid() {
				to = c.to.v6
			}
			got := h.net.Send(to, &frame.Offload{Checksum: frame.Verified}, roomFor(want, 42))
			if got != c.reason {
				t.Errorf("refused for %s, want %s", got, c.reason)
			}
			heard := h.heard()
			if c.place == "" && len(heard) > 0 || c.place != "" && (len(heard) != 1 || !equalFrames(heard[c.place], [][]byte{want})) {
				t.Errorf("heard %v, want % x at %q", heard, want, c.place)
			}
		})
	}
}

func TestTheRoutersSuperframesGoOutAsTheDeviceTakesThem(t *testing.T) {
	whole := segment(t, gateway, owner, 5000)
	super := frame.Offload{GSO: frame.GSOTCP4, Size: 1400, Checksum: frame.Partial, Start: 34, Offset: 16}
	f := parsed(t, whole)
	f.Offload = super
	frm := bytes.Clone(whole)
	sum := frame.PseudoSum(f)
	frm[34+16], frm[34+17] = byte(sum>>8), byte(sum)

	t.Run("whole", func(t *testing.T) {
		h := newHouse(t)
		if r := h.net.Send(owner.v4, &super, roomFor(frm, 54)); r != drop.None {
			t.Fatal(r)
		}
		if len(h.b.out) != 1 || !bytes.Equal(h.b.out[0].bytes, frm) || h.b.out[0].Offload != super {
			t.Errorf("wrote %d frames, want the superframe as it is", len(h.b.out))
		}
		if n := h.b.TxFrames.Load(); n != 4 {
			t.Errorf("counted %d frames on the wire, want 4", n)
		}
	})
	t.Run("cut", func(t *testing.T) {
		h := newHouse(t, func(h *house) {
			h.b = h.jack(h.net, PortConfig{Name: "b", Plain: true})
			h.config.Ports[1], h.config.Endpoints[1].Port = h.b.Port, h.b.Port
		})
		if r := h.net.Send(owner.v4, &super, roomFor(frm, 54)); r != drop.None {
			t.Fatal(r)
		}
		var payload []byte
		for _, w := range h.b.out {
			g := parsed(t, w.bytes)
			if w.GSO != frame.GSONone || !g.Verify() {
				t.Errorf("piece of %d bytes: %+v, want a plain frame with a right checksum", len(w.bytes), w.Offload)
			}
			payload = append(payload, w.bytes[g.Payload:]...)
		}
		if len(h.b.out) != 4 || !bytes.Equal(payload, whole[54:]) {
			t.Errorf("%d pieces with %d bytes, want 4 with %d", len(h.b.out), len(payload), len(whole)-54)
		}
	})
	t.Run("with its checksum", func(t *testing.T) {
		h := newHouse(t, func(h *house) {
			h.b = h.jack(h.net, PortConfig{Name: "b", Plain: true})
			h.config.Ports[1], h.config.Endpoints[1].Port = h.b.Port, h.b.Port
		})
		if r := h.net.Send(owner.v4, &frame.Offload{Checksum: frame.Partial, Start: 34, Offset: 16}, roomFor(frm, 54)); r != drop.None {
			t.Fatal(r)
		}
		if len(h.b.out) != 1 || !parsed(t, h.b.out[0].bytes).Verify() || h.b.out[0].Checksum == frame.Partial {
			t.Errorf("wrote %d frames, want one that is complete", len(h.b.out))
		}
	})
	t.Run("too large", func(t *testing.T) {
		h := newHouse(t, func(h *house) {
			h.b = h.jack(h.net, PortConfig{Name: "b", Plain: true})
			h.config.Ports[1], h.config.Endpoints[1].Port = h.b.Port, h.b.Port
		})
		if r := h.net.Send(owner.v4, &super, [][]byte{make([]byte, 54), make([]byte, frame.MaxLen)}); r != drop.TooLarge {
			t.Errorf("refused for %s, want %s", r, drop.TooLarge)
		}
	})
}

func TestTheRouterMaySendFromAnyGoroutine(t *testing.T) {
	h := newHouse(t, func(h *house) {
		h.b = h.jack(h.net, PortConfig{Name: "b", Plain: true})
		h.config.Ports[1], h.config.Endpoints[1].Port = h.b.Port, h.b.Port
	})
	h.b.failure = 11 // the memory device keeps a list that is for one goroutine
	b := datagram(t, gateway, owner, 900)
	f := parsed(t, b)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				h.net.Send(owner.v4, &frame.Offload{Checksum: frame.Partial, Start: f.L4, Offset: 6}, roomFor(b, 42))
			}
		})
	}
	wg.Wait()
	if got := h.b.Drops.Snapshot(); !maps.Equal(got, map[string]uint64{"queue-full": 400}) {
		t.Errorf("counted %v, want 400 refused by the device", got)
	}
}

func TestSendingForTheRouterDoesNotAllocate(t *testing.T) {
	h := newHouse(t)
	h.b.failure = 11
	b := datagram(t, gateway, owner, 900)
	parts := roomFor(b, 42)
	o := &frame.Offload{Checksum: frame.Verified}
	if n := testing.AllocsPerRun(100, func() { h.net.Send(owner.v4, o, parts) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
