package frame

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to initial, another folded sum, by the ones-complement arithmetic of RFC 1071. The result is folded to 16 bits
// and not inverted. Bytes that do not start at an even offset of what is summed must be summed apart and swapped.
//
// The sum does not depend on byte order (RFC 1071 §2 B): it is taken in little-endian words and swapped at the end.
func Sum(b []byte, initial uint16) uint16 {
	acc := uint64(bits.ReverseBytes16(initial))
	if len(b) >= blockMin {
		sum, n := sumBlocks(b)
		acc += sum
		b = b[n:]
	}
	return bits.ReverseBytes16(fold16(sumWords(b, acc)))
}

// sumWords adds b to acc in little-endian words of 64 bits, with end-around carry.
func sumWords(b []byte, acc uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		w := b[:64:64]
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w), 0)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[8:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[16:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[24:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[32:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[40:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[48:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(w[56:]), c)
		acc, c = bits.Add64(acc, 0, c)
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	var tail uint64 // fewer than eight bytes
	if len(b) >= 4 {
		tail = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0]) // the last odd byte is padded with a zero behind it
	}
	acc, c = bits.Add64(acc, tail, 0)
	return acc + c
}

// fold16 folds a sum of 64 bits to 16. It yields 0 only for 0.
func fold16(s uint64) uint16 {
	s = s>>32 + s&0xffff_ffff
	s = s>>32 + s&0xffff_ffff
	return fold32(uint32(s))
}

// fold32 folds a sum of 32 bits to 16.
func fold32(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// Update returns the checksum of a header after one 16-bit word of it changed from old to new (RFC 1624, equation 3).
func Update(check, old, new uint16) uint16 {
	return ^fold32(uint32(^check) + uint32(^old) + uint32(new))
}

// Update32 is Update for 32 bits at an even offset, such as an IPv4 address.
func Update32(check uint16, old, new uint32) uint16 {
	return ^fold32(uint32(^check) + ^old>>16 + ^old&0xffff + new>>16 + new&0xffff)
}

// PseudoSum returns the folded sum of the pseudo-header that a TCP, UDP or ICMPv6 checksum covers (RFC 9293 §3.1, RFC 768,
// RFC 8200 §8.1): what the checksum field of a Partial frame holds. The frame must have a transport header.
func PseudoSum(f *Frame) uint16 {
	return fold32(f.addrSum() + uint32(f.transportLen()))
}

// addrSum is PseudoSum without the length, not folded.
func (f *Frame) addrSum() uint32 {
	b := f.buf[f.head+int(f.L3):]
	if f.Ether == EtherIPv6 {
		return uint32(Sum(b[8:40:40], uint16(f.Proto)))
	}
	b = b[12:20:20]
	src, dst := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return src>>16 + src&0xffff + dst>>16 + dst&0xffff + uint32(f.Proto)
}

// transportLen returns how many bytes the transport checksum covers. A UDP datagram may end before its IP packet does.
func (f *Frame) transportLen() int {
	if f.Proto == ProtoUDP {
		return int(binary.BigEndian.Uint16(f.buf[f.head+int(f.L4)+4:]))
	}
	return f.End - int(f.L4)
}
