// Package proxy is a plain L4 proxy between kernel sockets, as one would write it in Go in an afternoon: what the bench holds
// weft's way out against.
//
//	client ── TCP ── accept │ io.Copy both ways: splice(2)   │ dial ── TCP ── server
//	client ── UDP ── read   │ a socket per client            │ send ── UDP ── server
//
// It has none of what a way out of containers needs: no policy, no limits, no counters, and flows that never end.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

// maxDatagram is the largest datagram that is passed on.
const maxDatagram = 65535

// buffer is what the UDP sockets ask for: room for a burst while another thread has the processor.
const buffer = 4 << 20

// Proxy carries TCP connections and UDP datagrams that come to an address on to another.
type Proxy struct {
	to    netip.AddrPort
	tcp   *net.TCPListener
	udp   *net.UDPConn
	flows map[netip.AddrPort]*net.UDPConn // by client; relay's alone

	mu    sync.Mutex // guards what follows
	conns map[io.Closer]struct{}
	ended bool // conns are closed
}

// Listen opens the sockets of a proxy from at to to.
func Listen(at, to netip.AddrPort) (*Proxy, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	at = netip.AddrPortFrom(at.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	_ = udp.SetReadBuffer(buffer) // net.core.rmem_max bounds it
	return &Proxy{
		to: to, tcp: tcp, udp: udp,
		flows: make(map[netip.AddrPort]*net.UDPConn), conns: make(map[io.Closer]struct{}),
	}, nil
}

// Addr returns where the proxy listens.
func (p *Proxy) Addr() netip.AddrPort { return p.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Run carries traffic until ctx ends, and closes everything. It may be called once.
func (p *Proxy) Run(ctx context.Context, log *slog.Logger) error {
	var running sync.WaitGroup
	failed := make(chan error, 2)
	running.Go(func() { failed <- p.accept(ctx, &running, log) })
	running.Go(func() { failed <- p.relay(ctx, &running, log) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	p.tcp.Close()
	p.udp.Close()
	p.mu.Lock()
	p.ended = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	running.Wait()
	return err
}

// Main is a proxy as a process: it listens, says so on w in a line, and runs until ctx ends.
func Main(ctx context.Context, at, to string, w io.Writer) error {
	from, err := netip.ParseAddrPort(at)
	if err != nil {
		return fmt.Errorf("proxy: listen at %q: %w; expected an address and port such as 192.0.2.1:80", at, err)
	}
	server, err := netip.ParseAddrPort(to)
	if err != nil {
		return fmt.Errorf("proxy: carry on to %q: %w; expected an address and port such as 192.0.2.1:80", to, err)
	}
	p, err := Listen(from, server)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(w, nil))
	log.Info("listening", "at", p.Addr())
	return p.Run(ctx, log)
}

// keep notes what is to be closed with the proxy, and closes it at once if that has ended.
func (p *Proxy) keep(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		c.Close()
		return
	}
	p.conns[c] = struct{}{}
}

// drop closes what keep was given.
func (p *Proxy) drop(c io.Closer) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

func (p *Proxy) accept(ctx context.Context, running *sync.WaitGroup, log *slog.Logger) error {
	for {
		near, err := p.tcp.AcceptTCP()
		if err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
		p.keep(near)
		running.Go(func() {
			defer p.drop(near)
			if err := p.join(ctx, near); err != nil && ctx.Err() == nil {
				log.Warn("a connection could not be carried on", "from", near.RemoteAddr(), "error", err)
			}
		})
	}
}

// join dials the server and copies both ways until both directions have ended.
func (p *Proxy) join(ctx context.Context, near *net.TCPConn) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.to.String())
	if err != nil {
		return err
	}
	far := c.(*net.TCPConn)
	p.keep(far)
	defer p.drop(far)
	var back sync.WaitGroup
	back.Go(func() { splice(near, far) })
	splice(far, near)
	back.Wait()
	return nil
}

// splice copies until from ends, and passes that on. What goes wrong on one side, the other learns from its end.
func splice(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = from.CloseRead()
	}
	_ = to.CloseWrite()
}

// relay passes datagrams on, from a socket per client, so that answers find back.
func (p *Proxy) relay(ctx context.Context, running *sync.WaitGroup, log *slog.Logger) error {
	buf := make([]byte, maxDatagram)
	for {
		n, client, err := p.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("proxy: %w", err)
		}
		if err != nil {
			continue
		}
		far := p.flows[client]
		if far == nil {
			if far, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.to)); err != nil {
				log.Warn("a datagram could not be carried on", "from", client, "error", err)
				continue
			}
			p.flows[client] = far
			p.keep(far)
			running.Go(func() { p.answer(ctx, client, far) })
		}
		_, _ = far.Write(buf[:n]) // an unreachable server is the client's to notice
	}
}

// answer passes back what the server sends to a client.
func (p *Proxy) answer(ctx context.Context, client netip.AddrPort, far *net.UDPConn) {
	defer p.drop(far)
	buf := make([]byte, maxDatagram)
	for ctx.Err() == nil {
		n, err := far.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = p.udp.WriteToUDPAddrPort(buf[:n], client)
		}
	}
}
