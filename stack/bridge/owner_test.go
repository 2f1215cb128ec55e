package bridge

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/stack/frame"
)

func TestStationsSpeakForThemselvesOnly(t *testing.T) {
	everybody := []string{"b", "first", "second", "static"}
	liar := func(w who) who { return who{asker.mac, w.v4, w.v6} } // the asker, with another's addresses
	self6 := who{mac: asker.mac, v6: linkLocal(asker.mac)}
	runSteps(t, []step{
		{"a MAC that nobody owns", "a", datagram(t, nobody, far, 10), nil, "a spoofed-mac"},
		{"another local station's MAC", "a", datagram(t, owner, far, 10), nil, "a spoofed-mac"},
		{"another node's station's MAC", "a", datagram(t, far, owner, 10), nil, "a spoofed-mac"},
		{"the gateway's MAC", "a", datagram(t, gateway, owner, 10), nil, "a spoofed-mac"},
		{"another's IPv4 address", "a", datagram(t, liar(far), owner, 10), nil, "a spoofed-address"},
		{"no IPv4 address", "a", datagram(t, who{mac: asker.mac, v4: void}, owner, 10), nil, "a spoofed-address"},
		{"the gateway's IPv4 address", "a", datagram(t, liar(gateway), owner, 10), nil, "a spoofed-address"},
		{"another's IPv6 address", "a", datagram(t, liar(far).six(), owner.six(), 10), nil, "a spoofed-address"},
		{"another's link-local address", "a", datagram(t, who{mac: asker.mac, v6: linkLocal(far.mac)}, owner.six(), 10), nil, "a spoofed-address"},
		{"the MAC's own link-local address", "a", datagram(t, self6, owner.six(), 10), []string{"b"}, ""},
		{"no IPv6 address yet", "a", nd{src: netip.IPv6Unspecified(), target: nobody.v6}.build(t), everybody, ""},
		{"another's address behind a tag", "a", retagged(datagram(t, liar(far), owner, 10)), nil, "a spoofed-address"},
		{"another's address behind two tags", "a", retagged(retagged(datagram(t, liar(far), owner, 10))), nil, "a spoofed-address"},
		{"its own address behind two tags", "a", retagged(retagged(datagram(t, asker, owner, 10))), []string{"b"}, ""},
		{"more tags than there may be", "a", retagged(retagged(retagged(datagram(t, asker, owner, 10)))), nil, "a bad-ethernet"},
		{"an ARP packet that claims another's address", "a", arpOf(t, 1, liar(far), frame.Broadcast, nobody.v4), nil, "a spoofed-address"},
		{"a tagged one", "a", retagged(arpOf(t, 2, liar(far), frame.Broadcast, nobody.v4)), nil, "a spoofed-address"},
		{"an ARP packet that claims the gateway's", "a", arpOf(t, 2, liar(gateway), owner.mac, owner.v4), nil, "a spoofed-address"},
		{"an ARP packet that claims another's MAC", "a", readdressed(arpOf(t, 1, far, frame.Broadcast, nobody.v4), asker.mac, frame.Broadcast), nil, "a spoofed-mac"},
		{"an ARP packet of another kind", "a", arpOf(t, 3, asker, frame.Broadcast, owner.v4), nil, "a bad-arp"},
		{"an advertisement of another's address", "a", nd{advert: true, target: far.v6, options: linkAddr(2, asker.mac)}.build(t), nil, "a spoofed-address"},
		{"an advertisement of another's MAC", "a", nd{advert: true, target: asker.v6, options: linkAddr(2, far.mac)}.build(t), nil, "a spoofed-mac"},
		{"a solicitation that teaches another's MAC", "a", nd{target: far.v6, options: linkAddr(1, far.mac)}.build(t), nil, "a spoofed-mac"},
		{"a tagged advertisement of another's address", "a", nd{advert: true, target: far.v6, tagged: true}.build(t), nil, "a spoofed-address"},
		{"an advertisement that can be read in two ways", "a", nd{advert: true, target: asker.v6, options: append(linkAddr(2, asker.mac), linkAddr(2, far.mac)...)}.build(t), nil, "a bad-icmp"},
	})
}

func TestSeveralStationsBehindAPort(t *testing.T) {
	third := host(7)
	runSteps(t, []step{
		{"the second station", "a", datagram(t, third, owner, 10), []string{"b"}, ""},
		{"the first", "a", datagram(t, asker, owner, 10), []string{"b"}, ""},
		{"one with the other's address", "a", datagram(t, who{mac: third.mac, v4: asker.v4}, owner, 10), nil, "a spoofed-address"},
		{"from one to the other", "a", datagram(t, third, asker, 10), nil, "a same-port"},
		{"the second from another port", "b", datagram(t, third, asker, 10), nil, "b spoofed-mac"},
		{"one's question for the other", "a", arpOf(t, 1, third, frame.Broadcast, asker.v4), []string{"b", "first", "second", "static"}, ""},
	}, func(h *house) { h.config.Endpoints = append(h.config.Endpoints, third.endpoint(h.a, nil)) })
}

func TestSpoofingCanBeAllowed(t *testing.T) {
	runSteps(t, []step{
		{"a MAC that nobody owns", "a", datagram(t, nobody, far, 10), []string{"first"}, ""},
		{"another's address", "a", datagram(t, who{mac: asker.mac, v4: host(77).v4}, owner, 10), []string{"b"}, ""},
		{"a MAC that nobody owns, from another node", "first", datagram(t, nobody, asker, 10), []string{"a"}, ""},
		{"an address that nobody owns, from another node", "first", datagram(t, who{mac: far.mac, v4: nobody.v4}, asker, 10), []string{"a"}, ""},
		{"an announcement of another's address", "a", arpOf(t, 1, who{mac: asker.mac, v4: far.v4}, frame.Broadcast, far.v4), []string{"b", "first", "second", "static"}, ""},
		{"a third node's station's MAC", "first", datagram(t, wide, asker, 10), nil, "net not-owner"},
		{"a local station's MAC, from another node", "first", datagram(t, owner, asker, 10), nil, "net not-owner"},
		{"the gateway's MAC, from another node", "first", datagram(t, gateway, asker, 10), nil, "net not-owner"},
	}, func(h *house) { h.config.Spoof = true })
}

func TestNodesSpeakForTheirStationsOnly(t *testing.T) {
	both := []string{"a", "b"}
	liar := func(w who) who { return who{far.mac, w.v4, w.v6} }
	runSteps(t, []step{
		{"its own station", "first", datagram(t, far, asker, 10), []string{"a"}, ""},
		{"its own station over IPv6", "first", datagram(t, far.six(), asker.six(), 10), []string{"a"}, ""},
		{"another node's station", "first", datagram(t, wide, asker, 10), nil, "net not-owner"},
		{"a station of this node", "first", datagram(t, owner, asker, 10), nil, "net not-owner"},
		{"a MAC that nobody owns", "first", datagram(t, nobody, asker, 10), nil, "net not-owner"},
		{"the gateway", "first", datagram(t, gateway, asker, 10), nil, "net not-owner"},
		{"its own MAC with another's address", "first", datagram(t, liar(wide), asker, 10), nil, "net not-owner"},
		{"its own MAC with an address that nobody owns", "first", datagram(t, liar(nobody), asker, 10), nil, "net not-owner"},
		{"another's address behind a tag", "first", retagged(datagram(t, liar(wide), asker, 10)), nil, "net not-owner"},
		{"an ARP packet that claims another's address", "first", arpOf(t, 2, liar(wide), frame.Broadcast, asker.v4), nil, "net not-owner"},
		{"an advertisement of its own", "first", readdressed(nd{advert: true, src: far.v6, target: far.v6, options: linkAddr(2, far.mac)}.build(t), far.mac, allNodesMAC), both, ""},
		{"an advertisement of another's address", "first", readdressed(nd{advert: true, src: far.v6, target: wide.v6, options: linkAddr(2, far.mac)}.build(t), far.mac, allNodesMAC), nil, "net not-owner"},
	})
}

func TestStaticNodesSpeakForWhatNobodyOwnsToo(t *testing.T) {
	both := []string{"a", "b"}
	as := func(mac, addr who) who { return who{mac.mac, addr.v4, addr.v6} }
	advert := func(src, target, mac who) []byte {
		return readdressed(nd{advert: true, src: src.v6, target: target.v6, options: linkAddr(2, mac.mac)}.build(t), mac.mac, allNodesMAC)
	}
	runSteps(t, []step{
		{"a known station of its own", "static", datagram(t, kernel, asker, 10), []string{"a"}, ""},
		{"its known MAC with an address that nobody owns", "static", datagram(t, as(kernel, nobody), asker, 10), []string{"a"}, ""},
		{"a station that nobody owns", "static", datagram(t, nobody, asker, 10), []string{"a"}, ""},
		{"one over IPv6", "static", datagram(t, nobody.six(), asker.six(), 10), []string{"a"}, ""},
		{"one's request", "static", arpOf(t, 1, nobody, frame.Broadcast, asker.v4), both, ""},
		{"one's advertisement", "static", advert(nobody, nobody, nobody), both, ""},
		{"neither IP nor ARP", "static", readdressed(append(make([]byte, 12), 0x88, 0xb5, 1, 2), nobody.mac, asker.mac), []string{"a"}, ""},
		{"a local station's MAC", "static", datagram(t, owner, asker, 10), nil, "net not-owner"},
		{"another node's station's MAC", "static", datagram(t, far, asker, 10), nil, "net not-owner"},
		{"the gateway's MAC", "static", datagram(t, gateway, asker, 10), nil, "net not-owner"},
		{"the gateway's MAC with an address that nobody owns", "static", datagram(t, as(gateway, nobody), asker, 10), nil, "net not-owner"},
		{"a known address", "static", datagram(t, as(nobody, far), asker, 10), nil, "net not-owner"},
		{"a known address with its known MAC", "static", datagram(t, as(kernel, far), asker, 10), nil, "net not-owner"},
		{"the gateway's address", "static", datagram(t, as(nobody, gateway), asker, 10), nil, "net not-owner"},
		{"the gateway's IPv6 address", "static", datagram(t, as(nobody, gateway).six(), asker.six(), 10), nil, "net not-owner"},
		{"a known address in ARP", "static", arpOf(t, 2, as(nobody, owner), frame.Broadcast, asker.v4), nil, "net not-owner"},
		{"the gateway's address in ARP", "static", arpOf(t, 2, as(nobody, gateway), frame.Broadcast, asker.v4), nil, "net not-owner"},
		{"a known address in an advertisement", "static", advert(nobody, owner, nobody), nil, "net not-owner"},
		{"a known address behind a tag", "static", retagged(datagram(t, as(nobody, far), asker, 10)), nil, "net not-owner"},
	})
}

func TestTableTellsWhatItWasMadeFrom(t *testing.T) {
	h := newHouse(t)
	table := h.net.Table()
	if got := table.Endpoints(); len(got) != 5 || got[0].MAC != asker.mac || got[4].MAC != kernel.mac {
		t.Errorf("endpoints %v, want five by MAC", got)
	}
	if got := table.Peers(); len(got) != 3 || got[0] != h.first.peer || got[2] != h.static.peer {
		t.Errorf("peers %v, want three by address", got)
	}
	if table.Static(h.first.peer) || !table.Static(h.static.peer) || table.MTU() != 1450 {
		t.Errorf("static: %v, %v; MTU %d", table.Static(h.first.peer), table.Static(h.static.peer), table.MTU())
	}
	for mac, want := range map[frame.MAC]string{ // RFC 4291 appendix A
		0x341208_00abcd: "fe80::3612:8ff:fe00:abcd",
		0x02420a000002:  "fe80::42:aff:fe00:2",
	} {
		if got := linkLocal(mac); got != netip.MustParseAddr(want) {
			t.Errorf("linkLocal(%v) = %v, want %s", mac, got, want)
		}
	}
}
