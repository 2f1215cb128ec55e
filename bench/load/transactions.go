package load

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/histogram"
)

// echo sends a byte and waits for it to come back, over and over on one connection.
type echo struct {
	end
	fd int
}

func (e *echo) open() (err error) {
	if e.server {
		e.fd, err = listen(unix.SOCK_STREAM, e.spec)
		return err
	}
	e.m.latency = new(histogram.Histogram)
	e.fd, err = dial(unix.SOCK_STREAM, e.spec)
	return err
}

func (e *echo) threads() []func() error {
	if e.server {
		return []func() error{e.answer}
	}
	return []func() error{e.ask}
}

func (e *echo) answer() error {
	fd, errno := rawAccept(e.fd)
	if errno != 0 {
		return os.NewSyscallError("accept", errno)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt TCP_NODELAY", err)
	}
	b := make([]byte, 1)
	for {
		if err := full(rawRead, fd, b); err != nil {
			return err
		}
		if err := full(rawWrite, fd, b); err != nil {
			return err
		}
	}
}

func (e *echo) ask() error {
	b := make([]byte, 1)
	origin := time.Now()
	var earlier time.Duration
	for {
		if err := full(rawWrite, e.fd, b); err != nil {
			return err
		}
		if err := full(rawRead, e.fd, b); err != nil {
			return err
		}
		now := time.Since(origin)
		e.m.done(now - earlier)
		earlier = now
	}
}

// done counts a transaction.
func (m *meter) done(d time.Duration) {
	m.count.Add(1)
	if m.measuring.Load() {
		m.latency.Record(d)
	}
}

// connects opens a connection, sends a byte, receives one, closes, and begins again. The client closes first and keeps
// the TIME_WAIT, which is what a load balancer's clients do.
type connects struct {
	end
	fd int // server: the listening socket
}

func (c *connects) open() (err error) {
	if c.server {
		c.fd, err = listen(unix.SOCK_STREAM, c.spec)
		return err
	}
	c.m.latency = new(histogram.Histogram)
	if err := manyPorts(); err != nil {
		return err
	}
	// One connection shows that the way is up, so that a SYN lost while it came up is not counted as slow.
	fd, err := dial(unix.SOCK_STREAM, c.spec)
	if err != nil {
		return err
	}
	rawClose(fd)
	return nil
}

// manyPorts lets a client open tens of thousands of connections per second to one server: it may use all ports, and use
// one again a second after it was closed.
func manyPorts() error {
	for name, value := range map[string]string{"ip_local_port_range": "1024 65535", "tcp_tw_reuse": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set net.ipv4.%s to %q, without which ports run out: %w", name, value, err)
		}
	}
	return nil
}

func (c *connects) threads() []func() error {
	if c.server {
		return []func() error{c.answer}
	}
	return []func() error{c.ask}
}

func (c *connects) answer() error {
	b := make([]byte, 1)
	for {
		fd, errno := rawAccept(c.fd)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("accept", errno)
		}
		// A client that gave up is the client's to report.
		if full(rawRead, fd, b) == nil && full(rawWrite, fd, b) == nil {
			rawRead(fd, b)
		}
		rawClose(fd)
	}
}

func (c *connects) ask() error {
	to := newAddress(netip.AddrPortFrom(c.spec.Server, Port))
	b := make([]byte, 1)
	origin := time.Now()
	var earlier time.Duration
	for {
		fd, errno := to.socket(unix.SOCK_STREAM)
		if errno != 0 {
			return os.NewSyscallError("socket", errno)
		}
		if errno := to.connect(fd); errno != 0 {
			return fmt.Errorf("connect to %s port %d: %w", c.spec.Server, Port, errno)
		}
		if err := full(rawWrite, fd, b); err != nil {
			return err
		}
		if err := full(rawRead, fd, b); err != nil {
			return err
		}
		rawClose(fd)
		now := time.Since(origin)
		c.m.done(now - earlier)
		earlier = now
	}
}
