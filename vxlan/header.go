// Package vxlan is a node's VXLAN tunnel endpoint (RFC 7348) on ordinary UDP sockets, compatible on the wire with the Linux
// kernel's.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|R|R|R|I|R|R|R|            Reserved                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                VXLAN Network Identifier (VNI) |   Reserved    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// A Sender gathers what one thread has for the underlay, and sends runs of equal datagrams as one message with UDP_SEGMENT:
//
//	Sender.Send ─ cut superframes ─► outbox per socket: runs of equal size ─ Flush ─► sendmmsg, one message per run
//
// A Receiver takes messages that the kernel coalesced (UDP_GRO), and hands the inner frames to a Handler one by one.
package vxlan

import (
	"encoding/binary"

	"github.com/weftnet/weft/stack/drop"
)

// VNI is a VXLAN network identifier, 24 bits wide.
type VNI uint32

// MaxVNI is the largest network identifier.
const MaxVNI VNI = 1<<24 - 1

const (
	// HeaderLen is the length of a VXLAN header in bytes.
	HeaderLen = 8
	// Port is the UDP port that IANA assigned to VXLAN.
	Port = 4789
	// overhead is what VXLAN adds to an inner IP packet besides the outer IP header: UDP, VXLAN and inner Ethernet headers.
	overhead = 8 + HeaderLen + etherLen
	etherLen = 14

	flagVNI = 0x08 << 24 // the I flag, in the first word
)

// PutHeader writes the header of a frame of network v to the first HeaderLen bytes of b.
func PutHeader(b []byte, v VNI) {
	binary.BigEndian.PutUint64(b, flagVNI<<32|uint64(v)<<8)
}

// ParseHeader reads the header at the start of b. Like the kernel (vxlan_rcv in drivers/net/vxlan/vxlan_core.c), and unlike
// RFC 7348 §5, it refuses reserved bits that are set: they would mean an extension that changes what follows.
func ParseHeader(b []byte) (VNI, drop.Reason) {
	if len(b) < HeaderLen {
		return 0, drop.BadVXLAN
	}
	h := binary.BigEndian.Uint64(b)
	if h>>32 != flagVNI || h&0xff != 0 {
		return 0, drop.BadVXLAN
	}
	return VNI(h >> 8 & 0xffffff), drop.None
}
