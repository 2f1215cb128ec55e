// Package packet writes the IP packets that a gateway sends of its own accord: UDP datagrams and echo replies on behalf of remotes
// (RFC 768, RFC 792, RFC 4443), whole or in fragments (RFC 791 §3.2, RFC 8200 §4.5), and the ICMP errors of a router (RFC 1812 §4.3,
// RFC 4443 §2.4). It answers nothing by itself and keeps no state but a limit on errors.
//
//	parts[0]                                                  parts[1]
//	┌──────────────────┬─────────────┬──────────────────┐     ┌──────────────────────────┐
//	│ Room (Ethernet)  │ IPv4 / IPv6 │ UDP / ICMP       │     │ payload, or what is      │
//	│ 14 bytes, blank  │             │ (first fragment) │     │ quoted; never copied     │
//	└──────────────────┴─────────────┴──────────────────┘     └──────────────────────────┘
//
// A whole UDP datagram, and a superframe of them, leaves with its checksum owed (frame.Partial); everything else carries right
// ones.
package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Room is how many bytes each packet leaves free in front, for an Ethernet header.
const Room = 14

// Sender is where packets go: a router's link. It keeps nothing of what it is given.
type Sender interface {
	Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason
}

// Code says why a destination is not reached, for both versions of IP.
type Code uint8

// The reasons, with the codes of RFC 792 and RFC 1812 §5.2.7.1, and of RFC 4443 §3.1.
const (
	PortUnreachable     Code = iota // 3; 4
	HostUnreachable                 // 1; 3 (address unreachable)
	NetUnreachable                  // 0; 0 (no route)
	Prohibited                      // 13; 1 (administratively prohibited)
	ProtocolUnreachable             // 2; over IPv6 parameter problem 1 (unrecognized next header, RFC 4443 §3.4)
)

// Header is what the IP and UDP headers of a datagram say.
type Header struct {
	Src, Dst netip.AddrPort
	TTL, TOS uint8
	DF       bool   // IPv4: must not be fragmented
	ID       uint16 // IPv4: identification; 0 has the Writer choose one
}

// Writer writes packets. The zero value is ready; a Writer belongs to one thread at a time. It does not allocate, and keeps nothing of
// what it is given.
//
// What a Sender refuses is the reason that its methods return.
type Writer struct {
	head    [Room + ipv6Len + fragmentLen + l4Len]byte
	l4      [l4Len]byte // the UDP or ICMP header of what is being sent
	offload frame.Offload
	parts   [2][]byte
	id      uint16 // IPv4 identification to use next; 0 before the first
}

const (
	ipv4Len     = 20
	ipv6Len     = 40
	fragmentLen = 8 // RFC 8200 §4.5
	l4Len       = 8 // of UDP, ICMP and ICMPv6 alike
	nextFrag    = 44

	defaultTTL   = 64
	dontFragment = 0x4000
	moreFollow   = 0x2000
	maxPacket    = 65535
)

// both reports whether two addresses are of one family, and whether that is IPv4.
func both(a, b netip.Addr) (v4, ok bool) {
	return a.Is4(), a.Is4() && b.Is4() || a.Is6() && b.Is6() && !a.Is4In6() && !b.Is4In6()
}

// putIPv4 writes an IPv4 header for a packet of total bytes.
func putIPv4(b []byte, h *Header, proto uint8, total int, id, frag uint16) {
	b = b[:ipv4Len]
	b[0], b[1] = 0x45, h.TOS
	binary.BigEndian.PutUint16(b[2:], uint16(total))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = h.TTL, proto
	b[10], b[11] = 0, 0
	src, dst := h.Src.Addr().As4(), h.Dst.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^frame.Sum(b, 0))
}

// putIPv6 writes an IPv6 header for a packet with n bytes behind it.
func putIPv6(b []byte, h *Header, next uint8, n int) {
	b = b[:ipv6Len]
	b[0], b[1], b[2], b[3] = 0x60|h.TOS>>4, h.TOS<<4, 0, 0
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	b[6], b[7] = next, h.TTL
	src, dst := h.Src.Addr().As16(), h.Dst.Addr().As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}

// pseudoSum returns the sum of the pseudo-header of n bytes of proto (RFC 768, RFC 8200 §8.1).
func pseudoSum(h *Header, proto uint8, n int) uint16 {
	tail := [4]byte{0, proto, byte(n >> 8), byte(n)}
	sum := frame.Sum(tail[:], 0)
	if h.Src.Addr().Is4() {
		src, dst := h.Src.Addr().As4(), h.Dst.Addr().As4()
		return frame.Sum(dst[:], frame.Sum(src[:], sum))
	}
	src, dst := h.Src.Addr().As16(), h.Dst.Addr().As16()
	return frame.Sum(dst[:], frame.Sum(src[:], sum))
}

// take returns n IPv4 identifications in a row, of which the first is not 0.
func (w *Writer) take(n int) uint16 {
	for w.id == 0 { // others that write to the same containers start elsewhere
		w.id = uint16(rand.Uint32())
	}
	id := w.id
	w.id += uint16(n)
	return id
}
