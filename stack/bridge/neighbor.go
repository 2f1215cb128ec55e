package bridge

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/stack/frame"
)

// ICMPv6 types of neighbor discovery (RFC 4861 §4.3, §4.4).
const (
	neighborSolicitation  = 135
	neighborAdvertisement = 136
)

// Offsets in the ICMPv6 part of both messages, and what stands there:
//
//	 0      1      2          4                 8                          24
//	┌──────┬──────┬──────────┬─────────────────┬──────────────────────────┬────────────────────────────────┐
//	│ type │ code │ checksum │ R S O (adverts) │ target                   │ options: type, length / 8, ... │
//	└──────┴──────┴──────────┴─────────────────┴──────────────────────────┴────────────────────────────────┘
const (
	ndFlags   = 4
	ndTarget  = 8
	ndOptions = 24
	ndAnswer  = ndOptions + 8 // with the one option that an answer has

	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20

	optionSource = 1 // link-layer address of the sender, in a solicitation
	optionTarget = 2 // link-layer address of the target, in an advertisement

	ipv6Len    = 40
	noRouters  = 255 // the hop limit that no forwarded packet can have
	nextICMPv6 = frame.ProtoICMPv6
)

// allNodes is the group of all hosts on the link, and the Ethernet address that it maps to (RFC 2464 §7).
var allNodes = [16]byte{0: 0xff, 1: 0x02, 15: 1}

const allNodesMAC frame.MAC = 0x3333_0000_0001

// neighbor reads a neighbor solicitation or advertisement. kind is 0 for other frames; ok is false also for a message that
// every receiver must ignore (RFC 4861 §7.1, RFC 6980), or whose link-layer address could be read in two ways. linkAddr is 0
// where the message has none.
func neighbor(f *frame.Frame) (kind uint8, src, target netip.Addr, linkAddr frame.MAC, ok bool) {
	if f.Ether != frame.EtherIPv6 || f.Proto != frame.ProtoICMPv6 || f.L4 == 0 {
		return 0, src, target, 0, false
	}
	frm := f.Bytes()
	ip, m := frm[f.L3:], frm[f.L4:f.End]
	if m[0] != neighborSolicitation && m[0] != neighborAdvertisement {
		return 0, src, target, 0, false
	}
	kind, src = m[0], f.SrcAddr()
	if f.Fragment || ip[7] != noRouters || m[1] != 0 || len(m) < ndOptions || !f.Verify() {
		return kind, src, target, 0, false
	}
	target = netip.AddrFrom16([16]byte(m[ndTarget:]))
	want := byte(optionTarget)
	if kind == neighborSolicitation {
		want = optionSource
	}
	linkAddr, ok = linkOption(m[ndOptions:], want)
	switch {
	case target.IsMulticast(), src.IsMulticast():
		ok = false
	case kind == neighborSolicitation && src.IsUnspecified() && linkAddr != 0:
		ok = false
	case kind == neighborAdvertisement && ip[24] == 0xff && m[ndFlags]&flagSolicited != 0:
		ok = false
	}
	return kind, src, target, linkAddr, ok
}

// linkOption walks the options and returns the link-layer address in that of kind want, 0 if there is none. ok is false if
// an option is cut off or empty, or if the address is there twice, no Ethernet address, or not that of one station.
func linkOption(b []byte, want byte) (addr frame.MAC, ok bool) {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return 0, false
		}
		n := int(b[1]) * 8
		if b[0] == want {
			m := frame.MACFrom(b[2:])
			if addr != 0 || n != 8 || m == 0 || m.IsGroup() {
				return 0, false
			}
			addr = m
		}
		b = b[n:]
	}
	return addr, true
}

// neighborAdvert writes to dst the answer of owner to the solicitation f, and returns its length. An asker without an address
// is looking whether the target is free (RFC 4862 §5.4); the answer that it is not goes to all.
func neighborAdvert(dst []byte, f *frame.Frame, owner frame.MAC, router bool) int {
	asked := f.Bytes()
	ip, m := asked[f.L3:], asked[f.L4:]
	b, n := replyTo(dst, f, owner, ipv6Len+ndAnswer)
	clear(b)
	b[0], b[6], b[7] = 0x60, nextICMPv6, noRouters
	binary.BigEndian.PutUint16(b[4:], ndAnswer)
	target := m[ndTarget:ndOptions]
	copy(b[8:24], target)
	flags := byte(flagOverride | flagSolicited)
	if f.SrcAddr().IsUnspecified() {
		flags = flagOverride
		copy(b[24:40], allNodes[:])
		allNodesMAC.Put(dst)
	} else {
		copy(b[24:40], ip[8:24])
	}
	if router {
		flags |= flagRouter
	}
	a := b[ipv6Len:]
	a[0], a[ndFlags] = neighborAdvertisement, flags
	copy(a[ndTarget:], target)
	a[ndOptions], a[ndOptions+1] = optionTarget, 1
	owner.Put(a[ndOptions+2:])
	sumICMPv6(b)
	return n
}

// sumICMPv6 fills in the checksum of the ICMPv6 message in an IPv6 packet without extension headers.
func sumICMPv6(ip []byte) {
	m := ip[ipv6Len:]
	pseudo := frame.Sum(ip[8:40], frame.ProtoICMPv6) // RFC 8200 §8.1
	pseudo = frame.Sum(ip[4:6], pseudo)
	binary.BigEndian.PutUint16(m[2:], ^frame.Sum(m, pseudo))
}
