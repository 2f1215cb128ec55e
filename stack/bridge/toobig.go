package bridge

import (
	"net/netip"

	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
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
	from := gw6
	switch f.Ether {
	case frame.EtherIPv4:
		if f.Dst().IsGroup() { // RFC 1122 §3.2.2; of IPv6 a group may be told (RFC 4443 §2.4 (e))
			return 0
		}
		from = gw4
	case frame.EtherIPv6:
	default:
		return 0
	}
	n := packet.PutTooBig(dst[f.L3:], from, mtu, f.Bytes()[f.L3:f.End])
	if n == 0 {
		return 0
	}
	_, total := replyTo(dst, f, gwMAC, n)
	return total
}
