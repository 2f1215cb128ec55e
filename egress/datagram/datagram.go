// Package datagram takes containers' UDP datagrams and echo requests out of the overlay by host sockets, without a TCP/IP stack in
// between. It maps as RFC 4787 and RFC 5508 want: one socket for each source port or echo id of a container, whatever it writes to
// (endpoint-independent mapping), and answers only from where it wrote to (address and port dependent filtering).
//
//	container ── frame ──► Datagram ── mapping ── remote ── sendmsg (UDP_SEGMENT, TTL, TOS) ──► outside
//	                       on the thread that     │  idle: 30 s unanswered, 180 s answered,
//	                       read the frame         │  10 s port 53, 60 s echo; the last one
//	                                              │  takes its mapping's socket along
//	container ◄── packet.Writer ── Table's thread ◄── recvmmsg (UDP_GRO); MSG_ERRQUEUE ◄────── outside
//
// ICMP errors about what was sent come back by the socket's error queue (IP_RECVERR) with the address of the router that sent them, and
// the container gets them from that address, quoting its own packet: traceroute, tracepath and path MTU discovery see through.
//
// A mapping's lock is held while a send uses its socket. The Table's thread alone closes sockets, with that lock held, so no send
// ever meets a descriptor that is somebody else's by now.
package datagram

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/loop"
	"github.com/weftnet/weft/stack/packet"
)

// Out is where answers go: a network's router.
type Out interface {
	packet.Sender
	Gateway(v6 bool) (netip.Addr, bool)
	MTU() int
}

// Admit decides whether containers may send to dst, and where that really is. The port is 0 for echo requests. It is called with the
// first datagram of a flow, on the thread of the data path.
type Admit func(proto uint8, dst netip.AddrPort) (to netip.AddrPort, ok bool)

// Limit bounds the flows of each container. Its methods are called with every flow that begins and ends, on any thread.
type Limit interface {
	Take(network string, container netip.Addr) bool
	Give(network string, container netip.Addr)
}

// Config describes a Table. The zero value is a sound one.
type Config struct {
	Limit   Limit            // nil: Flows for each container
	Flows   int              // 0: 16,384
	Sockets int              // in all, of which a container may have a quarter; 0: a quarter of what RLIMIT_NOFILE allows, at most 65,536
	Loop    *loop.Loop       // the thread that reads answers, which must outlive the Table; nil: one of its own, which starts with the first flow
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
}

const (
	defaultFlows = 16384
	maxSockets   = 65536
	share        = 4 // containers that it takes to use up all sockets
	shards       = 64
)

// Table is the way out for the datagrams of all networks of a node. Its methods may be called from any goroutine but its own thread.
type Table struct {
	limit   Limit
	sockets *Quota
	errors  *packet.Limiter
	now     func() time.Time
	start   time.Time
	log     *slog.Logger
	writers sync.Pool // of *packet.Writer, for what the senders' threads answer
	noPing  atomic.Uint64

	shards [shards]shard
	wheel  wheel
	reader *reader // of the thread

	mu     sync.Mutex // guards the thread's beginning and end
	closed atomic.Bool
	given  *loop.Loop
	loop   atomic.Pointer[loop.Loop]
	stop   context.CancelFunc // of a loop of its own
	done   chan struct{}
}

// New returns a table without flows.
func New(c Config) (*Table, error) {
	if c.Flows < 0 || c.Sockets < 0 {
		return nil, fmt.Errorf("datagram: %d flows for each container, %d sockets: expected positive numbers, or 0 for the defaults", c.Flows, c.Sockets)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Sockets == 0 {
		var files unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
			return nil, fmt.Errorf("datagram: limit of open files: %w", err)
		}
		c.Sockets = int(min(files.Cur/4, maxSockets))
	}
	if c.Limit == nil {
		if c.Flows == 0 {
			c.Flows = defaultFlows
		}
		c.Limit = NewQuota(c.Flows, 0)
	}
	t := &Table{
		limit: c.Limit, sockets: NewQuota(max(c.Sockets/share, 1), c.Sockets),
		errors: packet.NewLimiter(c.Now), now: c.Now, start: c.Now(), log: c.Log, given: c.Loop,
	}
	t.writers.New = func() any { return new(packet.Writer) }
	for i := range t.shards {
		t.shards[i].mappings = make(map[key]*mapping)
	}
	return t, nil
}

// clock returns the time since the table was made, in nanoseconds, never 0.
func (t *Table) clock() int64 { return max(int64(t.now().Sub(t.start)), 1) }

// thread returns the table's loop, which it begins to use if it does not yet; nil if it cannot, or the table is closed.
func (t *Table) thread() *loop.Loop {
	if l := t.loop.Load(); l != nil {
		return l
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.loop.Load(); l != nil || t.closed.Load() {
		return l
	}
	l, err := t.given, error(nil)
	if l == nil {
		l, err = loop.New(nil)
	}
	if err == nil {
		if t.wheel.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil && t.given == nil {
			t.end(l)
		}
	}
	if err != nil {
		t.log.Error("datagrams are not taken out", "error", err)
		return nil
	}
	t.reader = newReader(t)
	_ = l.Post(func() { // one that has ended carries no datagrams either
		if err := l.Serve(ticker{t}); err != nil {
			t.log.Error("datagram flows do not end", "error", err)
		}
	})
	if t.given == nil {
		t.run(l)
	}
	t.loop.Store(l)
	return l
}

// run begins to run a loop of the table's own.
func (t *Table) run(l *loop.Loop) {
	var ctx context.Context
	ctx, t.stop = context.WithCancel(context.Background())
	t.done = make(chan struct{})
	go func() {
		defer close(t.done)
		if err := l.Run(ctx); err != nil {
			t.log.Error("datagrams are not taken out", "error", err)
		}
	}()
}

// end has a loop that never ran give its descriptors up.
func (t *Table) end(l *loop.Loop) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.Run(ctx) // it does not wait even once
}

// Close ends all flows and waits. It is idempotent.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Swap(true) || t.loop.Load() == nil {
		return nil
	}
	t.endAll(func(*mapping) bool { return true })
	if t.given == nil {
		t.stop()
		<-t.done
	} else {
		t.given.Remove(ticker{t})
	}
	return unix.Close(t.wheel.timer)
}

// endAll ends the mappings that pick picks, and waits. The caller has made sure that there will be no new ones, if it minds.
func (t *Table) endAll(pick func(*mapping) bool) {
	l := t.loop.Load()
	if l == nil {
		return
	}
	_ = l.Do(func() { // after the loop's end there are none
		for i := range t.shards {
			for _, m := range t.shards[i].list() {
				if pick(m) {
					m.end()
				}
			}
		}
	})
}

// Network is the way out of one network.
type Network struct {
	Drops drop.Counters // answers that were not handed on

	name   string
	t      *Table
	admit  Admit
	out    atomic.Pointer[Out]
	closed atomic.Bool
}

// Network returns the way out of a network: answers go to out, and admit decides where containers may send. Out may be nil until Bind.
func (t *Table) Network(name string, out Out, admit Admit) *Network {
	n := &Network{name: name, t: t, admit: admit}
	if out != nil {
		n.Bind(out)
	}
	return n
}

// Bind has answers go to out from now on.
func (n *Network) Bind(out Out) { n.out.Store(&out) }

// router returns where answers go, nil if nowhere yet.
func (n *Network) router() Out {
	if p := n.out.Load(); p != nil {
		return *p
	}
	return nil
}

// Forget ends all flows of a container, and waits.
func (n *Network) Forget(container netip.Addr) {
	n.t.endAll(func(m *mapping) bool { return m.key.net == n && m.key.addr == container })
}

// Close ends all flows of the network, and waits. It is idempotent.
func (n *Network) Close() {
	n.closed.Store(true)
	n.t.endAll(func(m *mapping) bool { return m.key.net == n })
}

// Readmit ends the flows that admit refuses by now, or leads elsewhere: it is called after what admit goes by has changed.
func (n *Network) Readmit() {
	n.t.endAll(func(m *mapping) bool {
		return m.key.net == n && m.cut(func(r *remote) bool {
			to, ok := n.admit(m.key.proto, r.dst)
			return !ok || to != r.wire
		})
	})
}
