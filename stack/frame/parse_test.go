package frame

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

// edit returns a copy of b changed by the function.
func edit(b []byte, change func(b []byte)) []byte {
	b = bytes.Clone(b)
	change(b)
	return b
}

// fragmentOf is an IPv6 fragment header.
func fragmentOf(offset uint16, more bool) extension {
	b := []byte{0, byte(offset >> 5), byte(offset << 3), 0, 0, 0, 9}
	if more {
		b[2] |= 1
	}
	return extension{extFragment, b}
}

func TestParseFindsHeaders(t *testing.T) {
	data := make([]byte, 40)
	tcp4 := packet{payload: data}.build()
	long := extension{extDestination, append([]byte{1}, make([]byte, 14)...)}
	arp := append(edit(tcp4[:14], func(b []byte) { put16(b[12:], EtherARP) }),
		append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20)...)...)
	for name, c := range map[string]struct {
		b        []byte
		ether    uint16
		proto    uint8
		tagged   bool
		fragment bool
		l3, l4   uint16
		payload  uint16
		end      int
	}{
		"TCP over IPv4":                  {tcp4, EtherIPv4, ProtoTCP, false, false, 14, 34, 54, 94},
		"TCP options":                    {packet{tcpOptions: timestamps}.build(), EtherIPv4, ProtoTCP, false, false, 14, 34, 66, 66},
		"IPv4 options":                   {packet{options: make([]byte, 8)}.build(), EtherIPv4, ProtoTCP, false, false, 14, 42, 62, 62},
		"Ethernet padding":               {append(packet{}.build(), 0, 0, 0, 0, 0, 0), EtherIPv4, ProtoTCP, false, false, 14, 34, 54, 54},
		"one VLAN tag":                   {packet{tags: []uint16{EtherVLAN}}.build(), EtherIPv4, ProtoTCP, true, false, 18, 38, 58, 58},
		"two VLAN tags":                  {packet{tags: []uint16{EtherQinQ, EtherVLAN}}.build(), EtherIPv4, ProtoTCP, true, false, 22, 42, 62, 62},
		"UDP":                            {packet{proto: ProtoUDP, payload: data}.build(), EtherIPv4, ProtoUDP, false, false, 14, 34, 42, 82},
		"SCTP":                           {packet{proto: ProtoSCTP}.build(), EtherIPv4, ProtoSCTP, false, false, 14, 34, 46, 46},
		"ICMP":                           {packet{proto: ProtoICMP}.build(), EtherIPv4, ProtoICMP, false, false, 14, 34, 42, 42},
		"GRE has no L4":                  {packet{proto: 47, payload: data}.build(), EtherIPv4, 47, false, false, 14, 0, 0, 74},
		"a first fragment has an L4":     {edit(tcp4, func(b []byte) { b[20] = 0x20 }), EtherIPv4, ProtoTCP, false, true, 14, 34, 54, 94},
		"a UDP first fragment":           {edit(packet{proto: ProtoUDP, payload: data}.build(), func(b []byte) { b[20], b[39] = 0x20, 200 }), EtherIPv4, ProtoUDP, false, true, 14, 34, 42, 82},
		"a later fragment has none":      {edit(tcp4, func(b []byte) { b[21] = 1 }), EtherIPv4, 0, false, true, 14, 0, 0, 94},
		"TCP over IPv6":                  {packet{v6: true}.build(), EtherIPv6, ProtoTCP, false, false, 14, 54, 74, 74},
		"ICMPv6":                         {packet{v6: true, proto: ProtoICMPv6}.build(), EtherIPv6, ProtoICMPv6, false, false, 14, 54, 62, 62},
		"ICMPv4 inside IPv6 is not ICMP": {packet{v6: true, proto: ProtoICMP}.build(), EtherIPv6, ProtoICMP, false, false, 14, 0, 0, 62},
		"IPv6 extension headers":         {packet{v6: true, extensions: []extension{hopByHop, long}}.build(), EtherIPv6, ProtoTCP, false, false, 14, 78, 98, 98},
		"an IPv6 first fragment":         {packet{v6: true, extensions: []extension{fragmentOf(0, true)}}.build(), EtherIPv6, ProtoTCP, false, true, 14, 62, 82, 82},
		"an IPv6 later fragment":         {packet{v6: true, extensions: []extension{fragmentOf(7, false)}}.build(), EtherIPv6, 0, false, true, 14, 0, 0, 82},
		"ARP with padding":               {append(arp, make([]byte, 18)...), EtherARP, 0, false, false, 14, 0, 0, 42},
		"an unknown EtherType":           {edit(tcp4, func(b []byte) { put16(b[12:], 0x88cc) }), 0x88cc, 0, false, false, 14, 0, 0, 94},
	} {
		t.Run(name, func(t *testing.T) {
			f := wire(t, c.b)
			if f.Ether != c.ether || f.Proto != c.proto || f.Tagged != c.tagged || f.Fragment != c.fragment {
				t.Errorf("ether %#x proto %d tagged %v fragment %v; want %#x %d %v %v",
					f.Ether, f.Proto, f.Tagged, f.Fragment, c.ether, c.proto, c.tagged, c.fragment)
			}
			if f.L3 != c.l3 || f.L4 != c.l4 || f.Payload != c.payload || f.End != c.end {
				t.Errorf("L3 %d L4 %d payload %d end %d; want %d %d %d %d",
					f.L3, f.L4, f.Payload, f.End, c.l3, c.l4, c.payload, c.end)
			}
			if f.Hash == 0 {
				t.Error("the flow hash is 0")
			}
		})
	}
}

func TestParseNamesTheLayerThatContradictsItself(t *testing.T) {
	tcp4, tcp6 := packet{payload: make([]byte, 8)}.build(), packet{v6: true}.build()
	udp, sctp := packet{proto: ProtoUDP}.build(), packet{proto: ProtoSCTP}.build()
	shorter := func(b []byte, n int) []byte { // cut, with an IPv4 total length that agrees
		return edit(b[:len(b)-n], func(b []byte) { put16(b[16:], uint16(len(b)-14)) })
	}
	nine := make([]extension, 9)
	for i := range nine {
		nine[i] = extension{extDestination, make([]byte, 7)}
	}
	for name, c := range map[string]struct {
		b    []byte
		want drop.Reason
	}{
		"no frame at all":                   {nil, drop.BadEthernet},
		"an Ethernet header cut off":        {tcp4[:13], drop.BadEthernet},
		"a VLAN tag cut off":                {packet{tags: []uint16{EtherVLAN}}.build()[:17], drop.BadEthernet},
		"three VLAN tags":                   {packet{tags: []uint16{EtherQinQ, EtherVLAN, EtherVLAN}}.build(), drop.BadEthernet},
		"longer than any frame":             {make([]byte, MaxLen+1), drop.TooLarge},
		"ARP cut off":                       {append(edit(tcp4[:14], func(b []byte) { put16(b[12:], EtherARP) }), 0, 1, 8, 0, 6, 4), drop.BadARP},
		"ARP for another network":           {edit(tcp4, func(b []byte) { put16(b[12:], EtherARP) }), drop.BadARP},
		"an IPv4 header cut off":            {tcp4[:33], drop.BadIPv4},
		"IPv4 of version 5":                 {edit(tcp4, func(b []byte) { b[14] = 0x55 }), drop.BadIPv4},
		"an IPv4 header of 16 bytes":        {edit(tcp4, func(b []byte) { b[14] = 0x44 }), drop.BadIPv4},
		"IPv4 options past the total":       {edit(tcp4, func(b []byte) { b[14] = 0x4f }), drop.BadIPv4},
		"an IPv4 total past the frame":      {tcp4[:len(tcp4)-1], drop.BadIPv4},
		"an IPv6 header cut off":            {tcp6[:53], drop.BadIPv6},
		"IPv6 of version 4":                 {edit(tcp6, func(b []byte) { b[14] = 0x40 }), drop.BadIPv6},
		"an IPv6 length past the frame":     {tcp6[:len(tcp6)-1], drop.BadIPv6},
		"an IPv6 extension past the end":    {packet{v6: true, extensions: []extension{{extDestination, append([]byte{9}, make([]byte, 6)...)}}}.build(), drop.BadIPv6},
		"nine IPv6 extensions":              {packet{v6: true, extensions: nine}.build(), drop.BadIPv6},
		"an IPv6 fragment of a fragment":    {packet{v6: true, extensions: []extension{fragmentOf(0, true), fragmentOf(0, true)}}.build(), drop.BadIPv6},
		"a TCP header cut off":              {shorter(tcp4, 9), drop.BadTCP},
		"a TCP data offset of 16":           {edit(tcp4, func(b []byte) { b[46] = 0x40 }), drop.BadTCP},
		"a TCP data offset past the packet": {edit(tcp4, func(b []byte) { b[46] = 0xf0 }), drop.BadTCP},
		"a UDP header cut off":              {shorter(udp, 1), drop.BadUDP},
		"a UDP length of 7":                 {edit(udp, func(b []byte) { b[39] = 7 }), drop.BadUDP},
		"a UDP length past the packet":      {edit(udp, func(b []byte) { b[39] = 9 }), drop.BadUDP},
		"an SCTP header cut off":            {shorter(sctp, 1), drop.BadSCTP},
		"an ICMP header cut off":            {shorter(packet{proto: ProtoICMP}.build(), 1), drop.BadICMP},
	} {
		t.Run(name, func(t *testing.T) {
			if r := view(c.b).Parse(); r != c.want {
				t.Errorf("Parse = %v, want %v", r, c.want)
			}
		})
	}
}

func TestParseRefusesAnOffloadThatLies(t *testing.T) {
	tcp4, udp6 := packet{payload: make([]byte, 100)}, packet{v6: true, proto: ProtoUDP, payload: make([]byte, 100)}
	tcp := Offload{GSO: GSOTCP4, Checksum: Partial, Size: 50, Start: 34, Offset: 16}
	gre := packet{proto: 47, payload: make([]byte, 100)}
	with := func(o Offload, change func(*Offload)) Offload { change(&o); return o }
	plain := func(start, offset uint16) Offload { return Offload{Checksum: Partial, Start: start, Offset: offset} }
	for name, c := range map[string]struct {
		b    []byte
		o    Offload
		want drop.Reason
	}{
		"a right TCP superframe":                 {tcp4.build(), tcp, drop.None},
		"a right UDP superframe":                 {udp6.build(), Offload{GSO: GSOUDP, Checksum: Partial, Size: 50, Start: 54, Offset: 6}, drop.None},
		"segments of no size":                    {tcp4.build(), with(tcp, func(o *Offload) { o.Size = 0 }), drop.BadOffload},
		"TCPv6 over IPv4":                        {tcp4.build(), with(tcp, func(o *Offload) { o.GSO = GSOTCP6 }), drop.BadOffload},
		"UDP segmentation of TCP":                {tcp4.build(), with(tcp, func(o *Offload) { o.GSO = GSOUDP }), drop.BadOffload},
		"an unknown kind of segmentation":        {tcp4.build(), with(tcp, func(o *Offload) { o.GSO = 9 }), drop.BadOffload},
		"a superframe with a finished checksum":  {tcp4.build(), with(tcp, func(o *Offload) { o.Checksum = Verified }), drop.BadOffload},
		"a superframe that sums from elsewhere":  {tcp4.build(), with(tcp, func(o *Offload) { o.Start = 54 }), drop.BadOffload},
		"a superframe with the sum at elsewhere": {tcp4.build(), with(tcp, func(o *Offload) { o.Offset = 0 }), drop.BadOffload},
		"a superframe that is a fragment":        {edit(tcp4.build(), func(b []byte) { b[20] = 0x20 }), tcp, drop.BadOffload},
		"a UDP superframe longer than it says":   {edit(udp6.build(), func(b []byte) { b[59]-- }), Offload{GSO: GSOUDP, Checksum: Partial, Size: 50, Start: 54, Offset: 6}, drop.BadOffload},
		"a right TCP checksum owed":              {tcp4.build(), plain(34, 16), drop.None},
		"a right inner checksum owed":            {udp6.build(), plain(100, 16), drop.None},
		"a checksum over GRE's payload":          {gre.build(), plain(60, 16), drop.None},
		"a checksum into the MAC addresses":      {tcp4.build(), plain(0, 6), drop.BadOffload},
		"a checksum into the IPv4 source":        {tcp4.build(), plain(14, 12), drop.BadOffload},
		"a checksum into GRE's IPv4 source":      {gre.build(), plain(14, 12), drop.BadOffload},
		"a checksum into the TCP ports":          {tcp4.build(), plain(34, 0), drop.BadOffload},
		"a checksum that starts amid the header": {tcp4.build(), plain(38, 16), drop.BadOffload},
		"a checksum that starts past the end":    {tcp4.build(), plain(60000, 16), drop.BadOffload},
		"a checksum just past the end":           {tcp4.build(), plain(54, 99), drop.BadOffload},
		"an internet checksum for SCTP":          {packet{proto: ProtoSCTP, payload: make([]byte, 20)}.build(), plain(34, 8), drop.BadOffload},
		"a checksum owed by a fragment":          {edit(tcp4.build(), func(b []byte) { b[20] = 0x20 }), plain(34, 16), drop.BadOffload},
		"a checksum into the ARP sender's address": {append(edit(tcp4.build()[:14], func(b []byte) { put16(b[12:], EtherARP) }),
			append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 40)...)...), plain(14, 8), drop.BadOffload},
	} {
		t.Run(name, func(t *testing.T) {
			f := view(c.b)
			f.Offload = c.o
			if r := f.Parse(); r != c.want {
				t.Errorf("Parse = %v, want %v", r, c.want)
			}
		})
	}
}

func TestHashIsOneForAFlowAndAnotherForTheNext(t *testing.T) {
	hash := func(p packet) uint32 { return wire(t, p.build()).Hash }
	for _, v6 := range []bool{false, true} {
		base := packet{v6: v6, proto: ProtoUDP}
		other, longer := base, base
		other.port, longer.payload = 1, make([]byte, 50)
		if hash(base) != hash(longer) {
			t.Error("two datagrams of one flow have different hashes")
		}
		if hash(base) == hash(other) {
			t.Error("flows of different ports have one hash")
		}
		other.port, other.client = 0, 9
		if hash(base) == hash(other) {
			t.Error("flows of different addresses have one hash")
		}
	}
	first, later := packet{v6: true, extensions: []extension{fragmentOf(0, true)}}, packet{v6: true, extensions: []extension{fragmentOf(7, false)}}
	if hash(first) != hash(later) {
		t.Error("fragments of one IPv6 packet have different hashes")
	}
	b := packet{payload: make([]byte, 40)}.build()
	f1, f2 := edit(b, func(b []byte) { b[20] = 0x20 }), edit(b, func(b []byte) { b[21] = 9; b[34] = 77 })
	if wire(t, f1).Hash != wire(t, f2).Hash {
		t.Error("fragments of one IPv4 packet have different hashes")
	}
}

func TestAddressesOfFrames(t *testing.T) {
	for name, c := range map[string]struct {
		b        []byte
		src, dst netip.Addr
	}{
		"IPv4":         {packet{}.build(), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
		"tagged IPv6":  {packet{v6: true, tags: []uint16{EtherVLAN}}.build(), netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd01::2")},
		"no IP at all": {edit(packet{}.build(), func(b []byte) { put16(b[12:], 0x88cc) }), netip.Addr{}, netip.Addr{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := wire(t, c.b)
			if f.SrcAddr() != c.src || f.DstAddr() != c.dst {
				t.Errorf("from %v to %v, want %v to %v", f.SrcAddr(), f.DstAddr(), c.src, c.dst)
			}
		})
	}
}

// FuzzParse feeds a virtio_net_hdr and the frame behind it to all that looks at a received frame.
func FuzzParse(f *testing.F) {
	vnet := func(o Offload, b []byte) []byte {
		h := make([]byte, OffloadLen)
		o.Marshal(h)
		return append(h, b...)
	}
	for _, p := range []packet{
		{}, {v6: true}, {proto: ProtoUDP}, {v6: true, proto: ProtoICMPv6}, {tags: []uint16{EtherQinQ, EtherVLAN}},
		{v6: true, extensions: []extension{hopByHop, fragmentOf(0, true)}}, {options: make([]byte, 8), proto: ProtoSCTP},
	} {
		p.payload = make([]byte, 30)
		f.Add(vnet(Offload{}, p.build()), 100)
	}
	f.Add(vnet(Offload{GSO: GSOTCP4, Checksum: Partial, Size: 10, Start: 34, Offset: 16}, packet{payload: make([]byte, 99)}.build()), 80)
	f.Add(vnet(Offload{GSO: GSOUDP, Checksum: Partial, Size: 10, Start: 34, Offset: 6},
		packet{proto: ProtoUDP, payload: make([]byte, 99)}.build()), 80)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		var o Offload
		if r := o.Unmarshal(b); r != drop.None {
			return
		}
		fr := view(b[OffloadLen:])
		fr.Offload = o
		if fr.Parse() != drop.None {
			return
		}
		if fr.End > fr.Len() || int(fr.Payload) > fr.End || fr.L4 > fr.Payload || fr.L4 != 0 && fr.L4 < fr.L3 {
			t.Fatalf("offsets out of order: %+v", fr)
		}
		src, dst := fr.SrcAddr(), fr.DstAddr()
		fr.Verify()
		fr.Complete()
		if space := CutSpace(fr, mtu, 8); space < 1<<20 {
			segs, used, r := Cut(fr, mtu, make([]byte, 8), make([]byte, space), nil)
			if r == drop.None && used != space {
				t.Fatalf("Cut used %d bytes, CutSpace said %d", used, space)
			}
			for _, s := range segs {
				if n := len(s.Header) - 8 - int(fr.L3) + len(s.Payload); n > mtu {
					t.Fatalf("a packet of %d bytes, mtu %d", n, mtu)
				}
			}
		}
		if fr.Infer(mtu) == drop.None && fr.Parse() == drop.None && (fr.SrcAddr() != src || fr.DstAddr() != dst) {
			t.Fatalf("addresses changed from %v, %v to %v, %v", src, dst, fr.SrcAddr(), fr.DstAddr())
		}
	})
}

func TestParseDoesNotAllocate(t *testing.T) {
	f := packet{tcpOptions: timestamps, payload: make([]byte, 1000)}.super(t, 500)
	if n := testing.AllocsPerRun(100, func() { f.Parse() }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, p := range map[string]packet{
		"tcp4": {tcpOptions: timestamps}, "tcp6": {v6: true, tcpOptions: timestamps}, "udp4": {proto: ProtoUDP},
	} {
		f := wire(b, p.build())
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Parse()
			}
		})
	}
}
