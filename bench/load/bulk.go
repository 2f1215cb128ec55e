package load

import (
	"golang.org/x/sys/unix"
)

// chunk is how much one write or read moves at most: larger ones fall out of the processor's cache and are slower.
const chunk = 128 << 10

// bulk moves bytes over TCP connections, in one direction, as fast as they go. The receiver reads them all to its own
// memory, as a program does.
type bulk struct {
	end
	fd  int   // server: the listening socket
	fds []int // client: the connections
}

func (b *bulk) open() (err error) {
	if b.server {
		b.fd, err = listen(unix.SOCK_STREAM, b.spec)
		return err
	}
	for range b.spec.streams() {
		fd, err := dial(unix.SOCK_STREAM, b.spec)
		if err != nil {
			return err
		}
		b.fds = append(b.fds, fd)
	}
	return nil
}

func (b *bulk) threads() (list []func() error) {
	for i := range b.spec.streams() {
		list = append(list, func() error {
			var fd int
			if b.server {
				var errno unix.Errno
				if fd, errno = rawAccept(b.fd); errno != 0 {
					return errno
				}
			} else {
				fd = b.fds[i]
			}
			if b.server == (b.spec.Kind == Reverse) {
				return b.send(fd)
			}
			return b.receive(fd)
		})
	}
	return list
}

func (b *bulk) send(fd int) error {
	buf := make([]byte, chunk)
	for i := range buf {
		buf[i] = byte(i)
	}
	for {
		if err := full(rawWrite, fd, buf); err != nil {
			return err
		}
	}
}

func (b *bulk) receive(fd int) error {
	buf := make([]byte, chunk)
	for {
		n, errno := rawRead(fd, buf)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return errno
		case n == 0:
			return errClosed
		default:
			b.m.bytes.Add(uint64(n))
		}
	}
}
