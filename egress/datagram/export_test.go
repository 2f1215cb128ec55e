package datagram

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Failure reads the ICMP error in the control messages of a socket.
func Failure(control []byte) (offender netip.Addr, errno unix.Errno, info uint32) {
	e := readControls(control).failure
	return e.offender, unix.Errno(e.errno), e.info
}
