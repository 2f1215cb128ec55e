package quorum

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/cluster/identity"
)

// stream carries Raft's calls over what Listener accepts and Dial makes (raft.StreamLayer). Raft does not close what it
// accepted when it ends: Close does.
type stream struct {
	net.Listener
	dial func(ctx context.Context, id identity.NodeID, hint netip.AddrPort) (net.Conn, error)

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
	id, hint, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.dial(ctx, id, hint)
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

// address is how Raft's configuration names a manager: ID@HOST:PORT. The ID decides; where it is, the cluster's state knows
// better than Raft's log, and the address is for a node whose state does not know that manager.
func address(id identity.NodeID, at netip.AddrPort) raft.ServerAddress {
	return raft.ServerAddress(id.String() + "@" + at.String())
}

// parseAddress is the inverse of address.
func parseAddress(a raft.ServerAddress) (id identity.NodeID, at netip.AddrPort, err error) {
	name, where, ok := strings.Cut(string(a), "@")
	if !ok {
		return id, at, fmt.Errorf("quorum: address %q; expected ID@HOST:PORT", a)
	}
	if id, err = identity.ParseNodeID(name); err != nil {
		return id, at, fmt.Errorf("quorum: address %q: %w", a, err)
	}
	if at, err = netip.ParseAddrPort(where); err != nil {
		return id, at, fmt.Errorf("quorum: address %q: %w", a, err)
	}
	return id, at, nil
}
