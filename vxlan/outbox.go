package vxlan

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
)

const (
	maxMessages = 64    // per outbox and flush
	maxIovecs   = 512   // per outbox and flush
	maxSegments = 64    // UDP_MAX_SEGMENTS of all kernels that have UDP_SEGMENT
	maxDatagram = 65507 // RFC 768 over IPv4: 65535 - 20 - 8; the limit of one segmented send as well
)

// message is a run of datagrams of one size, of which only the last may be shorter, sent in one call.
type message struct {
	iov, iovs int // where its parts lie in the outbox
	segments  int
	size      int // of each datagram but the last
	bytes     int
	closed    bool // ended by a shorter datagram
}

// outbox holds, in order, what one thread is about to send by one path. Parts are not copied.
type outbox struct {
	peer *Peer
	path *path

	messages [maxMessages]message
	iovecs   [maxIovecs]unix.Iovec
	headers  [maxMessages]mmsghdr
	controls [maxMessages]control
	n, parts int
}

// mmsghdr is struct mmsghdr of socket(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// control carries one UDP_SEGMENT: struct cmsghdr, a 16-bit segment size, padding.
type control struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte
}

// full reports whether a datagram more might not fit.
func (b *outbox) full() bool { return b.n == maxMessages || b.parts+2 > maxIovecs }

// add queues one datagram made of head and (unless empty) body. The outbox must not be full.
func (b *outbox) add(head, body []byte) {
	size := len(head) + len(body)
	m := b.open(size)
	b.part(head)
	if len(body) > 0 {
		b.part(body)
	}
	m.iovs = b.parts - m.iov
	m.segments++
	m.bytes += size
}

// open returns the message that a datagram of this size belongs to.
func (b *outbox) open(size int) *message {
	if b.n > 0 {
		m := &b.messages[b.n-1]
		if !m.closed && size <= m.size && m.segments < maxSegments && m.bytes+size <= maxDatagram {
			m.closed = size < m.size
			return m
		}
	}
	m := &b.messages[b.n]
	*m = message{iov: b.parts, size: size, closed: b.peer.noGSO.Load()}
	b.n++
	return m
}

func (b *outbox) part(p []byte) {
	v := &b.iovecs[b.parts]
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	b.parts++
}

// flush sends all messages and empties the outbox.
func (b *outbox) flush(drops *drop.Counters) {
	for i := range b.n {
		b.prepare(i)
	}
	frames, bytes, sent := 0, 0, 0
	for i := 0; i < b.n; {
		n, errno := b.send(i, b.sameSocket(i))
		for _, m := range b.messages[i : i+n] {
			frames += m.segments
			bytes += m.bytes
		}
		i += n
		sent += n
		if errno == 0 {
			continue
		}
		frames += b.refused(&b.messages[i], errno, drops)
		i++
	}
	b.peer.TxFrames.Add(uint64(frames))
	b.peer.TxBytes.Add(uint64(bytes))
	b.peer.TxMessages.Add(uint64(sent))
	b.n, b.parts = 0, 0
}

func (b *outbox) prepare(i int) {
	m, h := &b.messages[i], &b.headers[i].hdr
	h.Iov = &b.iovecs[m.iov]
	h.SetIovlen(m.iovs)
	h.Control = nil
	h.SetControllen(0)
	if m.segments > 1 {
		c := &b.controls[i]
		c.hdr.Level, c.hdr.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		c.hdr.SetLen(unix.CmsgLen(2))
		c.size = uint16(m.size)
		h.Control = (*byte)(unsafe.Pointer(c))
		h.SetControllen(int(unsafe.Sizeof(*c)))
	}
}

func (b *outbox) fd(i int) int {
	if b.messages[i].segments > 1 {
		return b.path.segment
	}
	return b.path.plain
}

// sameSocket returns how many messages from i on leave by the same socket.
func (b *outbox) sameSocket(i int) int {
	fd, n := b.fd(i), 1
	for i+n < b.n && b.fd(i+n) == fd {
		n++
	}
	return n
}

// send sends up to n messages from i on, and returns how many left. An error belongs to the first that did not.
func (b *outbox) send(i, n int) (int, syscall.Errno) {
	for first := true; ; first = false {
		var sent uintptr
		var errno syscall.Errno
		if n == 1 {
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDMSG, uintptr(b.fd(i)), uintptr(unsafe.Pointer(&b.headers[i].hdr)), unix.MSG_DONTWAIT, 0, 0, 0)
			sent = 1
		} else {
			sent, _, errno = unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(b.fd(i)), uintptr(unsafe.Pointer(&b.headers[i])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		}
		if errno == 0 {
			return int(sent), 0
		}
		// A connected socket reports an ICMP error about an earlier datagram once, instead of sending: try again. So it does with a
		// router's message that one was too big (EMSGSIZE), even if this one fits.
		if !first || errno == unix.EAGAIN {
			return 0, errno
		}
	}
}

// refused deals with a message that the kernel did not take: it counts the frames of it that are lost, and returns how many were sent after all.
func (b *outbox) refused(m *message, errno syscall.Errno, drops *drop.Counters) int {
	switch errno {
	case unix.EIO, unix.EINVAL, unix.EOPNOTSUPP:
		if m.segments > 1 { // a device without checksum offload, or a kernel without UDP_SEGMENT
			return b.sendSingly(m, drops)
		}
	}
	drops.Add(b.reason(errno), m.segments)
	return 0
}

// reason names what an error of a send means for what was to be sent.
func (b *outbox) reason(errno syscall.Errno) drop.Reason {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return drop.QueueFull
	case unix.EMSGSIZE:
		b.peer.RefreshMTU() // the next frame as large gets an ICMP error from the bridge
		return drop.TooBig
	}
	return drop.SendFailed
}

// sendSingly sends the datagrams of m one by one, and returns how many left. The peer gets no more segmented sends if any did: what
// was refused was the segmentation then, and not the datagrams (older kernels say EINVAL too when these exceed the MTU).
func (b *outbox) sendSingly(m *message, drops *drop.Counters) (sent int) {
	iov, left := m.iov, m.bytes
	for left > 0 {
		first, size := iov, 0
		for size < min(m.size, left) {
			size += int(b.iovecs[iov].Len)
			iov++
		}
		left -= size
		var h unix.Msghdr
		h.Iov = &b.iovecs[first]
		h.SetIovlen(iov - first)
		if _, _, errno := unix.RawSyscall6(unix.SYS_SENDMSG, uintptr(b.path.plain), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT, 0, 0, 0); errno != 0 {
			drops.Add(b.reason(errno), 1)
			continue
		}
		sent++
	}
	if sent > 0 {
		b.peer.noGSO.Store(true)
	}
	return sent
}
