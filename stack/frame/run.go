package frame

import "encoding/binary"

// run is a superframe under construction: wire frames of one flow that follow on one another. It borrows the first frame's
// headers, from seal to restore; before and after they are as they arrived, since a flooded frame is part of many runs, and of
// datagrams that are yet to be sent.
type run struct {
	sink   Sink
	head   []byte // the first frame's headers
	whole  []byte // the first frame with any padding, should it stay alone
	first  Offload
	off    Offload // the superframe's
	l3, l4 int
	total  int                    // length of the joined IP packet
	size   int                    // payload of the first frame, and of all but the last
	seq    uint32                 // TCP sequence number that comes next
	id     uint16                 // IPv4 identification that comes next, unless fixed
	fixed  bool                   // IPv4 with DF, whose identification means nothing (RFC 6864 §4.1), or IPv6
	closed bool                   // takes no more
	last   byte                   // PSH and FIN of the last frame
	saved  [ipv4Len + tcpLen]byte // what seal overwrites: from the IP header's first byte, and from the transport header's
	n      int
	parts  [maxParts][]byte
}

// begin makes r a run of f alone.
func (r *run) begin(f *Frame, to Sink, kind GSO) {
	b := f.Bytes()
	end := f.End
	r.sink, r.whole, r.head, r.first = to, b, b[:f.Payload:f.Payload], f.Offload
	r.l3, r.l4 = int(f.L3), int(f.L4)
	r.total, r.size = end-r.l3, end-int(f.Payload)
	r.off = Offload{GSO: kind, Checksum: Partial, Size: uint16(r.size), Start: f.L4, Offset: tcpCheck, HdrLen: f.Payload}
	if kind == GSOUDP {
		r.off.Offset = udpCheck
	} else {
		r.seq = binary.BigEndian.Uint32(b[r.l4+4:]) + uint32(r.size)
	}
	r.fixed = true
	if f.Ether == EtherIPv4 {
		r.fixed = b[r.l3+6]&0x40 != 0
		r.id = binary.BigEndian.Uint16(b[r.l3+4:]) + 1
	}
	r.closed, r.last = false, 0
	r.parts[0], r.n = b[:end:end], 1
}

// extend joins f to the run, and reports whether it could. f is of the run's kind and of its flow's hash.
func (r *run) extend(f *Frame) bool {
	b := f.buf[f.head : f.head+f.End]
	n := len(r.head)
	if int(f.Payload) != n || int(f.L4) != r.l4 || int(f.L3) != r.l3 {
		return false
	}
	size := len(b) - n
	if size > r.size || r.total+size > maxTotal {
		return false
	}
	if !r.sameLink(b) || !r.sameNetwork(b[r.l3:r.l4:r.l4]) || !r.sameTransport(b[r.l4:n:n]) {
		return false
	}
	r.parts[r.n&(maxParts-1)] = b[n:len(b):len(b)]
	r.n++
	r.total += size
	r.seq += uint32(size)
	r.id++
	r.closed = size < r.size || r.last != 0 || r.n == maxParts
	return true
}

// sameLink compares the Ethernet header and any VLAN tags, by words that overlap.
func (r *run) sameLink(b []byte) bool {
	a, b := r.head[:r.l3], b[:r.l3]
	n := len(a)
	if n < etherLen || len(b) < n {
		return false
	}
	d := word(a) ^ word(b) | word(a[6:]) ^ word(b[6:])
	if n > etherLen { // one tag or two
		d |= word(a[n-8:]) ^ word(b[n-8:])
	}
	return d == 0
}

// sameNetwork compares the IP header but for what may differ: length, identification and checksum.
func (r *run) sameNetwork(b []byte) bool {
	a := r.head[r.l3:r.l4]
	if r.off.GSO == GSOTCP6 || a[0]>>4 == 6 {
		return sameIPv6(a, b)
	}
	if len(a) < ipv4Len || len(b) < ipv4Len {
		return false
	}
	// Version and TOS; flags, fragment offset, TTL and protocol; addresses.
	d := uint64(half(a)^half(b)) | uint64(quad(a[6:])^quad(b[6:])) | word(a[12:]) ^ word(b[12:])
	if d != 0 || !r.fixed && binary.BigEndian.Uint16(b[4:]) != r.id {
		return false
	}
	return len(a) == ipv4Len || string(a[ipv4Len:]) == string(b[ipv4Len:])
}

// sameIPv6 compares two IPv6 headers and their extension headers but for the payload length.
func sameIPv6(a, b []byte) bool {
	if len(a) < ipv6Len || len(b) < ipv6Len {
		return false
	}
	d := uint64(quad(a)^quad(b)) | uint64(half(a[6:])^half(b[6:])) |
		word(a[8:]) ^ word(b[8:]) | word(a[16:]) ^ word(b[16:]) |
		word(a[24:]) ^ word(b[24:]) | word(a[32:]) ^ word(b[32:])
	return d == 0 && (len(a) == ipv6Len || string(a[ipv6Len:]) == string(b[ipv6Len:]))
}

// sameTransport compares the transport header but for what may differ: UDP length and checksum; TCP checksum, PSH and FIN,
// and the sequence number, which must be the next. It notes the PSH and FIN of a segment that it accepts.
func (r *run) sameTransport(b []byte) bool {
	a := r.head[r.l4:]
	if len(a) < udpLen || len(b) < udpLen {
		return false
	}
	if r.off.GSO == GSOUDP {
		return quad(a) == quad(b)
	}
	if len(a) < tcpLen || len(b) < tcpLen {
		return false
	}
	// Ports; acknowledgement; data offset and flags; window; urgent pointer.
	d := quad(a) ^ quad(b) | quad(a[8:]) ^ quad(b[8:]) | uint32(a[12]^b[12]) | uint32((a[13]^b[13])&^(flagPSH|flagFIN)) |
		uint32(half(a[14:])^half(b[14:])) | uint32(half(a[18:])^half(b[18:]))
	if d != 0 || binary.BigEndian.Uint32(b[4:]) != r.seq {
		return false
	}
	if len(a) > tcpLen && string(a[tcpLen:]) != string(b[tcpLen:]) {
		return false
	}
	r.last = b[13] & (flagPSH | flagFIN)
	return true
}

// seal writes the superframe's lengths, flags and checksums into the first frame's headers, and returns its Offload. A run
// of one frame stays what it was.
func (r *run) seal() *Offload {
	if r.n == 1 {
		r.parts[0] = r.whole
		return &r.first
	}
	ip, l4 := r.head[r.l3:], r.head[r.l4:]
	copy(r.saved[:ipv4Len], ip)
	copy(r.saved[ipv4Len:], l4)
	transport := r.total - (r.l4 - r.l3)
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(r.total))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^Sum(ip[:r.l4-r.l3], 0))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(r.total-ipv6Len))
	}
	proto := uint32(ProtoTCP)
	if r.off.GSO == GSOUDP {
		proto = ProtoUDP
		binary.BigEndian.PutUint16(l4[4:], uint16(transport))
	} else {
		l4[13] |= r.last
	}
	addrs := ip[12:20]
	if ip[0]>>4 == 6 {
		addrs = ip[8:40]
	}
	binary.BigEndian.PutUint16(l4[r.off.Offset:], fold32(uint32(Sum(addrs, 0))+proto+uint32(transport)))
	return &r.off
}

// restore undoes what seal did to the first frame's headers.
func (r *run) restore() {
	if r.n > 1 {
		copy(r.head[r.l3:r.l4], r.saved[:ipv4Len])
		copy(r.head[r.l4:], r.saved[ipv4Len:])
	}
}

// word, quad and half load eight, four and two bytes for comparison, in whatever order is fastest.
func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func quad(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func half(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
