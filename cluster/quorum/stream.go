package quorum

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/cluster/identity"
)

// stream carries Raft's calls over what Listener accepts and Dial makes (raft.StreamLayer). Raft does not close what it
// accepted when it ends: Close does. In Raft's configuration a manager's address is its ID: where it is, the cluster's state knows.
//
// Every connection begins with the eight bytes of its dialler's incarnation. Managers of two incarnations, before and after a
// restoration, have logs of their own, which must never mix.
type stream struct {
	net.Listener
	incarnation uint64
	dial        func(ctx context.Context, id identity.NodeID) (net.Conn, error)

	mu     sync.Mutex
	open   map[*accepted]struct{}
	closed bool
}

func (s *stream) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	a := &accepted{Conn: c, stream: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	s.open[a] = struct{}{}
	return a, nil
}

func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, err := identity.ParseNodeID(string(address))
	if err != nil {
		return nil, fmt.Errorf("quorum: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := s.dial(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, s.incarnation)); err != nil {
		c.Close()
		return nil, fmt.Errorf("quorum: %w", err)
	}
	return c, nil
}

func (s *stream) Close() error {
	s.mu.Lock()
	s.closed = true
	open := make([]*accepted, 0, len(s.open))
	for a := range s.open {
		open = append(open, a)
	}
	s.mu.Unlock()
	err := s.Listener.Close()
	for _, a := range open {
		a.Close()
	}
	return err
}

type accepted struct {
	net.Conn
	stream *stream
	greet  sync.Once
	fault  error
}

// Read checks the dialler's incarnation before it reads on: Accept must not wait for it.
func (a *accepted) Read(b []byte) (int, error) {
	a.greet.Do(func() { a.fault = a.check() })
	if a.fault != nil {
		return 0, a.fault
	}
	return a.Conn.Read(b)
}

func (a *accepted) check() error {
	var b [8]byte
	if _, err := io.ReadFull(a.Conn, b[:]); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint64(b[:]); n != a.stream.incarnation {
		return fmt.Errorf("quorum: %s is of incarnation %d of the cluster; expected %d", a.RemoteAddr(), n, a.stream.incarnation)
	}
	return nil
}

func (a *accepted) Close() error {
	a.stream.mu.Lock()
	delete(a.stream.open, a)
	a.stream.mu.Unlock()
	return a.Conn.Close()
}
