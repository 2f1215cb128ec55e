package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	mdns "github.com/miekg/dns"
)

// Forwarder asks others for what is not ours. Forward is called on a goroutine of its own, must end with ctx, and
// must not change q. Its answer is the caller's, with q's ID and question. tcp says that the client came by TCP.
type Forwarder interface {
	Forward(ctx context.Context, q *mdns.Msg, tcp bool) (*mdns.Msg, error)
}

// Forwarded says how a Forwarder came by its answer.
type Forwarded struct {
	Server netip.AddrPort `json:"server"`
	Took   time.Duration  `json:"took"`
	Cached bool           `json:"cached"`
	Rcode  string         `json:"rcode,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// ServerConfig is what a Server needs. Zero numbers are the defaults that stand beside them.
type ServerConfig struct {
	Forwarder Forwarder
	// Trace is a Forward that tells more, for Query; nil: Query uses the Forwarder.
	Trace func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, Forwarded, error)
	Log   *slog.Logger

	Outstanding  int           // questions with the Forwarder at a time, 1000; SERVFAIL beyond
	PerContainer int           // of one container, 100
	Timeout      time.Duration // of a forwarded question, 4 s: less than the 5 s after which resolvers ask again
	Idle         time.Duration // that a TCP connection may take for its next question, 10 s
	Conns        int           // TCP connections at a time, 256
	ConnsPer     int           // of one container, 16
}

// Server answers on the gateways of all networks of a node. All methods may be called from any goroutine.
type Server struct{}

// New makes a server, which knows nothing until SetZone.
func New(c ServerConfig) *Server { return &Server{} }

// SetZone has the server answer from z from now on.
func (s *Server) SetZone(z *Zone) {}

// Serve answers what the containers of a network ask by UDP (pc) and TCP (l), either of which may be nil, until ctx ends, the server is
// closed, or one of the two fails. It closes both, and returns when all that it started has ended: with nil unless one has failed.
func (s *Server) Serve(ctx context.Context, network string, pc net.PacketConn, l net.Listener) error {
	return nil
}

// Query answers as the server would answer a container of this node that asks at its first network's gateway, and says why.
func (s *Server) Query(ctx context.Context, container, name string, qtype uint16) (*mdns.Msg, Explanation, error) {
	return nil, Explanation{}, nil
}

// Stats returns what the server has counted.
func (s *Server) Stats() Stats { return Stats{} }

// Close ends every Serve and waits for them. It may be called more than once.
func (s *Server) Close() error { return nil }
