package load

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many datagrams one system call sends or receives at most.
const batch = 64

// receiveBuffer is what the server asks for: room for a burst while another thread has its processor.
const receiveBuffer = 4 << 20

// datagrams sends numbered UDP datagrams, each a packet of its own as a program sends it (no UDP_SEGMENT), and counts
// which of them arrive.
type datagrams struct {
	end
	fd int
}

func (d *datagrams) open() (err error) {
	if !d.server {
		if d.fd, err = dial(unix.SOCK_DGRAM, d.spec); err != nil {
			return err
		}
		return d.knock()
	}
	if d.fd, err = listen(unix.SOCK_DGRAM, d.spec); err != nil {
		return err
	}
	if unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil {
		return nil
	}
	// Without privilege on the host net.core.rmem_max bounds it, for every path alike.
	err = unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	return os.NewSyscallError("setsockopt SO_RCVBUF", err)
}

// knock sends datagrams too short for a number until the server sends one back, which shows that the way is up.
func (d *datagrams) knock() error {
	if err := setTimeout(d.fd, 20*time.Millisecond); err != nil {
		return err
	}
	b := []byte{0}
	for deadline := time.Now().Add(patience); ; {
		_, errno := rawWrite(d.fd, b)
		if errno == 0 {
			_, errno = rawRead(d.fd, b)
		} else {
			time.Sleep(time.Millisecond) // no route yet
		}
		if errno == 0 {
			return nil
		}
		if !refused(errno) || time.Now().After(deadline) {
			return fmt.Errorf("no answer from %s port %d: %w", d.spec.Server, Port, errno)
		}
	}
}

func (d *datagrams) threads() []func() error {
	if d.server {
		return []func() error{d.receive}
	}
	return []func() error{d.send}
}

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	hdr unix.Msghdr
	n   uint32
}

// messages are buffers for one call to sendmmsg or recvmmsg.
type messages struct {
	list  [batch]message
	iovs  [batch]unix.Iovec
	bufs  [batch][]byte
	peers [batch]unix.RawSockaddrInet6 // who sent each; large enough for IPv4 as well
}

func newMessages(size int) *messages {
	m := &messages{}
	for i := range m.list {
		m.bufs[i] = make([]byte, size)
		m.iovs[i].Base = &m.bufs[i][0]
		m.iovs[i].SetLen(size)
		m.list[i].hdr.Iov = &m.iovs[i]
		m.list[i].hdr.SetIovlen(1)
	}
	return m
}

// call hands the messages from the first one up to the end one on to the kernel and returns how many it took.
func (m *messages) call(trap uintptr, fd, first, end int, flags uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&m.list[first])), uintptr(end-first), flags, 0, 0)
	return int(n), errno
}

// answer sends message i back. The client knocks again if that fails.
func (m *messages) answer(fd, i int) {
	unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&m.bufs[i][0])), uintptr(m.list[i].n), 0,
		uintptr(unsafe.Pointer(&m.peers[i])), uintptr(m.list[i].hdr.Namelen))
}

// refused tells errors of a path that is only overloaded or coming up from faults of the generator.
func refused(errno unix.Errno) bool {
	switch errno {
	case unix.EINTR, unix.EAGAIN, unix.ENOBUFS, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return true
	}
	return false
}

func (d *datagrams) send() error {
	m := newMessages(d.spec.Size)
	var sequence uint64
	for {
		for i := range m.bufs {
			binary.BigEndian.PutUint64(m.bufs[i], sequence+uint64(i))
		}
		sequence += batch
		for sent := 0; sent < batch; {
			n, errno := m.call(unix.SYS_SENDMMSG, d.fd, sent, batch, 0)
			if errno != 0 {
				if !refused(errno) {
					return os.NewSyscallError("sendmmsg", errno)
				}
				continue
			}
			sent += n
			d.m.count.Add(uint64(n))
		}
	}
}

func (d *datagrams) receive() error {
	m := newMessages(maxDatagram)
	for i := range m.list {
		m.list[i].hdr.Name = (*byte)(unsafe.Pointer(&m.peers[i]))
		m.list[i].hdr.Namelen = unix.SizeofSockaddrInet6
	}
	var highest uint64
	for {
		n, errno := m.call(unix.SYS_RECVMMSG, d.fd, 0, batch, unix.MSG_WAITFORONE)
		if errno != 0 {
			if !refused(errno) {
				return os.NewSyscallError("recvmmsg", errno)
			}
			continue
		}
		var bytes, count uint64
		for i := range n {
			if m.list[i].n < sequenceLen {
				m.answer(d.fd, i)
				continue
			}
			count++
			bytes += uint64(m.list[i].n)
			highest = max(highest, binary.BigEndian.Uint64(m.bufs[i])+1)
		}
		d.m.bytes.Add(bytes)
		d.m.count.Add(count)
		d.m.sequence.Store(highest)
	}
}
