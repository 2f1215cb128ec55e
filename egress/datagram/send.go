package datagram

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

const (
	echo4 = 8 // RFC 792
	echo6 = 128

	ipv4Len = 20
	ipv6Len = 40
	l4Len   = 8 // of UDP, ICMP and ICMPv6 alike

	maxSegments  = 64  // UDP_MAX_SEGMENTS of all kernels that have UDP_SEGMENT
	mostSegments = 128 // that the kernel of a container makes
)

// outgoing is what a container sends: its packet, read.
type outgoing struct {
	key      key
	dst      netip.AddrPort
	ttl, tos uint8
	df       bool   // IPv4 and whole: not to be fragmented
	size     int    // of the largest IP packet, in bytes, options left out
	segment  int    // payload bytes of each datagram; 0: one datagram
	header   uint64 // for quotes
	payload  []byte
	packet   []byte // from the IP header on
}

// Datagram sends a container's UDP datagram, superframe of datagrams or echo request to where it belongs. It does not wait, and keeps
// nothing of f.
func (n *Network) Datagram(f *frame.Frame) drop.Reason {
	var d outgoing
	if reason := d.read(n, f); reason != drop.None {
		return reason
	}
	var v verdict
	m := n.t.shard(&d.key).find(&d.key)
	if m == nil || !m.send(&d, netip.AddrPort{}, &v) {
		v = n.begin(&d)
	}
	if v.told {
		n.tell(&d, v.code)
	}
	return v.reason
}

// verdict is what became of a datagram.
type verdict struct {
	reason drop.Reason
	told   bool // the container is told, with code
	code   packet.Code
}

// begin sends the first datagram of a flow.
func (n *Network) begin(d *outgoing) verdict {
	wire, ok := n.admit(d.key.proto, d.dst)
	switch {
	case !ok:
		return verdict{drop.Forbidden, true, packet.Prohibited}
	case wire.Addr().Is4() != d.dst.Addr().Is4():
		return verdict{drop.NoRoute, true, packet.HostUnreachable}
	case !n.t.limit.Take(n.name, d.key.addr):
		return verdict{reason: drop.FlowLimit}
	}
	for {
		m, reason := n.open(&d.key)
		if m == nil {
			n.t.limit.Give(n.name, d.key.addr)
			return unopened(reason)
		}
		var v verdict
		if m.send(d, wire, &v) {
			return v
		}
	}
}

// unopened is what a container is told of a socket that could not be opened.
func unopened(reason drop.Reason) verdict {
	switch reason {
	case drop.Forbidden:
		return verdict{reason, true, packet.Prohibited}
	case drop.NoRoute:
		return verdict{reason, true, packet.NetUnreachable}
	}
	return verdict{reason: reason}
}

// tell has the container know why its datagram went nowhere.
func (n *Network) tell(d *outgoing, c packet.Code) {
	out := n.router()
	if out == nil || !n.t.errors.Allow(d.key.addr) {
		return
	}
	gateway, ok := out.Gateway(!d.key.addr.Is4())
	if !ok {
		return
	}
	w := n.t.writers.Get().(*packet.Writer)
	defer n.t.writers.Put(w)
	n.count(w.Unreachable(out, gateway, c, d.packet))
}

// count counts what a container's port or router refused of what came for it.
func (n *Network) count(r drop.Reason) {
	if r != drop.None {
		n.Drops.Add(r, 1)
	}
}

// read reads the container's packet.
func (d *outgoing) read(n *Network, f *frame.Frame) drop.Reason {
	b := f.Bytes()
	if f.L4 == 0 || f.Fragment {
		return drop.NotForwarded
	}
	if !f.Verify() {
		return drop.BadChecksum
	}
	d.packet = b[f.L3:f.End]
	ip, l4 := d.packet, b[f.L4:f.End]
	var id uint16
	switch f.Ether {
	case frame.EtherIPv4:
		d.ttl, d.tos, d.df = ip[8], ip[1], ip[6]&0x40 != 0
		id = binary.BigEndian.Uint16(ip[4:])
	case frame.EtherIPv6:
		if f.L4 != f.L3+ipv6Len { // extension headers mean something to somebody, who would not get them
			return drop.NotForwarded
		}
		d.ttl, d.tos = ip[7], ip[0]<<4|ip[1]>>4
	}
	if d.ttl <= 1 {
		return drop.TTLExpired
	}
	d.key = key{net: n, addr: f.SrcAddr(), proto: f.Proto}
	switch f.Proto {
	case frame.ProtoUDP:
		d.key.port = binary.BigEndian.Uint16(l4)
		d.dst = netip.AddrPortFrom(f.DstAddr(), binary.BigEndian.Uint16(l4[2:]))
		d.payload = l4[l4Len:binary.BigEndian.Uint16(l4[4:])]
		d.size = l4Len + len(d.payload)
		if f.GSO == frame.GSOUDP && int(f.Size) < len(d.payload) {
			d.segment = int(f.Size)
			d.size -= len(d.payload) - d.segment
			if len(d.payload) > mostSegments*d.segment {
				return drop.TooLarge
			}
		}
	case frame.ProtoICMP, frame.ProtoICMPv6:
		if l4[0] != echo4 && f.Proto == frame.ProtoICMP || l4[0] != echo6 && f.Proto == frame.ProtoICMPv6 || l4[1] != 0 {
			return drop.NotForwarded
		}
		d.key.port = binary.BigEndian.Uint16(l4[4:])
		d.dst = netip.AddrPortFrom(f.DstAddr(), 0)
		d.payload, d.size = l4, len(l4)
	default:
		return drop.NotForwarded
	}
	if d.size += ipv6Len; f.Ether == frame.EtherIPv4 {
		d.size -= ipv6Len - ipv4Len
	}
	d.header = uint64(uint16(d.size))<<48 | uint64(id)<<32 | uint64(binary.BigEndian.Uint16(l4[6:]))<<16 | uint64(d.tos)
	return drop.None
}

// send sends d, and reports whether it could: not where the mapping has ended, or has no such flow and wire, where a new one leads, is not
// valid. A valid wire has been taken from the limit, and is given back where the flow is not new.
func (m *mapping) send(d *outgoing, wire netip.AddrPort, v *verdict) bool {
	m.out.Lock()
	defer m.out.Unlock()
	if m.closed {
		return false
	}
	r := m.lastOut
	if r == nil || r.dst != d.dst {
		r = m.remotes[d.dst]
	}
	n := m.key.net
	switch {
	case r == nil && !wire.IsValid():
		return false
	case r == nil:
		r = m.add(d.dst, wire)
	case wire.IsValid(): // another thread was faster
		n.t.limit.Give(n.name, m.key.addr)
	}
	m.lastOut = r
	r.last.Store(d.header)
	packets, bytes, errno := m.transmit(d, r)
	if packets > 0 {
		r.sent.Store(n.t.clock())
		r.txPackets.Add(uint64(packets))
		r.txBytes.Add(uint64(bytes))
	}
	*v = m.judge(r, errno)
	return true
}

// judge names what an error of a send means.
func (m *mapping) judge(r *remote, errno syscall.Errno) verdict {
	switch errno {
	case 0:
		return verdict{}
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return verdict{reason: drop.QueueFull}
	case unix.EMSGSIZE: // the socket's error queue says how large it may be
		m.refused = r
		m.pending.Store(true)
		return verdict{reason: drop.TooBig}
	case unix.ENETUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL: // the last: this host has no address of that family to send from
		return verdict{drop.NoRoute, true, packet.NetUnreachable}
	case unix.EHOSTUNREACH:
		return verdict{drop.NoRoute, true, packet.HostUnreachable}
	case unix.EACCES, unix.EPERM: // a firewall of the host
		return verdict{drop.Forbidden, true, packet.Prohibited}
	}
	return verdict{reason: drop.SendFailed}
}

// transmit sends d to r, and returns how many datagrams left, and the payload in them.
func (m *mapping) transmit(d *outgoing, r *remote) (packets, bytes int, errno syscall.Errno) {
	if m.key.addr.Is4() {
		m.fragment(d.df)
	}
	if d.segment == 0 {
		if errno = m.sendmsg(d, r, d.payload, 0); errno != 0 {
			return 0, 0, errno
		}
		return 1, len(d.payload), 0
	}
	single := m.single
	for rest := d.payload; len(rest) > 0; {
		b, n := rest, 0
		if single {
			b = b[:min(d.segment, len(b))]
		} else if b = b[:min(maxSegments*d.segment, len(b))]; len(b) > d.segment {
			n = d.segment
		}
		e := m.sendmsg(d, r, b, n)
		if n > 0 && (e == unix.EIO || e == unix.EINVAL || e == unix.EMSGSIZE) {
			m.single = e == unix.EIO // a device without checksum offload; otherwise they may be too big, and to be fragmented
			single = true
			continue
		}
		if e == unix.EMSGSIZE { // the others are as large
			return packets, bytes, e
		}
		rest = rest[len(b):]
		if e != 0 {
			errno = e
			continue
		}
		bytes += len(b)
		packets += max(1, (len(b)+d.segment-1)/d.segment)
	}
	return packets, bytes, errno
}

// fragment sets whether the host, and the routers behind it, may fragment what leaves: where the container does not allow it, the host
// goes by the path's MTU as it knows it.
func (m *mapping) fragment(df bool) {
	want := unix.IP_PMTUDISC_DONT
	if df {
		want = unix.IP_PMTUDISC_DO
	}
	if m.discover != want && unix.SetsockoptInt(m.sock, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, want) == nil {
		m.discover = want
	}
}

// whole reports whether the host must not fragment an IPv6 packet, as no router does. What is larger than the network's MTU, or than the
// path's as the container was told it, was put together of fragments that the container made, and leaves in such again.
func (m *mapping) whole(d *outgoing, r *remote) bool {
	most := int(r.told.Load())
	if out := m.key.net.router(); most == 0 && out != nil {
		most = out.MTU()
	}
	return d.size <= most
}

// sendmsg sends b, in datagrams of segment bytes if that is not 0.
func (m *mapping) sendmsg(d *outgoing, r *remote, b []byte, segment int) syscall.Errno {
	var c controls
	if m.key.addr.Is4() {
		c.put(unix.IPPROTO_IP, unix.IP_TTL, int32(d.ttl-1))
		c.put(unix.IPPROTO_IP, unix.IP_TOS, int32(d.tos))
	} else {
		c.put(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int32(d.ttl-1))
		c.put(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int32(d.tos))
		if m.whole(d, r) {
			c.put(unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
		}
	}
	if segment > 0 {
		c.segment(segment)
	}
	var name [unix.SizeofSockaddrInet6]byte
	var h unix.Msghdr
	var iov unix.Iovec
	h.Namelen = uint32(putSockaddr(&name, r.wire))
	h.Name = &name[0]
	iov.Base = unsafe.SliceData(b)
	iov.SetLen(len(b))
	h.Iov = &iov
	h.SetIovlen(1)
	h.Control = &c.bytes()[0]
	h.SetControllen(c.n)
	for try := 1; ; try++ {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(m.sock), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT)
		if errno == 0 || try >= tries(errno) {
			return errno
		}
	}
}

// tries returns how often to send in face of an error. A socket reports an ICMP error about an earlier datagram instead of sending, once,
// and again with each one that is read from its error queue while others wait there (sock_dequeue_err_skb in net/core/skbuff.c).
func tries(errno syscall.Errno) int {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.EPROTO, unix.ENOPROTOOPT: // hardly ever about what is sent
		return 16
	case unix.ENETUNREACH, unix.EACCES, unix.EPERM:
		return 4
	case unix.EMSGSIZE: // each try leaves a word in the error queue
		return 2
	}
	return 1
}
