package packet

import (
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
)

// UDP sends payload as one datagram or, where segment is not 0, as datagrams of that size, of which the last may be shorter: in
// superframes as far as those go. A datagram that exceeds mtu is sent in fragments, unless h forbids that: TooBig.
func (w *Writer) UDP(to Sender, h Header, payload []byte, segment, mtu int) drop.Reason {
	return drop.None
}

// EchoReply sends the answer to an echo request (ICMP over IPv4, ICMPv6 over IPv6), in fragments if it exceeds mtu.
func (w *Writer) EchoReply(to Sender, src, dst netip.Addr, ttl uint8, id, seq uint16, data []byte, mtu int) drop.Reason {
	return drop.None
}
