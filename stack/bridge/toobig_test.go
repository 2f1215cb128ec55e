package bridge

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

const gwMAC = frame.MAC(0x02420a0000fe)

func TestSendersOfTooBigPacketsAreTold(t *testing.T) {
	four, six := udp4Frame(t, ownerMAC, owner4, 1500), udp6Frame(t, ownerMAC, owner6, 1500)
	tag := func(b []byte) []byte { return append(append(bytes.Clone(b[:12]), 0x81, 0, 0, 77), b[12:]...) }
	for name, c := range map[string]struct {
		b      []byte
		quoted int
	}{
		"IPv4":                {four, 576 - 28},
		"a short IPv4 packet": {udp4Frame(t, ownerMAC, owner4, 2), 30},
		"tagged IPv4":         {tag(four), 576 - 28},
		"IPv6":                {six, 1280 - 48},
		"tagged IPv6":         {tag(six), 1280 - 48 - 4}, // the reply buffer is as long as the longest untagged answer
		"IPv6 to a group":     {udp6Frame(t, 0x333300000005, netip.MustParseAddr("ff02::5"), 1500), 1280 - 48},
	} {
		t.Run(name, func(t *testing.T) {
			f := parsed(t, c.b)
			dst := bytes.Repeat([]byte{0xee}, 1280+14)
			n := packetTooBig(dst, f, 1400, gwMAC, gw4, gw6)
			if n == 0 {
				t.Fatal("no message")
			}
			p := decoded(t, dst[:n])
			checkEthernet(t, p, gwMAC, askerMAC)
			var mtu int
			var rest []byte
			if ip, ok := p.NetworkLayer().(*layers.IPv4); ok {
				if !ip.SrcIP.Equal(gw4.AsSlice()) || !ip.DstIP.Equal(asker4.AsSlice()) {
					t.Errorf("from %v to %v", ip.SrcIP, ip.DstIP)
				}
				m := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
				if m.TypeCode != layers.CreateICMPv4TypeCode(3, 4) {
					t.Errorf("type %v, want fragmentation needed", m.TypeCode)
				}
				mtu, rest = int(m.Seq), m.Payload
			} else {
				ip := p.NetworkLayer().(*layers.IPv6)
				if !ip.SrcIP.Equal(gw6.AsSlice()) || !ip.DstIP.Equal(asker6.AsSlice()) {
					t.Errorf("from %v to %v", ip.SrcIP, ip.DstIP)
				}
				m := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
				if m.TypeCode.Type() != layers.ICMPv6TypePacketTooBig {
					t.Errorf("type %v, want packet too big", m.TypeCode)
				}
				mtu, rest = int(binary.BigEndian.Uint32(m.Payload)), m.Payload[4:]
			}
			if mtu != 1400 {
				t.Errorf("mtu %d, want 1400", mtu)
			}
			if want := f.Bytes()[f.L3:][:c.quoted]; !bytes.Equal(rest, want) {
				t.Errorf("%d bytes quoted, want the packet's first %d", len(rest), c.quoted)
			}
		})
	}
}

func TestNobodyIsToldOfWhatNobodyMayBeTold(t *testing.T) {
	four, six := udp4Frame(t, ownerMAC, owner4, 100), udp6Frame(t, ownerMAC, owner6, 100)
	edit := func(b []byte, change func(b []byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return b
	}
	icmp4 := func(kind byte) []byte { return edit(four, func(b []byte) { b[23], b[34] = 1, kind }) }
	icmp6 := func(kind byte) []byte { return edit(six, func(b []byte) { b[20], b[54] = 58, kind }) }
	for name, c := range map[string]struct {
		b    []byte
		told bool
	}{
		"an IPv4 packet":            {four, true},
		"an IPv4 echo request":      {icmp4(8), true},
		"an ICMP error":             {icmp4(3), false},
		"an ICMP redirect":          {icmp4(5), false},
		"an IPv4 first fragment":    {edit(four, func(b []byte) { b[20] = 0x20 }), true},
		"an IPv4 later fragment":    {edit(four, func(b []byte) { b[21] = 8 }), false},
		"IPv4 to a group":           {edit(four, func(b []byte) { b[30] = 224 }), false},
		"IPv4 to all":               {edit(four, func(b []byte) { copy(b[30:], "\xff\xff\xff\xff") }), false},
		"IPv4 in a broadcast frame": {edit(four, func(b []byte) { copy(b, "\xff\xff\xff\xff\xff\xff") }), false},
		"IPv4 from no address":      {edit(four, func(b []byte) { copy(b[26:], "\x00\x00\x00\x00") }), false},
		"IPv4 from a group":         {edit(four, func(b []byte) { b[26] = 224 }), false},
		"IPv4 from a group's MAC":   {edit(four, func(b []byte) { b[6] |= 1 }), false},
		"an IPv6 packet":            {six, true},
		"an IPv6 echo request":      {icmp6(128), true},
		"an ICMPv6 error":           {icmp6(1), false},
		"an ICMPv6 redirect":        {icmp6(137), false},
		"IPv6 from no address":      {edit(six, func(b []byte) { clear(b[22:38]) }), false},
		"IPv6 from a group":         {edit(six, func(b []byte) { b[22] = 0xff }), false},
		"an IPv6 later fragment":    {edit(six, func(b []byte) { b[20], b[56], b[57] = 44, 0, 8 }), false},
		"a frame that is no IP":     {edit(four, func(b []byte) { b[12] = 0x99 }), false},
	} {
		t.Run(name, func(t *testing.T) {
			dst := make([]byte, replyLen)
			if n := packetTooBig(dst, parsed(t, c.b), 1400, gwMAC, gw4, gw6); n > 0 != c.told {
				t.Errorf("a message of %d bytes, told should be %v", n, c.told)
			}
			if n := packetTooBig(dst, parsed(t, c.b), 1400, gwMAC, netip.Addr{}, netip.Addr{}); n != 0 {
				t.Errorf("a message of %d bytes from a gateway without address", n)
			}
		})
	}
}

func TestAnsweringDoesNotAllocate(t *testing.T) {
	dst := make([]byte, replyLen)
	request := parsed(t, frameOf(t, frame.Broadcast, layers.EthernetTypeARP, arp(1)))
	solicitation := parsed(t, nd{options: linkAddr(1, askerMAC)}.build(t))
	big := parsed(t, udp6Frame(t, ownerMAC, owner6, 1500))
	if n := testing.AllocsPerRun(100, func() {
		arpRequest(request)
		arpReply(dst, request, ownerMAC)
		neighbor(solicitation)
		neighborAdvert(dst, solicitation, ownerMAC, true)
		packetTooBig(dst, big, 1400, gwMAC, gw4, gw6)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// readAny is a Frame of b if the frame code finds nothing wrong with it.
func readAny(b []byte) (*frame.Frame, bool) {
	f := new(frame.Frame)
	f.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
	return f, f.Parse() == drop.None
}
