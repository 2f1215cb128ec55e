package quorum

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/cluster/identity"
)

// stream carries Raft's calls over what Listener accepts and Dial makes (raft.StreamLayer). Raft does not close what it
// accepted when it ends: Close does. In Raft's configuration a manager's address is its ID: where it is, the cluster's state knows.
type stream struct {
	net.Listener
	dial func(ctx context.Context, id identity.NodeID) (net.Conn, error)

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
	return s.dial(ctx, id)
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
}

func (a *accepted) Close() error {
	a.stream.mu.Lock()
	delete(a.stream.open, a)
	a.stream.mu.Unlock()
	return a.Conn.Close()
}
