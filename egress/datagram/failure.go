package datagram

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// quoteRoom is enough for what an ICMP error quotes (RFC 4443 §2.4 (c)).
const quoteRoom = 1280

// ICMP and ICMPv6 types and codes of errors (RFC 792, RFC 1812 §5.2.7.1, RFC 4443 §3).
const (
	unreachable4  = 3
	fragNeeded4   = 4
	timeExceeded4 = 11

	unreachable6  = 1
	tooBig6       = 2
	timeExceeded6 = 3
	parameter6    = 4
	unrecognized6 = 1
)

// failures hands on the ICMP errors that came for m.
func (r *reader) failures(m *mapping) {
	h := &r.headers[0].hdr
	for range errorBatch {
		got, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(m.sock), uintptr(unsafe.Pointer(h)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errno != 0 {
			return
		}
		b, a, name := r.received(0, int(got))
		if reason := r.failure(m, &a.failure, sockaddr(name), b); reason != drop.None {
			m.key.net.Drops.Add(reason, 1)
		}
		r.reset(0)
	}
}

// failure hands on one error about what was sent to dst. It quotes b: what stood behind the UDP header, or from the ICMP header on.
func (r *reader) failure(m *mapping, e *failure, dst netip.AddrPort, b []byte) drop.Reason {
	say, code := e.meaning(m.key.addr.Is4())
	if say == sayNothing {
		return drop.None
	}
	about := m.about(e, dst)
	out := m.key.net.router()
	switch {
	case about == nil:
		return drop.Unsolicited
	case out == nil:
		return drop.RouterFault
	case !r.t.errors.Allow(m.key.addr):
		return drop.None
	}
	from := e.offender
	if v4 := m.key.addr.Is4(); !from.IsValid() || from.IsUnspecified() || from.Is4() != v4 {
		var ok bool
		if from, ok = out.Gateway(!v4); !ok {
			return drop.NoRoute
		}
	}
	quote := m.rebuild(r.quote[:], about, b)
	switch say {
	case sayUnreachable:
		return r.writer.Unreachable(out, from, code, quote)
	case sayTimeExceeded:
		return r.writer.TimeExceeded(out, from, quote)
	}
	about.told.Store(e.info)
	return r.writer.TooBig(out, from, int(e.info), quote)
}

// about returns the remote that an error is about, nil if there is none. The kernel's own errors about unconnected IPv4 sockets lack the
// port (ip_local_error in net/ipv4/ip_output.c).
func (m *mapping) about(e *failure, dst netip.AddrPort) *remote {
	if e.origin == originLocal && m.key.proto == frame.ProtoUDP && dst.Port() == 0 {
		m.out.Lock() // whoever caused it has noted whom it wrote to
		defer m.out.Unlock()
		if r := m.refused; r != nil && r.wire.Addr() == dst.Addr() {
			return r
		}
		return nil
	}
	if m.key.proto != frame.ProtoUDP {
		dst = netip.AddrPortFrom(dst.Addr(), 0)
	}
	return m.known(dst)
}

// say is what to tell a container.
type say uint8

const (
	sayNothing say = iota
	sayUnreachable
	sayTimeExceeded
	sayTooBig
)

// meaning returns what e says.
func (e *failure) meaning(v4 bool) (say, packet.Code) {
	switch {
	case e.origin == originLocal && e.errno == uint32(unix.EMSGSIZE):
		return sayTooBig, 0
	case e.origin == originICMP && v4:
		return e.meaning4()
	case e.origin == originICMP6 && !v4:
		return e.meaning6()
	}
	return sayNothing, 0
}

func (e *failure) meaning4() (say, packet.Code) {
	switch e.kind {
	case timeExceeded4:
		if e.code == 0 { // not that of reassembly
			return sayTimeExceeded, 0
		}
	case unreachable4:
		switch e.code {
		case fragNeeded4:
			return sayTooBig, 0
		case 2:
			return sayUnreachable, packet.ProtocolUnreachable
		case 3:
			return sayUnreachable, packet.PortUnreachable
		case 9, 10, 13:
			return sayUnreachable, packet.Prohibited
		case 0, 6, 11:
			return sayUnreachable, packet.NetUnreachable
		}
		return sayUnreachable, packet.HostUnreachable
	}
	return sayNothing, 0
}

func (e *failure) meaning6() (say, packet.Code) {
	switch e.kind {
	case timeExceeded6:
		if e.code == 0 {
			return sayTimeExceeded, 0
		}
	case tooBig6:
		return sayTooBig, 0
	case parameter6:
		if e.code == unrecognized6 {
			return sayUnreachable, packet.ProtocolUnreachable
		}
	case unreachable6:
		switch e.code {
		case 0:
			return sayUnreachable, packet.NetUnreachable
		case 1, 5, 6:
			return sayUnreachable, packet.Prohibited
		case 4:
			return sayUnreachable, packet.PortUnreachable
		}
		return sayUnreachable, packet.HostUnreachable
	}
	return sayNothing, 0
}

// rebuild writes to dst the container's packet as the offender saw it, as far as that is known, and returns it. Its TTL was about to end
// where it was the reason, and does not matter elsewhere.
func (m *mapping) rebuild(dst []byte, r *remote, b []byte) []byte {
	last := r.last.Load()
	size, id, check, tos := uint16(last>>48), uint16(last>>32), uint16(last>>16), uint8(last)
	ip, n := dst, 0
	clear(ip[:ipv6Len+l4Len])
	to := r.dst.Addr()
	if to.Is4() {
		n = ipv4Len
		from, to := m.key.addr.As4(), to.As4()
		ip[0], ip[1], ip[8], ip[9] = 0x45, tos, 1, m.key.proto
		binary.BigEndian.PutUint16(ip[2:], size)
		binary.BigEndian.PutUint16(ip[4:], id)
		copy(ip[12:], from[:])
		copy(ip[16:], to[:])
		binary.BigEndian.PutUint16(ip[10:], ^frame.Sum(ip[:ipv4Len], 0))
	} else {
		n = ipv6Len
		from, to := m.key.addr.As16(), to.As16()
		ip[0], ip[1], ip[6], ip[7] = 0x60|tos>>4, tos<<4, m.key.proto, 1
		binary.BigEndian.PutUint16(ip[4:], size-ipv6Len)
		copy(ip[8:], from[:])
		copy(ip[24:], to[:])
	}
	l4 := ip[n:]
	if m.key.proto != frame.ProtoUDP {
		k := copy(l4, b)
		if k < l4Len { // cut off: the kernel sees to it that it is not
			return dst[:0]
		}
		was := binary.BigEndian.Uint16(l4[4:])
		binary.BigEndian.PutUint16(l4[2:], frame.Update(binary.BigEndian.Uint16(l4[2:]), was, m.key.port))
		binary.BigEndian.PutUint16(l4[4:], m.key.port)
		return dst[:n+k]
	}
	binary.BigEndian.PutUint16(l4, m.key.port)
	binary.BigEndian.PutUint16(l4[2:], r.dst.Port())
	binary.BigEndian.PutUint16(l4[4:], size-uint16(n))
	binary.BigEndian.PutUint16(l4[6:], check)
	return dst[:n+l4Len+copy(l4[l4Len:], b)]
}
