package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

const (
	quote4 = 576  // the whole ICMP datagram (RFC 1812 §4.3.2.3)
	quote6 = 1280 // the whole ICMPv6 packet (RFC 4443 §2.4 (c))

	unreachable4  = 3 // ICMP types (RFC 792)
	fragNeeded4   = 4 // code (RFC 1191 §4)
	timeExceeded4 = 11

	unreachable6  = 1 // ICMPv6 types (RFC 4443 §3)
	tooBig6       = 2
	timeExceeded6 = 3
	parameter6    = 4
	unrecognized6 = 1 // code

	networkControl = 0xc0 // RFC 1812 §4.3.2.5
)

// message is an ICMP error: type, code, and the four bytes behind the checksum.
type message struct {
	kind, code uint8
	rest       uint32
}

// Unreachable tells the sender of the packet quote, given from its IP header on, why it does not reach its destination. Like the other
// errors it sends nothing, and returns None, where none may be sent: about an ICMP error, a later fragment, a group or broadcast address
// (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)), and where quote and from are not of one family or quote is no IP packet.
func (w *Writer) Unreachable(to Sender, from netip.Addr, c Code, quote []byte) drop.Reason {
	q, ok := readQuote(quote)
	if !ok || q.group {
		return drop.None
	}
	return w.report(to, from, c.message(&q), &q)
}

// message returns how the version of IP that q is of says c.
func (c Code) message(q *quoted) message {
	if q.v4 {
		return message{kind: unreachable4, code: [...]uint8{PortUnreachable: 3, HostUnreachable: 1, NetUnreachable: 0, Prohibited: 13, ProtocolUnreachable: 2}[c]}
	}
	if c == ProtocolUnreachable {
		return message{parameter6, unrecognized6, q.pointer}
	}
	return message{kind: unreachable6, code: [...]uint8{PortUnreachable: 4, HostUnreachable: 3, NetUnreachable: 0, Prohibited: 1}[c]}
}

// TimeExceeded tells the sender of quote that its TTL or hop limit ended at from.
func (w *Writer) TimeExceeded(to Sender, from netip.Addr, quote []byte) drop.Reason {
	q, ok := readQuote(quote)
	if !ok || q.group {
		return drop.None
	}
	m := message{kind: timeExceeded6}
	if q.v4 {
		m.kind = timeExceeded4
	}
	return w.report(to, from, m, &q)
}

// TooBig tells the sender of quote that only packets of up to mtu bytes get through.
func (w *Writer) TooBig(to Sender, from netip.Addr, mtu int, quote []byte) drop.Reason {
	q, ok := readQuote(quote)
	if !ok || q.v4 && q.group {
		return drop.None
	}
	return w.report(to, from, q.tooBig(mtu), &q)
}

func (q *quoted) tooBig(mtu int) message {
	if q.v4 {
		return message{unreachable4, fragNeeded4, uint32(min(mtu, 0xffff))}
	}
	return message{kind: tooBig6, rest: uint32(mtu)}
}

// report sends m about q.
func (w *Writer) report(to Sender, from netip.Addr, m message, q *quoted) drop.Reason {
	if v4, ok := both(from, q.src); !ok || v4 != q.v4 {
		return drop.None
	}
	quote := q.bytes[:min(len(q.bytes), q.room())]
	n := putError(w.head[Room:], from, m, q, quote)
	w.offload = frame.Offload{Checksum: frame.Verified}
	return w.send(to, q.src, Room+n, quote)
}

// PutTooBig writes the whole packet that Writer.TooBig sends to dst, and returns its length: 0 where none may be sent. It quotes no
// more than dst has room for, which must be that for an IPv6 and an ICMPv6 header at least.
func PutTooBig(dst []byte, from netip.Addr, mtu int, quote []byte) int {
	q, ok := readQuote(quote)
	if !ok || q.v4 && q.group {
		return 0
	}
	if v4, ok := both(from, q.src); !ok || v4 != q.v4 {
		return 0
	}
	ip := ipv6Len
	if q.v4 {
		ip = ipv4Len
	}
	quote = q.bytes[:min(len(q.bytes), q.room(), len(dst)-ip-l4Len)]
	n := putError(dst, from, q.tooBig(mtu), &q, quote)
	return n + copy(dst[n:], quote)
}

// putError writes the IP and ICMP headers of m, which quotes quote, and returns their length.
func putError(b []byte, from netip.Addr, m message, q *quoted, quote []byte) int {
	h := Header{Src: netip.AddrPortFrom(from, 0), Dst: netip.AddrPortFrom(q.src, 0), TTL: defaultTTL}
	ip, sum := ipv6Len, uint16(0)
	if q.v4 {
		ip, h.TOS = ipv4Len, networkControl
		putIPv4(b, &h, frame.ProtoICMP, ip+l4Len+len(quote), 0, dontFragment)
	} else {
		putIPv6(b, &h, frame.ProtoICMPv6, l4Len+len(quote))
		sum = pseudoSum(&h, frame.ProtoICMPv6, l4Len+len(quote))
	}
	l4 := b[ip : ip+l4Len]
	l4[0], l4[1], l4[2], l4[3] = m.kind, m.code, 0, 0
	binary.BigEndian.PutUint32(l4[4:], m.rest)
	binary.BigEndian.PutUint16(l4[2:], ^frame.Sum(quote, frame.Sum(l4, sum)))
	return ip + l4Len
}
