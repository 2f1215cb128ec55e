package datagram

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control messages (cmsg(3)): a header, and behind it the value, each padded to a word.
//
//	┌──────────────────────────────┬───────┬─────────┬─────┐
//	│ length, of the header and the│ level │ type    │ ... │
//	│ value (a word)               │ (int) │ (int)   │     │
//	└──────────────────────────────┴───────┴─────────┴─────┘

// controls are the control messages of one send. Words align them.
type controls struct {
	words [12]uint64
	n     int // bytes
}

// put adds a message with an int.
func (c *controls) put(level, kind int32, value int32) {
	*(*int32)(c.next(level, kind, 4)) = value
}

// segment adds UDP_SEGMENT.
func (c *controls) segment(size int) {
	*(*uint16)(c.next(unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)) = uint16(size)
}

// next adds a message of n bytes and returns where they go. There is room for four.
func (c *controls) next(level, kind int32, n int) unsafe.Pointer {
	b := c.bytes()[c.n:]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	c.n += unix.CmsgSpace(n)
	return unsafe.Pointer(&b[unix.CmsgLen(0)])
}

func (c *controls) bytes() *[96]byte { return (*[96]byte)(unsafe.Pointer(&c.words)) }

// arrival is what the control messages of a received datagram, or of an error, say.
type arrival struct {
	segment  int   // UDP_GRO; 0: one datagram
	ttl, tos uint8 // ttl 0: not told
	failure  failure
}

// failure is a struct sock_extended_err of linux/errqueue.h and the address behind it.
type failure struct {
	errno      uint32
	origin     uint8
	kind, code uint8 // of the ICMP message
	info       uint32
	offender   netip.Addr // invalid if unknown
}

// Values of sock_extended_err.ee_origin.
const (
	originLocal = 1
	originICMP  = 2
	originICMP6 = 3

	failureLen = 16
)

// readControls reads the control messages in b. What is cut off or unknown is passed over.
func readControls(b []byte) (a arrival) {
	word := int(unsafe.Sizeof(uintptr(0)))
	for len(b) >= unix.CmsgLen(0) {
		n := wordAt(b)
		if n < uint64(unix.CmsgLen(0)) || n > uint64(len(b)) {
			return a
		}
		level, kind := int32(binary.NativeEndian.Uint32(b[word:])), int32(binary.NativeEndian.Uint32(b[word+4:]))
		a.take(level, kind, b[unix.CmsgLen(0):n])
		b = b[min(unix.CmsgSpace(int(n)-unix.CmsgLen(0)), len(b)):]
	}
	return a
}

// wordAt reads a length.
func wordAt(b []byte) uint64 {
	if unsafe.Sizeof(uintptr(0)) == 8 {
		return binary.NativeEndian.Uint64(b)
	}
	return uint64(binary.NativeEndian.Uint32(b))
}

// take reads one control message.
func (a *arrival) take(level, kind int32, b []byte) {
	switch {
	case level == unix.IPPROTO_UDP && kind == unix.UDP_GRO && len(b) >= 2:
		a.segment = int(binary.NativeEndian.Uint16(b)) // an int on some kernels; little-endian ones agree
		if len(b) >= 4 {
			a.segment = int(min(binary.NativeEndian.Uint32(b), 0xffff))
		}
	case level == unix.IPPROTO_IP && kind == unix.IP_TTL && len(b) >= 4, level == unix.IPPROTO_IPV6 && kind == unix.IPV6_HOPLIMIT && len(b) >= 4:
		a.ttl = uint8(binary.NativeEndian.Uint32(b))
	case level == unix.IPPROTO_IP && kind == unix.IP_TOS && len(b) >= 1:
		a.tos = b[0]
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_TCLASS && len(b) >= 4:
		a.tos = uint8(binary.NativeEndian.Uint32(b))
	case (level == unix.IPPROTO_IP && kind == unix.IP_RECVERR || level == unix.IPPROTO_IPV6 && kind == unix.IPV6_RECVERR) && len(b) >= failureLen:
		a.failure = failure{
			errno: binary.NativeEndian.Uint32(b), origin: b[4], kind: b[5], code: b[6], info: binary.NativeEndian.Uint32(b[8:]),
			offender: sockaddr(b[failureLen:]).Addr(),
		}
	}
}

// sockaddr reads a struct sockaddr_in or sockaddr_in6; the result is invalid if b is neither.
func sockaddr(b []byte) netip.AddrPort {
	if len(b) < 8 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port)
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// putSockaddr writes the address, and returns its length.
func putSockaddr(b *[unix.SizeofSockaddrInet6]byte, to netip.AddrPort) int {
	binary.BigEndian.PutUint16(b[2:], to.Port())
	if to.Addr().Is4() {
		binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
		a := to.Addr().As4()
		copy(b[4:], a[:])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET6)
	a := to.Addr().As16()
	copy(b[8:], a[:])
	return unix.SizeofSockaddrInet6
}
