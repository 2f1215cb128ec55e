package datagram

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// buffer is what a socket may hold in either direction: some superframes.
const buffer = 1 << 20

// option is a socket option that is a number.
type option struct{ level, name, value int }

// What sockets tell of what they receive, and of errors.
var (
	options4 = [...]option{
		{unix.IPPROTO_IP, unix.IP_RECVERR, 1},
		{unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
	}
	options6 = [...]option{
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
	}
)

// socket opens a non-blocking, unconnected socket for UDP, or for echo requests.
func socket(proto uint8, v4 bool) (int, error) {
	family, options := unix.AF_INET6, options6[:]
	if v4 {
		family, options = unix.AF_INET, options4[:]
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto))
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("socket option %d: %w", o.name, err)
		}
	}
	if proto == frame.ProtoUDP {
		// Without it the kernel segments what it could have handed over whole; kernels before 5.0 do not know it.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		grow(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
		grow(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	}
	return fd, nil
}

// grow asks for a large socket buffer: beyond net.core.rmem_max with CAP_NET_ADMIN, up to it without.
func grow(fd, force, polite int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, polite, buffer) // the kernel clamps; a small buffer is what it gives
	}
}

// refusal names what it means for a flow that its socket could not be opened.
func (t *Table) refusal(proto uint8, err error) drop.Reason {
	switch {
	case proto != frame.ProtoUDP && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)):
		t.noPing.Add(1)
		return drop.Forbidden
	case errors.Is(err, unix.EAFNOSUPPORT): // a kernel without IPv6
		return drop.NoRoute
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return drop.FlowLimit
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return drop.QueueFull
	}
	return drop.SendFailed
}

// PingAllowed returns why echo requests cannot be taken out, and the remedy; nil if they can.
func (t *Table) PingAllowed() error {
	fd, err := socket(frame.ProtoICMP, true)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("datagram: ping %w", err)
	}
	group := os.Getegid()
	return fmt.Errorf("datagram: echo requests of containers are answered as prohibited, for group %d of this process is not within "+
		"net.ipv4.ping_group_range; allow it: sysctl -w net.ipv4.ping_group_range='%d %d' (or '0 2147483647' for all groups): %w", group, group, group, err)
}
