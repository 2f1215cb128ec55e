package bridge

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/stack/frame"
)

// Bounds and codes of the messages that say a packet was too big.
const (
	icmpHeader = 8
	quote4     = 576  // the whole ICMP datagram (RFC 1812 §4.3.2.3)
	quote6     = 1280 // the whole ICMPv6 packet (RFC 4443 §3.2)

	unreachable = 3 // ICMP type (RFC 792), with code
	fragNeeded  = 4 // (RFC 1191 §4)
	tooBigType6 = 2 // ICMPv6 type (RFC 4443 §3.2)
	redirect6   = 137

	ipv4Len        = 20
	defaultTTL     = 64
	networkControl = 0xc0 // RFC 1812 §4.3.2.5
	dontFragment   = 0x40
)

// packetTooBig writes to dst the message, from the network's gateway to the sender of f, that only packets of up to mtu bytes
// get through. It returns the message's length, 0 where none may be sent. It quotes
// no more of f than dst has room for.
//
// A sender that allows fragmentation is told too: nobody here fragments for it, and it does so itself once it knows.
func packetTooBig(dst []byte, f *frame.Frame, mtu int, gwMAC frame.MAC, gw4, gw6 netip.Addr) int {
	if f.Src().IsGroup() {
		return 0
	}
	switch {
	case f.Ether == frame.EtherIPv4 && gw4.Is4() && answerable4(f):
		return tooBig4(dst, f, mtu, gwMAC, gw4.As4())
	case f.Ether == frame.EtherIPv6 && gw6.Is6() && answerable6(f):
		return tooBig6(dst, f, mtu, gwMAC, gw6.As16())
	}
	return 0
}

// answerable4 reports whether RFC 1122 §3.2.2 allows an ICMP error about f.
func answerable4(f *frame.Frame) bool {
	b := f.Bytes()
	ip := b[f.L3:]
	if f.Dst().IsGroup() || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		return false
	}
	src, dst := f.SrcAddr(), f.DstAddr()
	if src.IsUnspecified() || src.IsLoopback() || ip[12] >= 224 || dst.IsMulticast() || ip[16] == 255 {
		return false
	}
	if ip[9] != frame.ProtoICMP {
		return true
	}
	switch b[f.L4] {
	case 3, 4, 5, 11, 12: // unreachable, source quench, redirect, time exceeded, parameter problem
		return false
	}
	return true
}

// answerable6 reports whether RFC 4443 §2.4 (e) allows a Packet Too Big about f; it does even for multicast.
func answerable6(f *frame.Frame) bool {
	src := f.SrcAddr()
	if src.IsUnspecified() || src.IsLoopback() || src.IsMulticast() {
		return false
	}
	if f.L4 == 0 && f.Fragment { // a later fragment; the first one is as long, and its sender hears of that
		return false
	}
	if f.Proto != frame.ProtoICMPv6 {
		return true
	}
	kind := f.Bytes()[f.L4]
	return kind >= 128 && kind != redirect6
}

func tooBig4(dst []byte, f *frame.Frame, mtu int, gwMAC frame.MAC, gw [4]byte) int {
	quoted := f.Bytes()[f.L3:f.End]
	quoted = quoted[:min(len(quoted), min(quote4, len(dst)-int(f.L3))-ipv4Len-icmpHeader)]
	b, n := replyTo(dst, f, gwMAC, ipv4Len+icmpHeader+len(quoted))
	clear(b[:ipv4Len+icmpHeader])
	b[0], b[1], b[6], b[8], b[9] = 0x45, networkControl, dontFragment, defaultTTL, frame.ProtoICMP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:16], gw[:])
	copy(b[16:20], quoted[12:16])
	binary.BigEndian.PutUint16(b[10:], ^frame.Sum(b[:ipv4Len], 0))

	m := b[ipv4Len:]
	m[0], m[1] = unreachable, fragNeeded
	binary.BigEndian.PutUint16(m[6:], uint16(min(mtu, 0xffff)))
	copy(m[icmpHeader:], quoted)
	binary.BigEndian.PutUint16(m[2:], ^frame.Sum(m, 0))
	return n
}

func tooBig6(dst []byte, f *frame.Frame, mtu int, gwMAC frame.MAC, gw [16]byte) int {
	quoted := f.Bytes()[f.L3:f.End]
	quoted = quoted[:min(len(quoted), min(quote6, len(dst)-int(f.L3))-ipv6Len-icmpHeader)]
	b, n := replyTo(dst, f, gwMAC, ipv6Len+icmpHeader+len(quoted))
	clear(b[:ipv6Len+icmpHeader])
	b[0], b[6], b[7] = 0x60, nextICMPv6, defaultTTL
	binary.BigEndian.PutUint16(b[4:], uint16(icmpHeader+len(quoted)))
	copy(b[8:24], gw[:])
	copy(b[24:40], quoted[8:24])

	m := b[ipv6Len:]
	m[0] = tooBigType6
	binary.BigEndian.PutUint32(m[4:], uint32(mtu))
	copy(m[icmpHeader:], quoted)
	sumICMPv6(b)
	return n
}
