package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
)

// Forwarder asks others for what is not ours. Forward may be called on many goroutines at once, must end with ctx, and must not change q.
// Its answer is the caller's. tcp says that the client came by TCP.
type Forwarder interface {
	Forward(ctx context.Context, q *mdns.Msg, tcp bool) (*mdns.Msg, error)
}

// ServerConfig is what a Server needs. Zero numbers are the defaults that stand beside them.
type ServerConfig struct {
	Forwarder Forwarder // nil: nothing is forwarded, but answered SERVFAIL
	// Trace is a Forward that tells more, for Query; nil: Query uses the Forwarder.
	Trace func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, Forwarded, error)
	Log   *slog.Logger // nil: slog's default

	Outstanding  int           // questions with the Forwarder at a time, 1000; SERVFAIL beyond
	PerContainer int           // of one container, 100
	Timeout      time.Duration // of a forwarded question, 4 s: less than the 5 s after which resolvers ask again
	Idle         time.Duration // that a TCP connection may take for its next question, 10 s
	Conns        int           // TCP connections at a time, 256
	ConnsPer     int           // of one container, 16
}

func (c ServerConfig) withDefaults() ServerConfig {
	number := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	number(&c.Outstanding, 1000)
	number(&c.PerContainer, 100)
	number(&c.Conns, 256)
	number(&c.ConnsPer, 16)
	if c.Timeout <= 0 {
		c.Timeout = 4 * time.Second
	}
	if c.Idle <= 0 {
		c.Idle = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// Server answers on the gateways of all networks of a node. All methods may be called from any goroutine.
//
//	UDP: one goroutine per socket ─ parse ─ resolve ─┬─ ours: answered at once, on the same goroutine
//	TCP: one per connection ────────────────────────┴─ else: a goroutine per question, as many as the limits allow
type Server struct {
	config   ServerConfig
	zone     atomic.Pointer[Zone]
	forwards *quota
	conns    *quota
	counters counters

	ctx    context.Context // until Close
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	serves sync.WaitGroup
}

// New makes a server, which knows nothing until SetZone: until then it answers SERVFAIL.
func New(c ServerConfig) *Server {
	c = c.withDefaults()
	s := &Server{config: c, forwards: newQuota(c.Outstanding, c.PerContainer), conns: newQuota(c.Conns, c.ConnsPer)}
	s.zone.Store(Compile(Config{}))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// SetZone has the server answer from z from now on.
func (s *Server) SetZone(z *Zone) { s.zone.Store(z) }

// Serve answers what the containers of a network ask by UDP (pc) and TCP (l), either of which may be nil, until ctx ends, the server is
// closed, or one of the two fails. It closes both, and returns when all that it started has ended: with nil unless one has failed.
func (s *Server) Serve(ctx context.Context, network string, pc net.PacketConn, l net.Listener) error {
	v := &service{Server: s, network: network}
	v.ctx, v.cancel = context.WithCancel(ctx)
	defer v.cancel()
	unhook := context.AfterFunc(s.ctx, v.cancel)
	defer unhook()
	if s.enter() {
		defer s.serves.Done()
	} else {
		v.cancel()
	}
	if pc != nil {
		v.tasks.Go(v.datagrams(pc))
	}
	if l != nil {
		v.tasks.Go(v.listener(l))
	}
	<-v.ctx.Done()
	if pc != nil {
		pc.Close() // what fails to close has failed before
	}
	if l != nil {
		l.Close()
	}
	v.tasks.Wait()
	if err := v.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// enter counts a Serve, unless the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.serves.Add(1)
	}
	return !s.closed
}

// Close ends every Serve and waits for them. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.serves.Wait()
	return nil
}

// service is one call of Serve.
type service struct {
	*Server
	network string
	ctx     context.Context
	cancel  context.CancelFunc
	failure atomic.Pointer[error] // that ended it
	tasks   sync.WaitGroup
}

// handle answers a message, or says what must be forwarded before it can be answered; neither: it gets no answer. The answer is in the responder's
// buffer.
func (v *service) handle(r *responder, message []byte, source netip.Addr, tcp bool) (answer []byte, f *forward) {
	q, c := &r.query, &v.counters
	if tcp {
		c.tcp.Add(1)
	} else {
		c.udp.Add(1)
	}
	switch q.parse(message) {
	case good:
	case short:
		c.drops[dropShort].Add(1)
		return nil, nil
	case response:
		c.drops[dropResponse].Add(1)
		return nil, nil
	case notQuery:
		return v.refuse(r, ruleRefused, rcodeNotImplemented), nil
	case refused:
		return v.refuse(r, ruleRefused, rcodeRefused), nil
	case version:
		return v.refuse(r, ruleVersion, rcodeBadVersion), nil
	default:
		return v.refuse(r, ruleMalformed, rcodeFormatError), nil
	}
	z := v.zone.Load()
	a := z.asker(v.network, source)
	if a == nil { // the zone is older than the network, or newer
		c.drops[dropNetwork].Add(1)
		return v.refuse(r, ruleRefused, rcodeServerFailure), nil
	}
	res := z.resolve(a, q.key, q.qtype)
	c.rules[res.rule].Add(1)
	if res.rule == ruleForward {
		return v.take(r, a, tcp)
	}
	size := q.size
	if tcp {
		size = maxTCP
	}
	c.rcodes[res.rcode].Add(1)
	answer = r.answer(z, &res, size)
	if r.cut {
		c.truncated.Add(1)
	}
	return answer, nil
}

// refuse answers what was not looked up.
func (v *service) refuse(r *responder, by rule, rcode int) []byte {
	v.counters.rules[by].Add(1)
	v.counters.rcodes[rcode].Add(1)
	return r.refuse(rcode, noError)
}
