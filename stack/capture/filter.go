package capture

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/stack/frame"
)

// Filter selects frames. The zero value selects all; what is set must match, in either direction.
type Filter struct {
	Net  netip.Prefix // an address or subnet, of IPv4, IPv6 or ARP
	Port uint16       // of TCP, UDP or SCTP; later fragments have none
}

// window is how much of a frame the filter looks at: Ethernet, two VLAN tags, IPv6 with usual extension headers, ports.
const window = 256

// matches reports whether the frame made of parts is selected.
func (f *Filter) matches(parts [][]byte) bool {
	if *f == (Filter{}) {
		return true
	}
	var gathered [window]byte
	b := gathered[:0]
	if len(parts) > 0 && (len(parts) == 1 || len(parts[0]) >= window) {
		b = parts[0]
	} else {
		for _, p := range parts {
			b = append(b, p[:min(len(p), window-len(b))]...)
		}
	}
	var e ends
	if !e.read(b) {
		return false
	}
	if f.Net.IsValid() && !f.Net.Contains(e.src) && !f.Net.Contains(e.dst) {
		return false
	}
	return f.Port == 0 || e.ports && (e.srcPort == f.Port || e.dstPort == f.Port)
}

// ends are the two ends of a packet.
type ends struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	ports            bool
}

// read finds the ends of the frame that begins with b. Unlike frame.Parse it takes what is there of a frame that is cut off or
// contradicts itself: a capture is how one finds out about those.
func (e *ends) read(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	ether, at := binary.BigEndian.Uint16(b[12:]), 14
	for (ether == frame.EtherVLAN || ether == frame.EtherQinQ) && len(b) >= at+4 {
		ether = binary.BigEndian.Uint16(b[at+2:])
		at += 4
	}
	b = b[at:]
	switch {
	case ether == frame.EtherIPv4 && len(b) >= 20:
		e.src, e.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		if binary.BigEndian.Uint16(b[6:])&0x1fff == 0 {
			e.transport(b[9], b, int(b[0]&15)*4)
		}
	case ether == frame.EtherIPv6 && len(b) >= 40:
		e.src, e.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		e.extensions(b[6], b, 40)
	case ether == frame.EtherARP && len(b) >= 28:
		e.src, e.dst = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	default:
		return false
	}
	return true
}

// extensions walks the IPv6 extension headers at b[at:] (RFC 8200 §4).
func (e *ends) extensions(next uint8, b []byte, at int) {
	const hopByHop, routing, fragment, destination = 0, 43, 44, 60
	for len(b) >= at+8 {
		switch next {
		case hopByHop, routing, destination:
			next, at = b[at], at+(int(b[at+1])+1)*8
		case fragment:
			if binary.BigEndian.Uint16(b[at+2:])&^7 != 0 {
				return
			}
			next, at = b[at], at+8
		default:
			e.transport(next, b, at)
			return
		}
	}
	e.transport(next, b, at)
}

func (e *ends) transport(proto uint8, b []byte, at int) {
	switch proto {
	case frame.ProtoTCP, frame.ProtoUDP, frame.ProtoSCTP:
		if len(b) >= at+4 {
			e.srcPort, e.dstPort, e.ports = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:]), true
		}
	}
}
