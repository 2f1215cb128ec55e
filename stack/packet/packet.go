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
	head    [headLen]byte
	offload frame.Offload
	parts   [2][]byte
	id      uint16 // IPv4 identification last used
	seeded  bool
}

const headLen = Room + 40 + 8 + 8 // IPv6, fragment header, UDP or ICMP
