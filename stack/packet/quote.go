package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/stack/frame"
)

// quoted is a packet that an error is about.
type quoted struct {
	v4      bool
	group   bool       // to several hosts
	src     netip.Addr // who is told
	pointer uint32     // IPv6: where the protocol of what the packet carries is named
	bytes   []byte     // without padding behind it
}

// room returns how much of the packet an error may quote.
func (q *quoted) room() int {
	if q.v4 {
		return quote4 - ipv4Len - l4Len
	}
	return quote6 - ipv6Len - l4Len
}

// readQuote reads the packet at b, which may be cut off behind its headers. ok is false if it is none, or if no error of any kind may be
// sent about it.
func readQuote(b []byte) (q quoted, ok bool) {
	switch {
	case len(b) >= ipv4Len && b[0]>>4 == 4:
		return readIPv4(b)
	case len(b) >= ipv6Len && b[0]>>4 == 6:
		return readIPv6(b)
	}
	return quoted{}, false
}

func readIPv4(b []byte) (q quoted, ok bool) {
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Len || len(b) < header || total < header {
		return quoted{}, false
	}
	b = b[:min(len(b), total)]
	q = quoted{v4: true, group: b[16] >= 224, src: netip.AddrFrom4([4]byte(b[12:])), bytes: b}
	if b[12] == 0 || b[12] >= 224 || q.src.IsLoopback() { // not one host (RFC 1122 §3.2.2)
		return q, false
	}
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return q, false
	}
	return q, b[9] != frame.ProtoICMP || len(b) > header && !isError4(b[header])
}

// isError4 reports whether an ICMP message of this type is an error, about which there is none.
func isError4(kind uint8) bool {
	switch kind {
	case unreachable4, timeExceeded4, 4, 5, 12: // source quench, redirect, parameter problem
		return true
	}
	return false
}

// IPv6 extension headers that stand before what a packet carries (RFC 8200 §4).
const (
	nextHopByHop    = 0
	nextRouting     = 43
	nextDestination = 60
	maxExtensions   = 8

	query6    = 128 // the first type of ICMPv6 that is no error (RFC 4443 §2.1)
	redirect6 = 137
)

func readIPv6(b []byte) (q quoted, ok bool) {
	b = b[:min(len(b), ipv6Len+int(binary.BigEndian.Uint16(b[4:])))]
	q = quoted{src: netip.AddrFrom16([16]byte(b[8:])), group: b[24] == 0xff, pointer: 6, bytes: b}
	if q.src.IsUnspecified() || q.src.IsLoopback() || q.src.IsMulticast() || q.src.Is4In6() {
		return q, false
	}
	next, at := b[6], ipv6Len
	for range maxExtensions {
		switch next {
		case nextHopByHop, nextRouting, nextDestination, nextFrag:
		default:
			return q, next != frame.ProtoICMPv6 || len(b) > at && b[at] >= query6 && b[at] != redirect6
		}
		if len(b) < at+8 {
			return q, false
		}
		n := 8 + int(b[at+1])*8
		if next == nextFrag {
			if binary.BigEndian.Uint16(b[at+2:])&^7 != 0 { // a later one
				return q, false
			}
			n = fragmentLen
		}
		q.pointer = uint32(at)
		next, at = b[at], at+n
	}
	return q, false
}
