package router

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Info is what the router knows of a connection.
type Info struct {
	State       string // as RFC 9293 §3.3.2 names it
	Received    uint64 // bytes that were read
	Sent        uint64 // bytes that were written
	SegmentsIn  uint64 // superframes count once
	SegmentsOut uint64
	Retransmits uint64
	RTT         time.Duration
	Window      int // congestion window, in segments
}

// Info returns what is known of the connection.
func (c *Conn) Info() (i Info) {
	i = Info{Received: c.in.Load(), Sent: c.out.Load()}
	if c.router.state.Load() == dead {
		return i
	}
	defer c.router.catch()
	i.State = tcp.EndpointState(c.ep.State()).String()
	var t tcpip.TCPInfoOption
	if c.ep.GetSockOpt(&t) == nil {
		i.RTT, i.Window = t.RTT, int(t.SndCwnd)
	}
	if s, ok := c.ep.Stats().(*tcp.Stats); ok {
		i.SegmentsIn, i.SegmentsOut = s.SegmentsReceived.Value(), s.SegmentsSent.Value()
		i.Retransmits = s.SendErrors.Retransmits.Value()
	}
	return i
}

// errno returns what the kernel calls an error of netstack's.
func errno(e tcpip.Error) error {
	switch e.(type) {
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return syscall.ENETUNREACH
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrNotConnected, *tcpip.ErrInvalidEndpointState:
		return syscall.ENOTCONN
	case *tcpip.ErrPortInUse, *tcpip.ErrBadLocalAddress, *tcpip.ErrNoPortAvailable:
		return ErrInUse
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	}
	return fmt.Errorf("netstack: %s", e)
}

// sysError names the call that an errno came from, as package net does.
func sysError(call string, err error) error {
	if n := syscall.Errno(0); errors.As(err, &n) {
		return os.NewSyscallError(call, err)
	}
	return err
}
