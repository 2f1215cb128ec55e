package datagram

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

const (
	batch      = 32 // messages per recvmmsg
	maxMessage = 65536
	controlLen = 128
	errorBatch = 32 // errors that a socket is asked for before others have their turn

	receiveTries = 4

	echoReply4 = 0
	echoReply6 = 129
)

// mmsghdr is struct mmsghdr of socket(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// reader has the room to receive, for all sockets. It belongs to the table's thread.
type reader struct {
	t        *Table
	writer   packet.Writer
	quote    [quoteRoom]byte
	headers  [batch]mmsghdr
	iovecs   [batch]unix.Iovec
	names    [batch][unix.SizeofSockaddrInet6]byte
	controls [batch][controlLen / 8]uint64
	buffers  []byte
}

func newReader(t *Table) *reader {
	r := &reader{t: t, buffers: make([]byte, batch*maxMessage)}
	for i := range r.headers {
		r.iovecs[i].Base = &r.buffers[i*maxMessage]
		r.iovecs[i].SetLen(maxMessage)
		h := &r.headers[i].hdr
		h.Name = &r.names[i][0]
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
		r.reset(i)
	}
	return r
}

// reset makes message i ready to receive another.
func (r *reader) reset(i int) {
	h := &r.headers[i].hdr
	h.Namelen = unix.SizeofSockaddrInet6
	h.SetControllen(controlLen)
}

// received returns the bytes, the control messages and the name of message i.
func (r *reader) received(i, n int) (b []byte, a arrival, name []byte) {
	h := &r.headers[i].hdr
	control := (*[controlLen]byte)(unsafe.Pointer(&r.controls[i]))[:min(int(h.Controllen), controlLen)]
	return r.buffers[i*maxMessage:][:n], readControls(control), r.names[i][:min(int(h.Namelen), len(r.names[i]))]
}

// serve hands on a batch of what came for m, and returns how many datagrams there were.
func (r *reader) serve(m *mapping) (frames int) {
	got, failed := r.receive(m.sock)
	now := r.t.clock()
	for i := range got {
		n, reason := r.answer(m, i, now)
		frames += n
		if reason != drop.None {
			m.key.net.Drops.Add(reason, n)
		}
		r.reset(i)
	}
	if m.pending.Swap(false) || failed {
		r.failures(m)
	}
	return frames
}

// receive fills messages, and returns how many. failed says that the socket may have errors to tell: it returns each instead of messages,
// which may wait all the same.
func (r *reader) receive(sock int) (got int, failed bool) {
	for range receiveTries {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(sock), uintptr(unsafe.Pointer(&r.headers[0])), batch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), failed
		case unix.EAGAIN:
			return 0, true
		}
		failed = true
	}
	return 0, true
}

// answer hands message i on to m's container, and returns how many datagrams it is.
func (r *reader) answer(m *mapping, i int, now int64) (int, drop.Reason) {
	b, a, name := r.received(i, int(r.headers[i].len))
	n := 1
	if a.segment > 0 && a.segment < len(b) {
		n = (len(b) + a.segment - 1) / a.segment
	} else {
		a.segment = 0
	}
	if r.headers[i].hdr.Flags&unix.MSG_TRUNC != 0 {
		return n, drop.TooLarge
	}
	from := m.known(sockaddr(name))
	if from == nil {
		return n, drop.Unsolicited
	}
	out := m.key.net.router()
	if out == nil {
		return n, drop.RouterFault
	}
	from.got.Store(now)
	from.rxPackets.Add(uint64(n))
	ttl := a.ttl
	if ttl > 1 {
		ttl--
	}
	if m.key.proto != frame.ProtoUDP {
		return n, r.echo(m, from, out, ttl, b)
	}
	from.rxBytes.Add(uint64(len(b)))
	h := packet.Header{Src: from.dst, Dst: m.container(), TTL: ttl, TOS: a.tos}
	return n, r.writer.UDP(out, h, b, a.segment, out.MTU())
}

// echo hands on an answer to an echo request, given from its ICMP header on.
func (r *reader) echo(m *mapping, from *remote, out Out, ttl uint8, b []byte) drop.Reason {
	want := uint8(echoReply4)
	if m.key.proto == frame.ProtoICMPv6 {
		want = echoReply6
	}
	if len(b) < l4Len || b[0] != want || b[1] != 0 {
		return drop.NotForwarded
	}
	from.rxBytes.Add(uint64(len(b)))
	return r.writer.EchoReply(out, from.dst.Addr(), m.key.addr, ttl, m.key.port, binary.BigEndian.Uint16(b[6:]), b[l4Len:], out.MTU())
}
