package capture

import (
	"encoding/binary"

	"github.com/weftnet/weft/stack/frame"
)

// complete pays the checksum that the superframe f owes, over all of its payload, so that the copy reads as one large and
// correct packet.
func complete(f *frame.Frame) {
	if f.Checksum != frame.Partial {
		return
	}
	b := f.Bytes()[:f.End]
	check := ^frame.Sum(b[f.Start:], 0)
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[int(f.Start)+int(f.Offset):], check)
}

const (
	etherLen, udpLen, vxlanLen = 14, 8, 8
	hopLimit                   = 64
)

// appendOuter appends the headers of the datagram that carries the frame of length bytes made of header and payload:
//
//	Ethernet (MACs zero: the tunnel never sees them) │ IPv4 or IPv6 │ UDP │ VXLAN (RFC 7348 §5) │ frame
//
// The kernel writes the real ones, so hop limit, identification and checksum here are typical, not observed: the UDP checksum
// is zero over IPv4, as the kernel's default, and right over IPv6, where zero would be flagged as a fault.
func appendOuter(b []byte, at *Where, header, payload []byte, length int) []byte {
	src, dst := at.Remote, at.Local
	if at.Out {
		src, dst = dst, src
	}
	be := binary.BigEndian
	datagram := udpLen + vxlanLen + length
	b = append(b, make([]byte, etherLen-2)...)
	var pseudo uint16
	if dst.Addr().Is4() {
		s, d := src.Addr().As4(), dst.Addr().As4()
		b = be.AppendUint16(b, frame.EtherIPv4)
		ip := len(b)
		b = append(b, 0x45, 0)
		b = be.AppendUint16(b, uint16(20+datagram))
		b = append(b, 0, 0, 0, 0, hopLimit, frame.ProtoUDP, 0, 0)
		b = append(append(b, s[:]...), d[:]...)
		be.PutUint16(b[ip+10:], ^frame.Sum(b[ip:], 0))
	} else {
		s, d := src.Addr().As16(), dst.Addr().As16()
		b = be.AppendUint16(b, frame.EtherIPv6)
		b = append(b, 0x60, 0, 0, 0)
		b = be.AppendUint16(b, uint16(datagram))
		b = append(b, frame.ProtoUDP, hopLimit)
		b = append(append(b, s[:]...), d[:]...)
		pseudo = frame.Sum(d[:], frame.Sum(s[:], frame.Sum(be.AppendUint16(nil, uint16(datagram)), frame.ProtoUDP)))
	}
	udp := len(b)
	b = be.AppendUint16(b, src.Port())
	b = be.AppendUint16(b, dst.Port())
	b = be.AppendUint16(b, uint16(datagram))
	b = append(b, 0, 0)
	b = append(b, 0x08, 0, 0, 0)
	b = be.AppendUint32(b, at.VNI<<8)
	if pseudo != 0 {
		sum := frame.Sum(b[udp:], pseudo)
		if sum = ^sumParts(sum, header, payload); sum == 0 {
			sum = 0xffff
		}
		be.PutUint16(b[udp+6:], sum)
	}
	return b
}

// sumParts adds header and payload, one behind the other, to sum.
func sumParts(sum uint16, header, payload []byte) uint16 {
	sum = frame.Sum(header, sum)
	if len(header)%2 == 0 {
		return frame.Sum(payload, sum)
	}
	p := frame.Sum(payload, 0)
	return frame.Sum([]byte{byte(p), byte(p >> 8)}, sum)
}
