package bridge

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/stack/frame"
)

// Offsets in an ARP packet for IPv4 over Ethernet (RFC 826):
//
//	 0          2          4      5      6           8            14          18           24          28
//	┌──────────┬──────────┬──────┬──────┬───────────┬────────────┬───────────┬────────────┬───────────┐
//	│ 1 (Eth.) │ 0x0800   │ 6    │ 4    │ operation │ sender MAC │ sender IP │ target MAC │ target IP │
//	└──────────┴──────────┴──────┴──────┴───────────┴────────────┴───────────┴────────────┴───────────┘
const (
	arpOperation = 6
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24
	arpLen       = 28

	arpIsRequest = 1
	arpIsReply   = 2
)

// arpRequest reads an ARP packet. ok is false for other frames, and for operations other than request and reply.
func arpRequest(f *frame.Frame) (sender frame.MAC, senderIP, target netip.Addr, isRequest, ok bool) {
	if f.Ether != frame.EtherARP {
		return 0, netip.Addr{}, netip.Addr{}, false, false
	}
	b := f.Bytes()[f.L3:]
	op := binary.BigEndian.Uint16(b[arpOperation:])
	return frame.MACFrom(b[arpSenderMAC:]),
		netip.AddrFrom4([4]byte(b[arpSenderIP:])),
		netip.AddrFrom4([4]byte(b[arpTargetIP:])),
		op == arpIsRequest, op == arpIsRequest || op == arpIsReply
}

// arpReply writes to dst the answer of owner to the request f, and returns its length.
func arpReply(dst []byte, f *frame.Frame, owner frame.MAC) int {
	asked := f.Bytes()[f.L3:]
	b, n := replyTo(dst, f, owner, arpLen)
	copy(b, asked[:arpOperation])
	binary.BigEndian.PutUint16(b[arpOperation:], arpIsReply)
	owner.Put(b[arpSenderMAC:])
	copy(b[arpSenderIP:arpTargetMAC], asked[arpTargetIP:])
	copy(b[arpTargetMAC:arpLen], asked[arpSenderMAC:arpTargetMAC])
	return n
}

// replyTo writes the Ethernet header of a frame with n bytes behind it, from the station from to the sender of f and with the
// VLAN tags of f. It returns the bytes behind the header, and the length of the whole frame.
func replyTo(dst []byte, f *frame.Frame, from frame.MAC, n int) (b []byte, total int) {
	l3 := int(f.L3)
	dst = dst[:l3+n]
	f.Src().Put(dst)
	from.Put(dst[6:])
	copy(dst[12:l3], f.Bytes()[12:l3])
	return dst[l3:], len(dst)
}
