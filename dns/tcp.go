package dns

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// listener returns what accepts at a TCP socket (RFC 7766).
func (v *service) listener(l net.Listener) func() {
	return func() {
		for faults := 0; faults < maxFaults; {
			c, err := l.Accept()
			if err != nil {
				if faults++; !v.pause(faults, "accept", err) {
					return
				}
				continue
			}
			faults = 0
			v.accept(c)
		}
	}
}

// accept starts on a connection, unless its container has too many.
func (v *service) accept(c net.Conn) {
	remote, _ := c.RemoteAddr().(*net.TCPAddr)
	if remote == nil {
		v.counters.drops[dropSource].Add(1)
		c.Close()
		return
	}
	source := remote.AddrPort().Addr()
	a := v.zone.Load().asker(v.network, source)
	if a == nil || !v.conns.take(a.quota) {
		v.counters.drops[dropConns].Add(1)
		c.Close()
		return
	}
	s := &stream{service: v, conn: c, source: source, turn: make(chan struct{}, 1)}
	v.tasks.Go(func() {
		defer v.conns.give(a.quota)
		s.serve()
	})
}

// stream is a TCP connection. Its questions are answered as they become ready, which need not be in order (RFC 7766 §6.2.1.1).
type stream struct {
	*service
	conn   net.Conn
	source netip.Addr
	busy   sync.WaitGroup // its forwards

	turn chan struct{} // one answer after the other: whoever has put a value in may write
	b    []byte
}

// serve answers until the client ends, is silent for too long, or breaks the framing.
func (s *stream) serve() {
	ctx, cancel := context.WithCancel(s.ctx)
	unhook := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer func() {
		cancel()
		unhook()
		s.conn.Close()
		s.busy.Wait()
	}()
	r, b := &responder{}, make([]byte, 2+minSize)
	for {
		message, err := s.read(&b)
		if err != nil {
			if err == io.EOF {
				s.busy.Wait() // half-closed: what was asked is answered yet
			}
			return
		}
		answer, f := s.handle(r, message, s.source, true)
		if f != nil {
			s.busy.Go(func() {
				defer s.finish(f)
				if !s.write(ctx, s.run(ctx, f)) {
					cancel()
				}
			})
			continue
		}
		if answer == nil || !s.write(ctx, answer) {
			return
		}
	}
}

// read reads one message. All of it has to come in the time that a connection may be idle: a byte now and then keeps no connection.
func (s *stream) read(b *[]byte) ([]byte, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(s.config.Idle)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.conn, (*b)[:2]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(*b))
	if n > maxQuery {
		s.counters.drops[dropLong].Add(1)
		return nil, io.ErrShortBuffer
	}
	if n > len(*b) {
		*b = make([]byte, maxQuery)
	}
	if _, err := io.ReadFull(s.conn, (*b)[:n]); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return (*b)[:n], nil
}

// write writes an answer; it reports false if the connection is of no more use.
func (s *stream) write(ctx context.Context, answer []byte) bool {
	if answer == nil {
		return true
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-s.turn }()
	s.b = binary.BigEndian.AppendUint16(s.b[:0], uint16(len(answer)))
	s.b = append(s.b, answer...)
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.config.Idle)); err != nil {
		return false
	}
	_, err := s.conn.Write(s.b)
	return err == nil
}
