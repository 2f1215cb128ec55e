package packet

import (
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
)

// Unreachable tells the sender of the packet quote, given from its IP header on, why it does not reach its destination. Like the other
// errors it sends nothing, and returns None, where none may be sent: about an ICMP error, a later fragment, a group or broadcast address
// (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)), and where quote and from are not of one family or quote is no IP packet.
func (w *Writer) Unreachable(to Sender, from netip.Addr, c Code, quote []byte) drop.Reason {
	return drop.None
}

// TimeExceeded tells the sender of quote that its TTL or hop limit ended at from.
func (w *Writer) TimeExceeded(to Sender, from netip.Addr, quote []byte) drop.Reason {
	return drop.None
}

// TooBig tells the sender of quote that only packets of up to mtu bytes get through.
func (w *Writer) TooBig(to Sender, from netip.Addr, mtu int, quote []byte) drop.Reason {
	return drop.None
}
