// Package upstream forwards DNS questions to the host's resolvers, as a stub forwarder does: RFC 1035 for the messages, RFC 5452 for
// telling answers from forgeries, RFC 6891 for EDNS, RFC 7766 for TCP, RFC 2308 for how long "no" is kept.
//
//	Forward ──► cache ── hit ─────────────────────────────────────────► the answer, its TTLs counted down
//	              │ miss
//	              ▼
//	            flight ◄── whoever asks the same meanwhile joins it
//	              ├─ server 1 ── UDP: a socket and an id of its own ── truncated? ──► TCP, the same server
//	              │     nothing in its share of the time, SERVFAIL, REFUSED, NOTIMP, ICMP unreachable
//	              ├─ server 2 ── ...                       an answer of server 1 still counts
//	              ▼
//	            the first good answer ──► cache, and all that wait
//
// The servers are those given, or those of a file in the form of resolv.conf(5), which is followed. What a client says about itself
// (EDNS client subnet, cookies, its spelling of the name) goes no further than here.
package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Config says whom to ask.
type Config struct {
	Servers     []netip.AddrPort      // those of --dns; empty: those of ResolvConf
	ResolvConf  string                // followed as it changes; empty: /etc/resolv.conf
	Avoid       func(netip.Addr) bool // of our own gateways: a question to one would come back. Called from any goroutine; nil: none are
	Outstanding int                   // questions that may be under way; 0: 1,000
	Timeout     time.Duration         // of a question, all servers together; 0: 5 s
	Entries     int                   // answers that the cache holds; 0: 2,000
	Bytes       int                   // that the cache holds; 0: 4 MiB
	Dial        Dial                  // nil: the kernel's sockets
	Log         *slog.Logger          // nil: none
}

// Dial opens a socket that is connected to a server, network being udp or tcp. Each is used for one question, then closed: one for UDP
// must have a source port that nobody can predict (RFC 5452 §9.2), as the kernel's have.
type Dial func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)

const (
	defaultFile        = "/etc/resolv.conf"
	defaultOutstanding = 1000
	defaultTimeout     = 5 * time.Second
	defaultEntries     = 2000
	defaultBytes       = 4 << 20
)

// Errors of Forward and Trace, which a server answers with SERVFAIL. Each comes wrapped in what there is to say about it.
var (
	ErrBusy      = errors.New("too many questions are under way")
	ErrNoServers = errors.New("there is no name server to ask")
	ErrNoAnswer  = errors.New("no name server gave an answer")
	ErrClosed    = errors.New("the resolver is closed")
)

// Resolver forwards questions. Its methods may be called from any goroutine.
type Resolver struct {
	c      Config
	ctx    context.Context // of all flights
	cancel context.CancelFunc
	flying sync.WaitGroup
	view   atomic.Pointer[view]
	file   *file // nil: the servers are given
	count  counters

	mu     sync.Mutex // of every pool's flights and cache
	under  int        // flights under way
	closed bool
}

// New returns a resolver. It works at once; end it by Run's context, or by Close.
func New(c Config) *Resolver {
	if c.ResolvConf == "" {
		c.ResolvConf = defaultFile
	}
	if c.Avoid == nil {
		c.Avoid = func(netip.Addr) bool { return false }
	}
	if c.Outstanding == 0 {
		c.Outstanding = defaultOutstanding
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Entries == 0 {
		c.Entries = defaultEntries
	}
	if c.Bytes == 0 {
		c.Bytes = defaultBytes
	}
	if c.Dial == nil {
		c.Dial = dial
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Resolver{c: c}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if len(c.Servers) > 0 {
		r.view.Store(r.see(Conf{Servers: c.Servers}, nil))
	} else {
		r.file = &file{path: c.ResolvConf}
		r.follow(time.Now())
	}
	return r
}

// Run keeps the resolver until ctx is done, then closes it.
func (r *Resolver) Run(ctx context.Context) error {
	<-ctx.Done()
	return r.Close()
}

// Close ends all questions that are under way and waits for their goroutines. Later ones get ErrClosed.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.flying.Wait()
	return nil
}

// Forward answers a question with what the host's resolvers say, or have said. The answer is the caller's own: it has q's id, q's
// spelling of the name, no OPT record, and is whole whatever its size; how the client asked makes no difference to it. An error means that
// there is none, which is to be answered with SERVFAIL. The end of ctx ends the wait of this caller, not that of others for the
// same answer.
func (r *Resolver) Forward(ctx context.Context, q *dns.Msg, _ bool) (*dns.Msg, error) {
	m, _, err := r.resolve(ctx, q)
	return m, err
}

// Trace says where an answer comes from.
type Trace struct {
	Server netip.AddrPort // that gave it; the zero one: the resolver itself, which refuses zone transfers and the like
	TCP    bool           // it was too large for UDP
	Took   time.Duration  // from the question to the answer, then
	Cached bool           // it was given before
	Age    time.Duration  // since then
}

// Trace answers as Forward does, and says where the answer comes from.
func (r *Resolver) Trace(ctx context.Context, q *dns.Msg) (*dns.Msg, Trace, error) {
	return r.resolve(ctx, q)
}

// Search returns the host's search list, for what is run with the host's names. It is empty if the servers are given.
func (r *Resolver) Search() []string { return r.current().conf.Search }
