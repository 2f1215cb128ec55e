package frame

import (
	"encoding/binary"

	"github.com/weftnet/weft/stack/drop"
)

// TCP flags (RFC 9293 §3.1).
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagPSH = 1 << 3
	flagURG = 1 << 5
	flagCWR = 1 << 7
)

// Segment is one wire frame: a header of its own, and its part of the superframe's payload.
type Segment struct{ Header, Payload []byte }

// Cut cuts the superframe f into frames whose IP packets are no longer than mtu, each with valid checksums.
//
//	f        │ Ethernet IP TCP │ payload ............................................ │
//	scratch  │ encap Ethernet IP TCP │ encap Ethernet IP TCP │ encap Ethernet IP TCP │
//	segs       Header, Payload ──────▶ Header, Payload ──────▶ Header, Payload
//
// Headers are written to scratch, each behind a copy of encap; used says how much of scratch they take. The segments are
// appended to out, and are valid as long as f's buffer and scratch. Nothing is cut when the reason is not None: BadOffload
// if f is no superframe, or one in so small pieces that scratch cannot hold their headers; TooBig if a datagram of f
// exceeds mtu (TCP is cut smaller instead).
func Cut(f *Frame, mtu int, encap, scratch []byte, out []Segment) (segs []Segment, used int, r drop.Reason) {
	size, n := f.pieces(mtu)
	if n == 0 {
		if f.GSO == GSONone {
			return out, 0, drop.BadOffload
		}
		return out, 0, drop.TooBig
	}
	run := len(encap) + int(f.Payload)
	if n*run > len(scratch) {
		return out, 0, drop.BadOffload
	}
	b := f.buf[f.head : f.head+f.End]
	copy(scratch, encap)
	copy(scratch[len(encap):run], b)
	c := f.cutter(b, len(encap))
	payload, prev := b[f.Payload:], scratch[:run]
	for i := range n {
		p := payload[:min(size, len(payload)):len(payload)]
		payload = payload[len(p):]
		h := scratch[used : used+run : used+run]
		used += run
		copy(h, prev) // every field that differs is written below
		prev = h
		c.stamp(h, p, i == 0, i == n-1)
		out = append(out, Segment{h, p})
	}
	return out, used, drop.None
}

// CutSpace returns how many bytes of scratch Cut will use for f with an encapsulation of encap bytes; 0 if it will not cut.
func CutSpace(f *Frame, mtu, encap int) int {
	_, n := f.pieces(mtu)
	return n * (encap + int(f.Payload))
}

// pieces returns the payload of each segment and their number, 0 if f cannot be cut to mtu.
func (f *Frame) pieces(mtu int) (size, n int) {
	if f.GSO == GSONone || f.Size == 0 {
		return 0, 0
	}
	total, room := f.End-int(f.Payload), mtu-int(f.Payload-f.L3)
	size = int(f.Size)
	if f.GSO == GSOUDP {
		if min(size, total) > room {
			return 0, 0
		}
	} else if size = min(size, room); size <= 0 {
		return 0, 0
	}
	return size, max((total+size-1)/size, 1)
}

// cutter holds the sums of what all segments of a superframe have in common, so that each adds only what is its own.
type cutter struct {
	l3, l4 int    // in the header run
	v4     bool   // IPv4, else IPv6
	tcp    bool   // TCP, else UDP
	ipSum  uint32 // IPv4 header without length, id and checksum
	l4Sum  uint32 // transport and pseudo-header without lengths, sequence number, flags and checksum
	id     uint16 // of the next segment
	seq    uint32 // of the next segment
	flags  uint16 // data offset and flags of the superframe
}

// cutter sums up the headers in b, which will stand behind encap bytes.
func (f *Frame) cutter(b []byte, encap int) cutter {
	c := cutter{
		l3: int(f.L3) + encap, l4: int(f.L4) + encap,
		v4: f.Ether == EtherIPv4, tcp: f.GSO != GSOUDP,
	}
	if c.v4 {
		ip := b[f.L3:f.L4]
		c.id = binary.BigEndian.Uint16(ip[4:])
		c.ipSum = without(Sum(ip, 0), ip[2:4], ip[4:6], ip[10:12])
	}
	h := b[f.L4:f.Payload]
	if c.tcp {
		c.seq, c.flags = binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint16(h[12:])
		c.l4Sum = without(Sum(h, 0), h[4:6], h[6:8], h[12:14], h[tcpCheck:tcpCheck+2])
	} else {
		c.l4Sum = without(Sum(h, 0), h[4:6], h[udpCheck:udpCheck+2])
	}
	if f.routed { // only the sender knew the address it summed; its sum is in the field
		c.l4Sum += uint32(binary.BigEndian.Uint16(h[f.Offset:])) + uint32(^uint16(f.transportLen()))
	} else {
		c.l4Sum += f.addrSum()
	}
	return c
}

// without takes 16-bit words out of a sum. The result is not folded, and not zero.
func without(sum uint16, words ...[]byte) uint32 {
	s := uint32(sum)
	for _, w := range words {
		s += uint32(^binary.BigEndian.Uint16(w))
	}
	return s
}

// stamp makes h, a header like all others of the superframe, that of the payload p.
func (c *cutter) stamp(h, p []byte, first, last bool) {
	transport := len(h) - c.l4 + len(p)
	ip := h[c.l3:c.l4]
	if c.v4 {
		ip = ip[:ipv4Len]
		total := uint16(c.l4 - c.l3 + transport)
		binary.BigEndian.PutUint16(ip[2:], total)
		binary.BigEndian.PutUint16(ip[4:], c.id)
		binary.BigEndian.PutUint16(ip[10:], ^fold32(c.ipSum+uint32(total)+uint32(c.id)))
		c.id++
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(c.l4-c.l3-ipv6Len+transport))
	}
	l4 := h[c.l4:]
	sum := c.l4Sum + uint32(transport) + uint32(Sum(p, 0))
	if !c.tcp {
		binary.BigEndian.PutUint16(l4[4:], uint16(transport))
		check := ^fold32(sum + uint32(transport)) // the length stands in the header and in the pseudo-header
		if check == 0 {
			check = 0xffff
		}
		binary.BigEndian.PutUint16(l4[udpCheck:], check)
		return
	}
	flags := c.flags
	if !first {
		flags &^= flagCWR
	}
	if !last {
		flags &^= flagPSH | flagFIN
	}
	l4 = l4[:tcpLen]
	binary.BigEndian.PutUint32(l4[4:], c.seq)
	binary.BigEndian.PutUint16(l4[12:], flags)
	binary.BigEndian.PutUint16(l4[tcpCheck:], ^fold32(sum+c.seq>>16+c.seq&0xffff+uint32(flags)))
	c.seq += uint32(len(p))
}
