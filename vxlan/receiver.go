package vxlan

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Handler takes the inner frames. It is called on the receiver's thread; the frame's bytes stay put until the receiver's next Ready.
type Handler interface {
	// Receive takes an inner frame of network v that came from peer. The frame is not parsed yet. Its Checksum is
	// Verified where the outer UDP checksum vouches for all of it.
	Receive(v VNI, peer *Peer, f *frame.Frame)
}

const (
	batch      = 32 // messages per recvmmsg
	bufferLen  = 65536 + frame.Headroom
	controlLen = 64
)

// Receiver is one receiving socket of a tunnel, served by one thread (it is a loop.Source).
type Receiver struct {
	t       *Tunnel
	sock    int
	handler Handler
	frame   frame.Frame
	last    sender

	headers  [batch]mmsghdr
	iovecs   [batch]unix.Iovec
	names    [batch]unix.RawSockaddrInet6
	controls [batch][controlLen]byte
	buffers  []byte
}

// sender remembers who sent the last datagram: most come from the same peer as the one before.
type sender struct {
	name unix.RawSockaddrInet6
	peer *Peer
	all  *map[netip.Addr]*Peer
}

// Receiver returns the receiver for the tunnel's socket i, which hands frames to h.
func (t *Tunnel) Receiver(i int, h Handler) *Receiver {
	r := &Receiver{t: t, sock: t.socks[i], handler: h, buffers: make([]byte, batch*bufferLen)}
	for i := range r.headers {
		b := r.buffers[i*bufferLen:][frame.Headroom:bufferLen]
		r.iovecs[i].Base = &b[0]
		r.iovecs[i].SetLen(len(b))
		m := &r.headers[i].hdr
		m.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		m.Iov = &r.iovecs[i]
		m.SetIovlen(1)
		m.Control = &r.controls[i][0]
		m.Namelen = unix.SizeofSockaddrInet6
		m.SetControllen(controlLen)
	}
	return r
}

// FD returns the socket.
func (r *Receiver) FD() int { return r.sock }

// Ready receives one batch and hands its frames on.
func (r *Receiver) Ready() (frames int, open bool) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.sock), uintptr(unsafe.Pointer(&r.headers[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno != unix.EBADF
	}
	for i := range int(n) {
		frames += r.message(i)
		m := &r.headers[i].hdr
		m.Namelen = unix.SizeofSockaddrInet6
		m.SetControllen(controlLen)
	}
	return frames, true
}

// message takes the datagrams of message i apart, and returns how many there were.
func (r *Receiver) message(i int) int {
	h := &r.headers[i]
	size := int(h.len)
	switch {
	case h.hdr.Flags&unix.MSG_TRUNC != 0:
		r.t.Drops.Add(drop.TunnelTruncated, 1)
		return 1
	case size == 0:
		r.t.Drops.Add(drop.BadVXLAN, 1)
		return 1
	}
	buf := r.buffers[i*bufferLen:][:bufferLen]
	segment, superframe := size, frame.Offload{}
	if s := r.segmentSize(i); s > 0 && s < size {
		if superframe = uncut(buf[frame.Headroom:][:size], s); superframe.GSO == frame.GSONone {
			segment = s
		}
	}
	n := (size + segment - 1) / segment
	peer := r.peer(&r.names[i])
	if peer == nil {
		r.t.Drops.Add(drop.UnknownVTEP, n)
		return n
	}
	peer.RxMessages.Add(1)
	peer.RxFrames.Add(uint64(n))
	peer.RxBytes.Add(uint64(size))
	if n > 1 {
		// The kernel coalesces only datagrams with an outer checksum that it has verified, or that never left this host's
		// memory (udp_gro_receive_segment in net/ipv4/udp_offload.c): it covered the inner frames as well.
		superframe.Checksum = frame.Verified
	}
	for at := 0; at < size; at += segment {
		r.datagram(peer, buf, frame.Headroom+at, min(segment, size-at), superframe)
	}
	return n
}

// datagram hands on the frame of the datagram of n bytes at buf[at:].
func (r *Receiver) datagram(peer *Peer, buf []byte, at, n int, o frame.Offload) {
	v, reason := ParseHeader(buf[at : at+n])
	if reason != drop.None {
		r.t.Drops.Add(reason, 1)
		return
	}
	r.frame.Set(buf, at+HeaderLen, n-HeaderLen)
	r.frame.Offload = o
	r.handler.Receive(v, peer, &r.frame)
}

// segmentSize returns the UDP_GRO control message of message i, 0 if there is none.
func (r *Receiver) segmentSize(i int) int {
	left := r.controls[i][:min(int(r.headers[i].hdr.Controllen), controlLen)]
	for len(left) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&left[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(left) {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && n >= unix.CmsgLen(2) {
			return int(binary.NativeEndian.Uint16(left[unix.CmsgLen(0):]))
		}
		left = left[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(left)):]
	}
	return 0
}

// uncut tells one datagram with an inner UDP superframe from a run of datagrams: a kernel VXLAN device behind a veth hands such over
// whole, and UDP_GRO then tells the size of the *inner* segments. The superframe gives itself away by an IP header that claims more
// than the first segment's bytes. It returns how to cut it, or a plain Offload for a run of datagrams.
func uncut(datagram []byte, segment int) frame.Offload {
	const l3 = HeaderLen + 14
	if len(datagram) < l3+40 || segment < 8 {
		return frame.Offload{}
	}
	ip, header, length := datagram[l3:], 0, 0
	switch binary.BigEndian.Uint16(datagram[l3-2:]) {
	case frame.EtherIPv4:
		header, length = int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	case frame.EtherIPv6:
		header, length = 40, 40+int(binary.BigEndian.Uint16(ip[4:]))
	}
	if length <= segment-l3 {
		return frame.Offload{}
	}
	start := uint16(l3 - HeaderLen + header)
	return frame.Offload{GSO: frame.GSOUDP, Size: uint16(segment), Checksum: frame.Partial, Start: start, Offset: 6, HdrLen: start + 8}
}

// peer returns the peer of an outer source, nil if there is none.
func (r *Receiver) peer(name *unix.RawSockaddrInet6) *Peer {
	all := r.t.peers.Load()
	from := *name
	from.Port = 0 // differs by flow
	if from.Family == unix.AF_INET {
		// Bytes behind the eight of a sockaddr_in are left over from others.
		from.Addr = [16]byte{}
		from.Scope_id = 0
	}
	if r.last.name == from && r.last.all == all {
		return r.last.peer
	}
	var addr netip.Addr
	if from.Family == unix.AF_INET {
		var four [4]byte
		binary.NativeEndian.PutUint32(four[:], from.Flowinfo)
		addr = netip.AddrFrom4(four)
	} else {
		addr = netip.AddrFrom16(from.Addr)
	}
	r.last = sender{name: from, peer: (*all)[addr], all: all}
	return r.last.peer
}
