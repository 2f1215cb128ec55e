package frame

import (
	"encoding/binary"

	"github.com/weftnet/weft/stack/drop"
)

// Complete pays the checksum that a plain Partial frame owes, in place, and so makes it Verified. Superframes are left
// alone: Cut writes the checksums of their pieces.
func (f *Frame) Complete() {
	if f.Checksum != Partial || f.GSO != GSONone {
		return
	}
	b := f.buf[f.head : f.head+f.End]
	check := ^Sum(b[f.Start:], 0)
	if check == 0 && f.Offset == udpCheck { // RFC 768: zero means none. Of others zero is the right one (RFC 1624 §3).
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[int(f.Start)+int(f.Offset):], check)
	f.Checksum, f.Start, f.Offset = Verified, 0, 0
}

// Verify reports whether the IPv4 header checksum and the transport checksum are right, and makes a frame whose transport
// checksum it found right Verified. True is also the answer where there is nothing that this node could check: fragments,
// unknown protocols, UDP without checksum (over IPv6 too: RFC 6936 wants it passed on, for the receiver to judge), and
// frames whose checksum is owed or vouched for.
func (f *Frame) Verify() bool {
	if f.Checksum != Unverified {
		return true
	}
	if !f.verifyHeader() {
		return false
	}
	if f.L4 == 0 || f.Fragment || f.routed {
		return true
	}
	b := f.buf[f.head+int(f.L4) : f.head+f.End]
	var pseudo uint16
	switch f.Proto {
	case ProtoUDP:
		if binary.BigEndian.Uint16(b[udpCheck:]) == 0 {
			return true
		}
		b = b[:binary.BigEndian.Uint16(b[4:])]
		pseudo = PseudoSum(f)
	case ProtoTCP, ProtoICMPv6:
		pseudo = PseudoSum(f)
	case ProtoICMP:
	default:
		return true
	}
	if Sum(b, pseudo) != 0xffff {
		return false
	}
	f.Checksum = Verified
	return true
}

// verifyHeader reports whether the IPv4 header checksum is right; other frames have none.
func (f *Frame) verifyHeader() bool {
	if f.Ether != EtherIPv4 {
		return true
	}
	b := f.buf[f.head+int(f.L3):]
	return Sum(b[:int(b[0]&15)*4], 0) == 0xffff
}

// Infer finds the offload state of a frame that came out of a VXLAN datagram, which carries no virtio_net_hdr. mtu is the
// network's, and counts the IP packet. A frame on which Infer finds a wrong checksum stays Unverified: its receiver judges.
//
// Across a wire every checksum is right and every packet fits. But a kernel VXLAN peer behind a veth hands over frames whose
// checksum field still holds the folded pseudo-header sum (CHECKSUM_PARTIAL), and TCP superframes that were never cut,
// because the veth promised to do both.
func (f *Frame) Infer(mtu int) drop.Reason {
	long := f.End-int(f.L3) > mtu
	if f.Checksum == Verified && !long {
		return drop.None
	}
	if f.L4 == 0 || f.Fragment || f.routed || f.Proto != ProtoTCP && f.Proto != ProtoUDP {
		f.Verify()
		return drop.None
	}
	if long {
		if f.Proto == ProtoUDP { // a superframe of datagrams whose boundaries are lost
			return drop.TooBig
		}
		return f.inferGSO(mtu)
	}
	if f.Verify() {
		return drop.None
	}
	at := f.checkOffset()
	if binary.BigEndian.Uint16(f.buf[f.head+int(f.L4)+at:]) == PseudoSum(f) && f.verifyHeader() {
		f.Checksum, f.Start, f.Offset = Partial, f.L4, uint16(at)
	}
	return drop.None
}

// inferGSO makes a TCP packet longer than mtu the superframe that it must be.
func (f *Frame) inferGSO(mtu int) drop.Reason {
	size := mtu - int(f.Payload-f.L3)
	if size <= 0 {
		return drop.TooBig
	}
	tcp := f.buf[f.head+int(f.L4):]
	pseudo := PseudoSum(f)
	owed := binary.BigEndian.Uint16(tcp[tcpCheck:]) == pseudo && f.verifyHeader()
	if !owed && !f.Verify() {
		return drop.BadChecksum // its pieces would get right ones
	}
	binary.BigEndian.PutUint16(tcp[tcpCheck:], pseudo)
	f.Offload = Offload{
		GSO: GSOTCP4, ECN: tcp[13]&flagCWR != 0, Checksum: Partial,
		Size: uint16(min(size, 0xffff)), Start: f.L4, Offset: tcpCheck, HdrLen: f.Payload,
	}
	if f.Ether == EtherIPv6 {
		f.GSO = GSOTCP6
	}
	return drop.None
}
