// Package frame holds an Ethernet frame and what the data path does to it: parse in place, checksum, cut a superframe into
// wire frames (GSO), and join wire frames into a superframe (GRO).
//
//	        headroom             Ethernet  [802.1Q]  IPv4/IPv6 [options, extensions]  TCP/UDP/...   payload
//	├────────────────────────────┼─────────────────┼────────────────────────────────┼─────────────┼──────────┤
//	buf[0]                       buf[head]         L3                               L4            Payload    End
//
// Nothing here copies payload, allocates or takes a lock: Cut and Coalescer hand out slices of the buffers that they were given.
package frame

import (
	"encoding/binary"
	"net/netip"
)

// Headroom is how many bytes a reader leaves free in front of a frame, for the virtio_net_hdr on the way in and for the
// encapsulation on the way out.
const Headroom = 64

// MaxLen is the longest frame there is: a 64 KiB IP packet behind an Ethernet header and two VLAN tags.
const MaxLen = 65535 + 40 + 14 + 8

// EtherTypes that the data path tells apart (IEEE 802).
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherVLAN = 0x8100
	EtherQinQ = 0x88a8
	EtherIPv6 = 0x86dd
)

// IP protocol numbers that the data path tells apart (IANA).
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// Frame is one Ethernet frame, or a superframe of up to 64 KiB, as a view of its reader's buffer. It belongs to the thread
// that read it until that thread's batch is flushed: whoever wants to keep bytes longer copies them.
type Frame struct {
	Offload

	buf  []byte // headroom and frame
	head int    // where the frame starts in buf

	// What Parse found. Offsets are from the frame's first byte.
	Ether    uint16 // EtherType behind any VLAN tags
	Proto    uint8  // transport protocol; 0 if none could be told (not IP, or a later fragment)
	Tagged   bool   // has an 802.1Q or 802.1ad tag
	Fragment bool   // is a fragment, the first included
	L3       uint16 // network header, behind Ethernet and VLAN tags
	L4       uint16 // transport header; 0 if none
	Payload  uint16 // behind the transport header; 0 if none
	End      int    // end of the network packet; what follows is Ethernet padding
	Hash     uint32 // flow hash; the same for all frames, and all fragments, of one flow in one direction

	routed bool // an IPv6 routing header still names the final destination, which the pseudo-header then means
}

// Set makes f a plain frame of n bytes at buf[head:], forgetting all that f was. At least Headroom bytes should lie in front.
func (f *Frame) Set(buf []byte, head, n int) { *f = Frame{buf: buf[:head+n], head: head} }

// Bytes returns the frame from its destination MAC on.
func (f *Frame) Bytes() []byte { return f.buf[f.head:] }

// Len returns the frame's length in bytes, without checksum or preamble.
func (f *Frame) Len() int { return len(f.buf) - f.head }

// Front returns the n bytes that lie directly in front of the frame, and the frame behind them, as one slice. They are
// scratch: an encapsulation writes its header there. It panics if n exceeds the headroom, which is a programming error.
func (f *Frame) Front(n int) []byte { return f.buf[f.head-n:] }

// MAC is an Ethernet address as a number, so that it is compared and looked up in one step.
type MAC uint64

// MACFrom reads the six bytes at b.
func MACFrom(b []byte) MAC {
	_ = b[5]
	return MAC(binary.BigEndian.Uint32(b))<<16 | MAC(binary.BigEndian.Uint16(b[4:]))
}

// Dst returns the destination MAC. The frame must have been parsed.
func (f *Frame) Dst() MAC { return MACFrom(f.buf[f.head:]) }

// Src returns the source MAC. The frame must have been parsed.
func (f *Frame) Src() MAC { return MACFrom(f.buf[f.head+6:]) }

// SrcAddr returns the source address of an IP frame, and the zero Addr of any other. The frame must have been parsed.
func (f *Frame) SrcAddr() netip.Addr { return f.addr(12, 8) }

// DstAddr returns the destination address of an IP frame, and the zero Addr of any other. The frame must have been parsed.
func (f *Frame) DstAddr() netip.Addr { return f.addr(16, 24) }

// addr reads the address at offset at4 of an IPv4 header, or at6 of an IPv6 header.
func (f *Frame) addr(at4, at6 int) netip.Addr {
	b := f.buf[f.head+int(f.L3):]
	switch f.Ether {
	case EtherIPv4:
		return netip.AddrFrom4([4]byte(b[at4:]))
	case EtherIPv6:
		return netip.AddrFrom16([16]byte(b[at6:]))
	}
	return netip.Addr{}
}
