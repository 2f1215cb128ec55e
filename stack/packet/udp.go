package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

const (
	udpCheck    = 6
	maxSegments = 64 // UDP_MAX_SEGMENTS of all kernels: what a container's kernel takes apart

	echoReply4 = 0   // RFC 792
	echoReply6 = 129 // RFC 4443 §4.2
)

// UDP sends payload as one datagram or, where segment is not 0, as datagrams of that size, of which the last may be shorter: in
// superframes as far as those go. A datagram that exceeds mtu is sent in fragments, unless h forbids that: TooBig.
func (w *Writer) UDP(to Sender, h Header, payload []byte, segment, mtu int) drop.Reason {
	v4, ok := both(h.Src.Addr(), h.Dst.Addr())
	if !ok {
		return drop.NoRoute
	}
	if h.TTL == 0 {
		h.TTL = defaultTTL
	}
	if segment <= 0 || segment >= len(payload) {
		return w.udp(to, &h, payload, mtu)
	}
	ip := ipv6Len
	if v4 {
		ip = ipv4Len
	}
	run := segment // bytes to send at once
	if ip+l4Len+segment <= mtu {
		run = segment * min(maxSegments, (maxPacket-ip-l4Len)/segment)
	}
	first := drop.None
	for len(payload) > 0 {
		b := payload[:min(run, len(payload))]
		payload = payload[len(b):]
		var reason drop.Reason
		if len(b) > segment {
			reason = w.superframe(to, &h, b, segment)
		} else {
			reason = w.udp(to, &h, b, mtu)
		}
		if first == drop.None {
			first = reason
		}
	}
	return first
}

// udp sends one datagram.
func (w *Writer) udp(to Sender, h *Header, payload []byte, mtu int) drop.Reason {
	w.ports(h, l4Len+len(payload))
	fits, reason := w.fits(h, len(payload), mtu)
	if reason != drop.None {
		return reason
	}
	pseudo := pseudoSum(h, frame.ProtoUDP, l4Len+len(payload))
	if fits {
		binary.BigEndian.PutUint16(w.l4[udpCheck:], pseudo)
		w.offload = frame.Offload{Checksum: frame.Partial, Offset: udpCheck}
		return w.whole(to, h, frame.ProtoUDP, payload, 1)
	}
	check := ^frame.Sum(payload, frame.Sum(w.l4[:], pseudo))
	if check == 0 { // RFC 768: zero means none
		check = 0xffff
	}
	binary.BigEndian.PutUint16(w.l4[udpCheck:], check)
	return w.fragments(to, h, frame.ProtoUDP, payload, mtu)
}

// superframe sends datagrams of segment bytes as one, for which there is room.
func (w *Writer) superframe(to Sender, h *Header, payload []byte, segment int) drop.Reason {
	n := l4Len + len(payload)
	w.ports(h, n)
	binary.BigEndian.PutUint16(w.l4[udpCheck:], pseudoSum(h, frame.ProtoUDP, n))
	w.offload = frame.Offload{GSO: frame.GSOUDP, Checksum: frame.Partial, Offset: udpCheck, Size: uint16(segment)}
	return w.whole(to, h, frame.ProtoUDP, payload, (len(payload)+segment-1)/segment)
}

// ports writes a UDP header for n bytes, itself included, without a checksum.
func (w *Writer) ports(h *Header, n int) {
	binary.BigEndian.PutUint16(w.l4[:], h.Src.Port())
	binary.BigEndian.PutUint16(w.l4[2:], h.Dst.Port())
	binary.BigEndian.PutUint16(w.l4[4:], uint16(n))
	w.l4[6], w.l4[7] = 0, 0
}

// EchoReply sends the answer to an echo request (ICMP over IPv4, ICMPv6 over IPv6), in fragments if it exceeds mtu.
func (w *Writer) EchoReply(to Sender, src, dst netip.Addr, ttl uint8, id, seq uint16, data []byte, mtu int) drop.Reason {
	v4, ok := both(src, dst)
	if !ok {
		return drop.NoRoute
	}
	if ttl == 0 {
		ttl = defaultTTL
	}
	h := Header{Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0), TTL: ttl}
	fits, reason := w.fits(&h, len(data), mtu)
	if reason != drop.None {
		return reason
	}
	proto, sum := uint8(frame.ProtoICMP), uint16(0)
	w.l4 = [l4Len]byte{echoReply4}
	if !v4 {
		proto, w.l4[0] = frame.ProtoICMPv6, echoReply6
		sum = pseudoSum(&h, proto, l4Len+len(data))
	}
	binary.BigEndian.PutUint16(w.l4[4:], id)
	binary.BigEndian.PutUint16(w.l4[6:], seq)
	binary.BigEndian.PutUint16(w.l4[2:], ^frame.Sum(data, frame.Sum(w.l4[:], sum)))
	if fits {
		w.offload = frame.Offload{Checksum: frame.Verified}
		return w.whole(to, &h, proto, data, 1)
	}
	return w.fragments(to, &h, proto, data, mtu)
}

// fits reports whether n bytes behind the transport header go into one packet. A reason says that they go into none.
func (w *Writer) fits(h *Header, n, mtu int) (bool, drop.Reason) {
	ip, most := ipv6Len, ipv6Len+maxPacket // the length of an IPv6 packet does not count its header
	if h.Src.Addr().Is4() {
		ip, most = ipv4Len, maxPacket
	}
	total := ip + l4Len + n
	switch {
	case total > most:
		return false, drop.TooLarge
	case total <= mtu:
		return true, drop.None
	case h.DF && ip == ipv4Len, mtu < ip+fragmentLen+l4Len: // each fragment but the last has at least eight bytes
		return false, drop.TooBig
	}
	return false, drop.None
}

// whole sends one packet, which is n on the wire: the IP header, w.l4, and body. w.offload is set but for what depends on the
// length of the IP header.
func (w *Writer) whole(to Sender, h *Header, proto uint8, body []byte, n int) drop.Reason {
	ip := ipv6Len
	b := w.head[Room:]
	if h.Src.Addr().Is4() {
		ip = ipv4Len
		id, frag := h.ID, uint16(dontFragment)
		if !h.DF {
			frag = 0
			if id == 0 {
				id = w.take(n)
			}
		}
		putIPv4(b, h, proto, ip+l4Len+len(body), id, frag)
	} else {
		putIPv6(b, h, proto, l4Len+len(body))
	}
	copy(b[ip:], w.l4[:])
	if w.offload.Checksum == frame.Partial {
		w.offload.Start = uint16(Room + ip)
	}
	if w.offload.GSO != frame.GSONone {
		w.offload.HdrLen = uint16(Room + ip + l4Len)
	}
	return w.send(to, h.Dst.Addr(), Room+ip+l4Len, body)
}

// fragments sends w.l4, whose checksum is right, and body in pieces that fit mtu. What follows a refused one is useless and not
// sent.
func (w *Writer) fragments(to Sender, h *Header, proto uint8, body []byte, mtu int) drop.Reason {
	w.offload = frame.Offload{Checksum: frame.Verified}
	v4 := h.Src.Addr().Is4()
	ip, id, id6 := ipv6Len+fragmentLen, h.ID, uint32(0)
	if v4 {
		ip = ipv4Len
		if id == 0 {
			id = w.take(1)
		}
	} else {
		id6 = rand.Uint32() // not to be foretold (RFC 7739)
	}
	room := (mtu - ip) &^ 7
	front := l4Len // bytes of w.l4 in this fragment
	for at := 0; ; {
		n := min(room-front, len(body))
		rest := body[n:]
		b := w.head[Room:]
		if v4 {
			frag := uint16(at / 8)
			if len(rest) > 0 {
				frag |= moreFollow
			}
			putIPv4(b, h, proto, ip+front+n, id, frag)
		} else {
			putIPv6(b, h, nextFrag, fragmentLen+front+n)
			putFragment(b[ipv6Len:], proto, at, len(rest) > 0, id6)
		}
		copy(b[ip:], w.l4[:front])
		if reason := w.send(to, h.Dst.Addr(), Room+ip+front, body[:n]); reason != drop.None || len(rest) == 0 {
			return reason
		}
		at += front + n
		front, body = 0, rest
	}
}

// putFragment writes an IPv6 fragment header.
func putFragment(b []byte, next uint8, at int, more bool, id uint32) {
	b[0], b[1] = next, 0
	field := uint16(at)
	if more {
		field |= 1
	}
	binary.BigEndian.PutUint16(b[2:], field)
	binary.BigEndian.PutUint32(b[4:], id)
}

// send hands over the first n bytes of w.head, and body.
func (w *Writer) send(to Sender, dst netip.Addr, n int, body []byte) drop.Reason {
	w.parts = [2][]byte{w.head[:n], body}
	parts := w.parts[:]
	if len(body) == 0 {
		parts = parts[:1]
	}
	reason := to.Send(dst, &w.offload, parts)
	w.parts[1] = nil
	return reason
}
