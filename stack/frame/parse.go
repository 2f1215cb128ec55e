package frame

import (
	"encoding/binary"
	"math/bits"

	"github.com/weftnet/weft/stack/drop"
)

// Lengths of fixed headers, and bounds on what a frame may make us walk.
const (
	etherLen = 14
	tagLen   = 4
	arpLen   = 28
	ipv4Len  = 20
	ipv6Len  = 40
	tcpLen   = 20
	udpLen   = 8
	sctpLen  = 12
	icmpLen  = 8

	maxTags       = 2 // 802.1ad outside, 802.1Q inside
	maxExtensions = 8 // RFC 8200 §4.1 recommends seven at most
)

// Next-header values of the IPv6 extension headers that Parse walks (RFC 8200 §4).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60
)

// Where the checksum stands in each transport header.
const (
	tcpCheck  = 16
	udpCheck  = 6
	icmpCheck = 2
)

// Parse finds the headers of the frame and checks that they, and the Offload, describe the bytes that are there. It keeps
// nothing from an earlier Parse, so a rewritten frame is parsed again. Unknown EtherTypes and protocols are not faults:
// the frame has then no L3 or L4 worth looking at, and is switched by its MAC addresses alone.
func (f *Frame) Parse() drop.Reason {
	b := f.buf[f.head:]
	if len(b) < etherLen {
		return drop.BadEthernet
	}
	if len(b) > MaxLen {
		return drop.TooLarge
	}
	f.Proto, f.Tagged, f.Fragment, f.routed = 0, false, false, false
	f.L4, f.Payload = 0, 0
	ether, l3 := binary.BigEndian.Uint16(b[12:]), etherLen
	if ether == EtherVLAN || ether == EtherQinQ {
		if ether, l3 = skipTags(b); l3 == 0 {
			return drop.BadEthernet
		}
		f.Tagged = true
	}
	f.Ether, f.L3, f.End = ether, uint16(l3), len(b)

	var r drop.Reason
	switch ether {
	case EtherIPv4:
		r = f.parseIPv4(b, l3)
	case EtherIPv6:
		r = f.parseIPv6(b, l3)
	case EtherARP:
		r = f.parseARP(b, l3)
	default:
		f.Hash = hashMACs(b)
	}
	if r == drop.None && (f.GSO != GSONone || f.Checksum == Partial) {
		r = f.checkOffload(b)
	}
	return r
}

// skipTags returns the EtherType behind the VLAN tags and the offset of what follows it; offset 0 means that a tag is cut
// off, or that there are more than IEEE 802.1ad knows (which would hide an IP packet from the checks on its source).
func skipTags(b []byte) (ether uint16, l3 int) {
	l3 = etherLen
	for range maxTags {
		if len(b) < l3+tagLen {
			return 0, 0
		}
		ether = binary.BigEndian.Uint16(b[l3+2:])
		l3 += tagLen
		if ether != EtherVLAN && ether != EtherQinQ {
			return ether, l3
		}
	}
	return 0, 0
}

// parseARP accepts Ethernet/IPv4 packets only (RFC 826); nothing else is spoken on an overlay network.
func (f *Frame) parseARP(b []byte, l3 int) drop.Reason {
	const ethernetIPv4 = 0x0001_0800_0604 // hardware and protocol space, then the two address lengths
	if len(b) < l3+arpLen || binary.BigEndian.Uint64(b[l3:])>>16 != ethernetIPv4 {
		return drop.BadARP
	}
	f.End = l3 + arpLen
	f.Hash = hashMACs(b)
	return drop.None
}

func (f *Frame) parseIPv4(b []byte, l3 int) drop.Reason {
	if len(b) < l3+ipv4Len {
		return drop.BadIPv4
	}
	h := b[l3 : l3+ipv4Len : l3+ipv4Len]
	length, total := int(h[0]&15)*4, int(binary.BigEndian.Uint16(h[2:]))
	if h[0]>>4 != 4 || length < ipv4Len || total < length || l3+total > len(b) {
		return drop.BadIPv4
	}
	f.End = l3 + total
	proto := h[9]
	seed := mix(binary.BigEndian.Uint64(h[12:]), uint64(proto))
	if frag := binary.BigEndian.Uint16(h[6:]); frag&0x3fff != 0 { // more fragments, or an offset
		f.Fragment = true
		f.Hash = fold(seed)
		if frag&0x1fff != 0 {
			return drop.None
		}
	}
	return f.parseTransport(b, l3+length, proto, seed)
}

func (f *Frame) parseIPv6(b []byte, l3 int) drop.Reason {
	if len(b) < l3+ipv6Len {
		return drop.BadIPv6
	}
	h := b[l3 : l3+ipv6Len : l3+ipv6Len]
	end := l3 + ipv6Len + int(binary.BigEndian.Uint16(h[4:]))
	if h[0]>>4 != 6 || end > len(b) {
		return drop.BadIPv6
	}
	f.End = end
	addrs := mix(binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:])) +
		mix(binary.BigEndian.Uint64(h[24:]), binary.BigEndian.Uint64(h[32:]))
	proto, l4 := h[6], l3+ipv6Len
	if proto == ProtoTCP || proto == ProtoUDP {
		return f.parseTransport(b, l4, proto, mix(addrs, uint64(proto)))
	}
	return f.parseExtensions(b, l4, proto, addrs)
}

// parseExtensions walks the IPv6 extension headers from offset at on. A first fragment must hold them all (RFC 7112).
func (f *Frame) parseExtensions(b []byte, at int, next uint8, addrs uint64) drop.Reason {
	b = b[:f.End]
	first := next // the protocol that all fragments of a packet agree on
	for range maxExtensions {
		switch next {
		case extHopByHop, extRouting, extDestination:
			if len(b) < at+8 {
				return drop.BadIPv6
			}
			if next == extRouting && b[at+3] != 0 { // segments left
				f.routed = true
			}
			next, at = b[at], at+8+int(b[at+1])*8
			if at > len(b) {
				return drop.BadIPv6
			}
			if !f.Fragment {
				first = next
			}
		case extFragment:
			if len(b) < at+8 || f.Fragment {
				return drop.BadIPv6
			}
			f.Fragment = true
			first = b[at]
			f.Hash = fold(mix(addrs, uint64(first)))
			if binary.BigEndian.Uint16(b[at+2:])&^7 != 0 {
				return drop.None
			}
			next, at = first, at+8
		default:
			return f.parseTransport(b, at, next, mix(addrs, uint64(first)))
		}
	}
	return drop.BadIPv6
}

// parseTransport reads the transport header at l4. Of a first fragment only the header must be there, not what its length
// fields promise. seed hashes the addresses and the protocol.
func (f *Frame) parseTransport(b []byte, l4 int, proto uint8, seed uint64) drop.Reason {
	b = b[:f.End]
	f.Proto = proto
	room := len(b) - l4
	var header int
	switch {
	case proto == ProtoTCP:
		if room < tcpLen {
			return drop.BadTCP
		}
		header = int(b[l4+12]>>4) * 4
		if header < tcpLen || header > room {
			return drop.BadTCP
		}
	case proto == ProtoUDP:
		if room < udpLen {
			return drop.BadUDP
		}
		n := int(binary.BigEndian.Uint16(b[l4+4:]))
		if n < udpLen || n > room && !f.Fragment {
			return drop.BadUDP
		}
		header = udpLen
	case proto == ProtoSCTP:
		if room < sctpLen {
			return drop.BadSCTP
		}
		header = sctpLen
	case proto == ProtoICMP && f.Ether == EtherIPv4, proto == ProtoICMPv6 && f.Ether == EtherIPv6:
		if room < icmpLen {
			return drop.BadICMP
		}
		f.L4, f.Payload = uint16(l4), uint16(l4+icmpLen)
		f.Hash = fold(seed)
		return drop.None
	default:
		f.Hash = fold(seed)
		return drop.None
	}
	f.L4, f.Payload = uint16(l4), uint16(l4+header)
	if !f.Fragment { // fragments have their hash already, without the ports that only the first one shows
		f.Hash = fold(mix(seed, uint64(binary.BigEndian.Uint32(b[l4:]))))
	}
	return drop.None
}

// checkOffload holds the Offload against the headers. It comes from a container, and what it says is acted upon: Complete
// writes where it points, so it must not point at anything that others check, such as addresses or ports.
func (f *Frame) checkOffload(b []byte) drop.Reason {
	if f.Checksum != Partial || f.Fragment { // virtio 1.2 §5.1.6.2: GSO needs NEEDS_CSUM; Linux sums before it fragments
		return drop.BadOffload
	}
	start, field := int(f.Start), int(f.Offset)
	if f.GSO != GSONone && !f.matchesGSO(b) {
		return drop.BadOffload
	}
	if start+field+2 > f.End {
		return drop.BadOffload
	}
	if f.L4 == 0 {
		if start < f.networkEnd(b) {
			return drop.BadOffload
		}
		return drop.None
	}
	if start == int(f.L4) {
		if at := f.checkOffset(); at == 0 || field != at {
			return drop.BadOffload
		}
		return drop.None
	}
	if start < int(f.Payload) { // deeper is right: the checksum of a tunnel's inner packet
		return drop.BadOffload
	}
	return drop.None
}

// matchesGSO reports whether the frame is of the kind that its GSO type names, with its own checksum owed.
func (f *Frame) matchesGSO(b []byte) bool {
	if f.Size == 0 || f.L4 == 0 || f.Start != f.L4 {
		return false
	}
	switch f.GSO {
	case GSOTCP4:
		return f.Ether == EtherIPv4 && f.Proto == ProtoTCP
	case GSOTCP6:
		return f.Ether == EtherIPv6 && f.Proto == ProtoTCP
	case GSOUDP:
		return f.Proto == ProtoUDP && int(f.L4)+int(binary.BigEndian.Uint16(b[f.L4+4:])) == f.End
	}
	return false
}

// checkOffset returns where the internet checksum stands in the transport header, and 0 if it has none (SCTP sums by CRC32c).
func (f *Frame) checkOffset() int {
	switch f.Proto {
	case ProtoTCP:
		return tcpCheck
	case ProtoUDP:
		return udpCheck
	case ProtoICMP, ProtoICMPv6:
		return icmpCheck
	}
	return 0
}

// networkEnd returns the end of the network header of a frame without L4.
func (f *Frame) networkEnd(b []byte) int {
	switch f.Ether {
	case EtherIPv4:
		return int(f.L3) + int(b[f.L3]&15)*4
	case EtherIPv6:
		return int(f.L3) + ipv6Len
	case EtherARP:
		return f.End
	}
	return int(f.L3)
}

// mix is one round of a multiply-and-fold hash. It spreads flows; it does not resist someone who chooses them.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// fold makes a flow hash of h, never 0.
func fold(h uint64) uint32 {
	return max(uint32(h^h>>32), 1)
}

// hashMACs hashes the first twelve bytes of the frame, which is all that a frame without IP is told apart by.
func hashMACs(b []byte) uint32 {
	return fold(mix(binary.BigEndian.Uint64(b), uint64(binary.BigEndian.Uint32(b[8:]))))
}
