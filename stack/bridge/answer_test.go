package bridge

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

const (
	askerMAC = frame.MAC(0x02420a000001)
	ownerMAC = frame.MAC(0x02420a000002)
)

var (
	asker4, owner4, gw4 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.254")
	asker6, owner6, gw6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::fe")
)

func hardware(m frame.MAC) net.HardwareAddr {
	b := make([]byte, 6)
	m.Put(b)
	return b
}

// frameOf serializes layers, with lengths and checksums, behind an Ethernet header from the asker to dst.
func frameOf(t testing.TB, dst frame.MAC, ether layers.EthernetType, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	return serialize(t, append([]gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: hardware(askerMAC), DstMAC: hardware(dst), EthernetType: ether},
	}, l...)...)
}

// taggedFrameOf is frameOf with an 802.1Q tag.
func taggedFrameOf(t testing.TB, dst frame.MAC, ether layers.EthernetType, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	tag := &layers.Dot1Q{VLANIdentifier: 77, Type: ether}
	return frameOf(t, dst, layers.EthernetTypeDot1Q, append([]gopacket.SerializableLayer{tag}, l...)...)
}

func serialize(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// parsed is a Frame of b.
func parsed(t testing.TB, b []byte) *frame.Frame {
	t.Helper()
	f := new(frame.Frame)
	f.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
	if r := f.Parse(); r != drop.None {
		t.Fatalf("Parse: %v", r)
	}
	return f
}

// decoded reads an answer with an independent parser. All checksums in it must be right.
func decoded(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v in % x", e.Error(), b)
	}
	if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		if err := l.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
	}
	if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
		t.Fatalf("gopacket: checksums: %v %+v", err, bad)
	}
	return p
}

func checkEthernet(t testing.TB, p gopacket.Packet, src, dst frame.MAC) {
	t.Helper()
	e := p.LinkLayer().(*layers.Ethernet)
	if e.SrcMAC.String() != src.String() || e.DstMAC.String() != dst.String() {
		t.Errorf("from %v to %v, want %v to %v", e.SrcMAC, e.DstMAC, src, dst)
	}
}

func arp(op uint16) *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: hardware(askerMAC), SourceProtAddress: asker4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: owner4.AsSlice(),
	}
}

func TestARPRequestsAreReadAndAnswered(t *testing.T) {
	for name, b := range map[string][]byte{
		"untagged": frameOf(t, frame.Broadcast, layers.EthernetTypeARP, arp(1)),
		"tagged":   taggedFrameOf(t, frame.Broadcast, layers.EthernetTypeARP, arp(1)),
	} {
		t.Run(name, func(t *testing.T) {
			f := parsed(t, b)
			mac, sender, target, request, ok := arpRequest(f)
			if mac != askerMAC || sender != asker4 || target != owner4 || !request || !ok {
				t.Fatalf("arpRequest = %v %v %v %v %v", mac, sender, target, request, ok)
			}
			dst := make([]byte, replyLen)
			n := arpReply(dst, f, ownerMAC)
			if want := int(f.L3) + arpLen; n != want {
				t.Errorf("length %d, want %d", n, want)
			}
			p := decoded(t, dst[:n])
			checkEthernet(t, p, ownerMAC, askerMAC)
			a := p.Layer(layers.LayerTypeARP).(*layers.ARP)
			if a.Operation != 2 || string(a.SourceHwAddress) != string(hardware(ownerMAC)) || string(a.SourceProtAddress) != string(owner4.AsSlice()) ||
				string(a.DstHwAddress) != string(hardware(askerMAC)) || string(a.DstProtAddress) != string(asker4.AsSlice()) {
				t.Errorf("reply %+v", a)
			}
			if tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); (tag != nil) != (name == "tagged") || tag != nil && tag.VLANIdentifier != 77 {
				t.Errorf("VLAN tag %+v", tag)
			}
		})
	}
}

func TestARPOtherThanRequests(t *testing.T) {
	for name, c := range map[string]struct {
		b           []byte
		request, ok bool
	}{
		"a reply":                  {frameOf(t, frame.Broadcast, layers.EthernetTypeARP, arp(2)), false, true},
		"reverse ARP":              {frameOf(t, frame.Broadcast, layers.EthernetTypeARP, arp(3)), false, false},
		"no ARP at all":            {udp4Frame(t, ownerMAC, owner4, 10), false, false},
		"a request to one station": {frameOf(t, ownerMAC, layers.EthernetTypeARP, arp(1)), true, true}, // unicast probes are ordinary
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, request, ok := arpRequest(parsed(t, c.b)); request != c.request || ok != c.ok {
				t.Errorf("request %v, ok %v; want %v, %v", request, ok, c.request, c.ok)
			}
		})
	}
}

// udp4Frame is a datagram of n bytes from the asker.
func udp4Frame(t testing.TB, mac frame.MAC, dst netip.Addr, n int) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: asker4.AsSlice(), DstIP: dst.AsSlice()}
	udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return frameOf(t, mac, layers.EthernetTypeIPv4, ip, udp, gopacket.Payload(make([]byte, n)))
}

// udp6Frame is a datagram of n bytes from the asker.
func udp6Frame(t testing.TB, mac frame.MAC, dst netip.Addr, n int) []byte {
	t.Helper()
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: asker6.AsSlice(), DstIP: dst.AsSlice()}
	udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return frameOf(t, mac, layers.EthernetTypeIPv6, ip, udp, gopacket.Payload(make([]byte, n)))
}

// nd describes a neighbor message from the asker. Its zero value is a right solicitation without options.
type nd struct {
	advert   bool
	src, dst netip.Addr // asker6 and the target's multicast group if zero
	target   netip.Addr // owner6 if zero
	hops     byte       // 255 if 0
	code     byte
	flags    byte
	options  []byte
	tagged   bool
}

func (m nd) build(t testing.TB) []byte {
	t.Helper()
	for a, or := range map[*netip.Addr]netip.Addr{&m.src: asker6, &m.target: owner6, &m.dst: netip.MustParseAddr("ff02::1:ff00:2")} {
		if !a.IsValid() {
			*a = or
		}
	}
	if m.hops == 0 {
		m.hops = 255
	}
	kind := uint8(neighborSolicitation)
	if m.advert {
		kind = neighborAdvertisement
	}
	ip := &layers.IPv6{Version: 6, HopLimit: m.hops, NextHeader: layers.IPProtocolICMPv6, SrcIP: m.src.AsSlice(), DstIP: m.dst.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, m.code)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	body := append([]byte{m.flags, 0, 0, 0}, m.target.AsSlice()...)
	build := frameOf
	if m.tagged {
		build = taggedFrameOf
	}
	return build(t, 0x3333ff000002, layers.EthernetTypeIPv6, ip, icmp, gopacket.Payload(append(body, m.options...)))
}

// linkAddr is a link-layer address option.
func linkAddr(kind byte, m frame.MAC) []byte { return append([]byte{kind, 1}, hardware(m)...) }

func TestNeighborMessagesAreRead(t *testing.T) {
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	for name, c := range map[string]struct {
		m    nd
		kind uint8
		link frame.MAC
		ok   bool
	}{
		"a solicitation":                         {nd{options: linkAddr(1, askerMAC)}, 135, askerMAC, true},
		"a solicitation without options":         {nd{}, 135, 0, true},
		"one behind another option":              {nd{options: append(nonce, linkAddr(1, askerMAC)...)}, 135, askerMAC, true},
		"a search for a free address":            {nd{src: netip.IPv6Unspecified()}, 135, 0, true},
		"such a search with a link address":      {nd{src: netip.IPv6Unspecified(), options: linkAddr(1, askerMAC)}, 135, askerMAC, false},
		"an advertisement":                       {nd{advert: true, dst: owner6, flags: 0x60, options: linkAddr(2, askerMAC)}, 136, askerMAC, true},
		"an unsolicited one to all":              {nd{advert: true, flags: 0x20, options: linkAddr(2, askerMAC)}, 136, askerMAC, true},
		"one to all that claims to be solicited": {nd{advert: true, flags: 0x60, options: linkAddr(2, askerMAC)}, 136, askerMAC, false},
		"one with the option of the other kind":  {nd{advert: true, options: linkAddr(1, askerMAC)}, 136, 0, true},
		"a forwarded message":                    {nd{hops: 254}, 135, 0, false},
		"a code other than 0":                    {nd{code: 1}, 135, 0, false},
		"a multicast target":                     {nd{target: netip.MustParseAddr("ff02::1")}, 135, 0, false},
		"a message from a group":                 {nd{src: netip.MustParseAddr("ff02::9")}, 135, 0, false},
		"an option of no length":                 {nd{options: make([]byte, 8)}, 135, 0, false},
		"an option past the end":                 {nd{options: []byte{14, 2, 0, 0, 0, 0, 0, 0}}, 135, 0, false},
		"an option cut off":                      {nd{options: []byte{14}}, 135, 0, false},
		"a link address of sixteen bytes":        {nd{options: append([]byte{1, 2}, make([]byte, 14)...)}, 135, 0, false},
		"two link addresses":                     {nd{options: append(linkAddr(1, askerMAC), linkAddr(1, ownerMAC)...)}, 135, 0, false},
		"a link address of zeros":                {nd{options: linkAddr(1, 0)}, 135, 0, false},
		"a link address of a group":              {nd{options: linkAddr(1, frame.Broadcast)}, 135, 0, false},
		"a tagged solicitation":                  {nd{tagged: true}, 135, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			kind, src, target, link, ok := neighbor(parsed(t, c.m.build(t)))
			if kind != c.kind || link != c.link || ok != c.ok {
				t.Errorf("kind %d, link address %v, ok %v; want %d, %v, %v", kind, link, ok, c.kind, c.link, c.ok)
			}
			want := asker6
			if c.m.src.IsValid() {
				want = c.m.src
			}
			if ok && (src != want || target != owner6) {
				t.Errorf("from %v for %v, want %v for %v", src, target, want, owner6)
			}
		})
	}
	t.Run("a wrong checksum", func(t *testing.T) {
		b := nd{}.build(t)
		b[len(b)-1]++
		if kind, _, _, _, ok := neighbor(parsed(t, b)); kind != 135 || ok {
			t.Errorf("kind %d, ok %v; want 135, false", kind, ok)
		}
	})
	t.Run("a message cut off", func(t *testing.T) {
		b := nd{}.build(t)
		b = b[:len(b)-8]
		binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
		if kind, _, _, _, ok := neighbor(parsed(t, b)); kind != 135 || ok {
			t.Errorf("kind %d, ok %v; want 135, false", kind, ok)
		}
	})
	t.Run("a message in fragments", func(t *testing.T) {
		b := nd{}.build(t)
		b = append(append(bytes.Clone(b[:54]), 58, 0, 0, 1, 0, 0, 0, 9), b[54:]...)
		b[19], b[20] = b[19]+8, 44
		if kind, _, _, _, ok := neighbor(parsed(t, b)); kind != 135 || ok {
			t.Errorf("kind %d, ok %v; want 135, false", kind, ok)
		}
	})
	t.Run("no neighbor message at all", func(t *testing.T) {
		if kind, _, _, _, ok := neighbor(parsed(t, udp6Frame(t, ownerMAC, owner6, 9))); kind != 0 || ok {
			t.Errorf("kind %d, ok %v; want 0, false", kind, ok)
		}
	})
}

func TestSolicitationsAreAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		m      nd
		router bool
		flags  uint8
		dst    netip.Addr
		mac    frame.MAC
	}{
		"to who asks":                    {nd{}, false, 0x60, asker6, askerMAC},
		"by a router":                    {nd{}, true, 0xe0, asker6, askerMAC},
		"to all, if the asker is no one": {nd{src: netip.IPv6Unspecified()}, false, 0x20, netip.MustParseAddr("ff02::1"), allNodesMAC},
		"with the asker's VLAN tag":      {nd{tagged: true}, false, 0x60, asker6, askerMAC},
	} {
		t.Run(name, func(t *testing.T) {
			f := parsed(t, c.m.build(t))
			dst := make([]byte, replyLen)
			for i := range dst {
				dst[i] = 0xee // what an earlier answer left
			}
			n := neighborAdvert(dst, f, ownerMAC, c.router)
			p := decoded(t, dst[:n])
			checkEthernet(t, p, ownerMAC, c.mac)
			ip := p.NetworkLayer().(*layers.IPv6)
			if !ip.SrcIP.Equal(owner6.AsSlice()) || !ip.DstIP.Equal(c.dst.AsSlice()) || ip.HopLimit != 255 {
				t.Errorf("from %v to %v with hop limit %d, want %v to %v with 255", ip.SrcIP, ip.DstIP, ip.HopLimit, owner6, c.dst)
			}
			a := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
			if a.Flags != c.flags || !a.TargetAddress.Equal(owner6.AsSlice()) {
				t.Errorf("flags %#x, target %v; want %#x, %v", a.Flags, a.TargetAddress, c.flags, owner6)
			}
			if kind, _, _, link, ok := neighbor(parsed(t, dst[:n])); kind != neighborAdvertisement || link != ownerMAC || !ok {
				t.Errorf("read back: kind %d, link address %v, ok %v", kind, link, ok)
			}
		})
	}
}
