package capture

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// packet builds a frame from layers, with right lengths and checksums.
func packet(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		switch l := l.(type) {
		case *layers.IPv4:
			network = l
		case *layers.IPv6:
			network = l
		case *layers.TCP:
			must(t, l.SetNetworkLayerForChecksum(network))
		case *layers.UDP:
			must(t, l.SetNetworkLayerForChecksum(network))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return buf.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ether(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: []byte{2, 0x42, 10, 77, 0, 2}, DstMAC: []byte{2, 0x42, 10, 77, 0, 3}, EthernetType: kind}
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{10, 77, 0, 2}, DstIP: []byte{10, 77, 0, 3}}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	src, dst := netip.MustParseAddr("fd00:77::2"), netip.MustParseAddr("fd00:77::3")
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func tcp() *layers.TCP {
	return &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 1000, ACK: true, Window: 512}
}

func udp() *layers.UDP { return &layers.UDP{SrcPort: 40000, DstPort: 53} }

func tagged4(t testing.TB) []byte {
	return packet(t, ether(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeIPv4},
		ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("x"))
}

func extended6(t testing.TB) []byte {
	return packet(t, ether(layers.EthernetTypeIPv6), ip6(layers.IPProtocolIPv6Destination),
		gopacket.Payload(append([]byte{17, 0, 1, 4, 0, 0, 0, 0}, 0x9c, 0x40, 0, 53, 0, 8, 0, 0)))
}

func arp(t testing.TB) []byte {
	return packet(t, ether(layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: []byte{2, 0x42, 10, 77, 0, 2}, SourceProtAddress: []byte{10, 77, 0, 2},
		DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 77, 0, 3},
	})
}

func TestFilterSelectsByAddressAndPortInEitherDirection(t *testing.T) {
	tcp4 := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
	udp6 := packet(t, ether(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP), udp(), gopacket.Payload("hello"))
	fragment := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(), gopacket.Payload("hello"))
	fragment[20+1] = 1 // fragment offset 8: what looks like ports is payload
	for _, c := range []struct {
		name  string
		frame []byte
		net   string
		port  uint16
		want  bool
	}{
		{"nothing asked for, nothing to read", nil, "", 0, true},
		{"IPv4 source", tcp4, "10.77.0.2/32", 0, true},
		{"IPv4 destination", tcp4, "10.77.0.3/32", 0, true},
		{"another host", tcp4, "10.77.0.4/32", 0, false},
		{"subnet", tcp4, "10.77.0.0/24", 0, true},
		{"another subnet", tcp4, "10.78.0.0/24", 0, false},
		{"IPv6 subnet for an IPv4 packet", tcp4, "fd00:77::/64", 0, false},
		{"source port", tcp4, "", 40000, true},
		{"destination port", tcp4, "", 80, true},
		{"another port", tcp4, "", 81, false},
		{"host and port", tcp4, "10.77.0.2/32", 80, true},
		{"host but another port", tcp4, "10.77.0.2/32", 81, false},
		{"IPv6 host and port", udp6, "fd00:77::3/128", 53, true},
		{"another IPv6 host", udp6, "fd00:77::4/128", 0, false},
		{"port behind an IPv6 extension header", extended6(t), "", 53, true},
		{"host behind a VLAN tag", tagged4(t), "10.77.0.2/32", 80, true},
		{"ARP sender", arp(t), "10.77.0.2/32", 0, true},
		{"ARP target", arp(t), "10.77.0.3/32", 0, true},
		{"ARP has no port", arp(t), "", 80, false},
		{"a later fragment has no port", fragment, "", 53, false},
		{"a later fragment has addresses", fragment, "10.77.0.2/32", 0, true},
		{"a frame cut off in its addresses", tcp4[:32], "10.77.0.2/32", 0, false},
		{"a frame cut off in its ports", tcp4[:36], "", 80, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Filter{Port: c.port}
			if c.net != "" {
				f.Net = netip.MustParsePrefix(c.net)
			}
			if got := f.matches([][]byte{c.frame}); got != c.want {
				t.Errorf("whole: got %v, expected %v", got, c.want)
			}
			for at := range len(c.frame) {
				if got := f.matches([][]byte{c.frame[:at], c.frame[at:]}); got != c.want {
					t.Fatalf("in two parts, split at %d: got %v, expected %v", at, got, c.want)
				}
			}
		})
	}
}

func FuzzFilter(f *testing.F) {
	for _, b := range [][]byte{tagged4(f), extended6(f), arp(f)} {
		f.Add(b, uint8(20))
	}
	loop := extended6(f)
	binary.BigEndian.PutUint16(loop[14+40:], 60<<8) // a destination header that names another, to the end
	f.Add(loop, uint8(0))
	filter := Filter{Net: netip.MustParsePrefix("10.77.0.0/24"), Port: 80}
	f.Fuzz(func(t *testing.T, b []byte, at uint8) {
		n := min(int(at), len(b))
		if whole, parts := filter.matches([][]byte{b}), filter.matches([][]byte{b[:n], b[n:]}); whole != parts && len(b) <= window {
			t.Fatalf("whole %v, in parts %v", whole, parts)
		}
	})
}
