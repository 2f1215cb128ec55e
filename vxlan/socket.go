package vxlan

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// listen opens a receiving socket.
func listen(cfg Config, share bool) (int, error) {
	fd, err := socket(cfg.Local, share)
	if err != nil {
		return -1, err
	}
	err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(cfg.Local, cfg.Port)))
	if err == nil {
		// Without it the kernel segments what it could have handed over whole; kernels before 5.0 do not know it.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		return fd, nil
	}
	unix.Close(fd)
	return -1, err
}

// dial opens a sending socket. Zero asks for datagrams without a UDP checksum (IPv4 only).
func dial(from, to netip.AddrPort, zero bool) (int, error) {
	fd, err := socket(from.Addr(), true)
	if err != nil {
		return -1, err
	}
	if zero {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(from))
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// socket opens a non-blocking UDP socket that never lets the underlay fragment what it sends.
func socket(local netip.Addr, share bool) (int, error) {
	family, level, option, value := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if !local.Is4() {
		family, level, option, value = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if share {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, level, option, value)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("socket options: %w", err)
	}
	grow(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
	grow(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	return fd, nil
}

// grow asks for a large socket buffer: beyond net.core.rmem_max with CAP_NET_ADMIN, up to it without.
func grow(fd, force, polite int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bufferSize) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, polite, bufferSize) // the kernel clamps; a small buffer is what it gives
	}
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

func localPort(fd int) (uint16, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(name.Port), nil
	case *unix.SockaddrInet6:
		return uint16(name.Port), nil
	}
	return 0, fmt.Errorf("getsockname: neither IPv4 nor IPv6: %T", name)
}

// pathMTU returns the MTU of the path of a connected socket.
func pathMTU(fd int, v4 bool) (int, error) {
	if v4 {
		return unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
	}
	return unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
}
