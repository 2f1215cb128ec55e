package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/egress/datagram"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/router"
)

const patience = 20 * time.Second

var (
	client = netip.MustParseAddrPort("10.1.0.5:40000")
	server = netip.MustParseAddrPort("192.0.2.80:80")
)

// answer is what a container was told.
type answer struct {
	word string
	code packet.Code
}

// ask is a container's request, as a router hands it on.
type ask struct {
	answers chan answer
	err     error    // of Accept
	far     net.Conn // the container's own end, when it was accepted
	state   string   // of the router's
}

// near is the router's end of an accepted connection.
type near struct {
	*net.TCPConn
	a *ask
}

func (n near) Reset() error {
	_ = n.SetLinger(0)
	return n.Close()
}

func (n near) Info() router.Info { return router.Info{State: n.a.state, RTT: time.Millisecond} }

func newAsk() *ask { return &ask{answers: make(chan answer, 10), state: "ESTABLISHED"} }

func (a *ask) accept(context.Context) (side, error) {
	if a.err != nil {
		return nil, a.err
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if a.far, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)); err != nil {
		return nil, err
	}
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	a.answers <- answer{word: "accept"}
	return near{c, a}, nil
}

func (a *ask) Refuse()                   { a.answers <- answer{word: "refuse"} }
func (a *ask) Unreachable(c packet.Code) { a.answers <- answer{"unreachable", c} }
func (a *ask) Ignore()                   { a.answers <- answer{word: "ignore"} }

func (a *ask) told(t testing.TB) answer {
	t.Helper()
	select {
	case got := <-a.answers:
		return got
	case <-time.After(patience):
		t.Fatal("the container is told nothing")
		return answer{}
	}
}

// world is a network's way out to a server on loopback, which stands for all remotes.
type world struct {
	testing.TB
	e       *Egress
	n       *Network
	remotes chan *net.TCPConn // what the server accepts
	served  sync.WaitGroup
}

func newWorld(t testing.TB, c Config) *world {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	t.Cleanup(func() { eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines }) })
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, e: e, remotes: make(chan *net.TCPConn, 100)}
	w.served.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			w.remotes <- c
		}
	})
	at := netip.MustParseAddrPort(l.Addr().String())
	e.dial = func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) { return dial(ctx, at) }
	w.n = e.Network("blue", sample(Internet))
	t.Cleanup(func() {
		e.Close()
		l.Close()
		w.served.Wait()
		for len(w.remotes) > 0 {
			(<-w.remotes).Close()
		}
	})
	return w
}

// serve has the network answer a request, in the background, and tells when what came of it has ended.
func (w *world) serve(ctx context.Context, a *ask, src, dst netip.AddrPort) (ended chan struct{}) {
	ended = make(chan struct{})
	w.served.Go(func() {
		defer close(ended)
		w.n.serve(ctx, a, src, dst)
		for w.n.has(src) {
			time.Sleep(time.Millisecond)
		}
	})
	return ended
}

// has reports whether a container's port has a connection.
func (n *Network) has(src netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for f := range n.flows {
		if f.src == src {
			return true
		}
	}
	return false
}

// open opens a connection, and returns the container's end, and the remote's.
func (w *world) open(src, dst netip.AddrPort) (container net.Conn, remote *net.TCPConn, ended chan struct{}) {
	w.Helper()
	a := newAsk()
	ended = w.serve(context.Background(), a, src, dst)
	if got := a.told(w); got.word != "accept" {
		w.Fatalf("the container was told %v, expected that it is accepted", got)
	}
	remote = <-w.remotes
	w.Cleanup(func() { a.far.Close(); remote.Close() })
	_ = a.far.SetDeadline(time.Now().Add(patience))
	_ = remote.SetDeadline(time.Now().Add(patience))
	return a.far, remote, ended
}

func (w *world) await(ended <-chan struct{}) {
	w.Helper()
	select {
	case <-ended:
	case <-time.After(patience):
		w.Fatal("the flow does not end")
	}
}

func eventually(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the condition did not come true")
		}
	}
}

func wasReset(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("reading ended with %v, expected a reset", err)
	}
}

func TestAContainerIsToldWhatTheRemoteSays(t *testing.T) {
	call := func(e unix.Errno) error { return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", e)} }
	for name, c := range map[string]struct {
		err  error
		want answer
		word string
	}{
		"refused":                  {call(unix.ECONNREFUSED), answer{word: "refuse"}, "refused"},
		"reset while it opens":     {call(unix.ECONNRESET), answer{word: "refuse"}, "refused"},
		"no route":                 {call(unix.ENETUNREACH), answer{"unreachable", packet.NetUnreachable}, "no-route"},
		"no IPv6 at all":           {call(unix.EAFNOSUPPORT), answer{"unreachable", packet.NetUnreachable}, "no-route"},
		"a link that is not named": {call(unix.EINVAL), answer{"unreachable", packet.NetUnreachable}, "no-route"},
		"no host":                  {call(unix.EHOSTUNREACH), answer{"unreachable", packet.HostUnreachable}, "no-host"},
		"no answer, says the host": {call(unix.ETIMEDOUT), answer{"unreachable", packet.HostUnreachable}, "no-answer"},
		"no answer in time":        {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, answer{"unreachable", packet.HostUnreachable}, "no-answer"},
		"a firewall of the host's": {call(unix.EPERM), answer{"unreachable", packet.Prohibited}, "prohibited"},
		"a firewall in between":    {call(unix.EACCES), answer{"unreachable", packet.Prohibited}, "prohibited"},
		"no such protocol":         {call(unix.ENOPROTOOPT), answer{"unreachable", packet.ProtocolUnreachable}, "no-protocol"},
		"no descriptor left":       {call(unix.EMFILE), answer{word: "ignore"}, "no-socket"},
		"no descriptor of all":     {call(unix.ENFILE), answer{word: "ignore"}, "no-socket"},
		"no memory":                {call(unix.ENOBUFS), answer{word: "ignore"}, "no-socket"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.e.dial = func(context.Context, netip.AddrPort) (*net.TCPConn, error) { return nil, c.err }
			a := newAsk()
			w.n.serve(context.Background(), a, client, server)
			if got := a.told(t); got != c.want || len(a.answers) > 0 {
				t.Errorf("it was told %v and %d things more, expected %v", got, len(a.answers), c.want)
			}
			if s := w.n.Stats(); s.Failed[c.word] != 1 || len(s.Failed) != 1 || s.Connections != 0 {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

func TestWithoutAnAddressToSendFromThereIsNoRoute(t *testing.T) {
	err := os.NewSyscallError("connect", unix.EADDRNOTAVAIL)
	if o := outcomeOf(err, netip.MustParseAddrPort("127.0.0.1:9")); o != noSocket {
		t.Errorf("where there is one it is %s, expected no-socket: the ports are in use", outcomeWords[o])
	}
}

func TestARefusedDialIsRefused(t *testing.T) {
	w := newWorld(t, Config{})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	w.e.dial = func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
		return dial(ctx, netip.MustParseAddrPort(l.Addr().String()))
	}
	a := newAsk()
	w.n.serve(context.Background(), a, client, server)
	if got := a.told(t); got.word != "refuse" {
		t.Errorf("it was told %v", got)
	}
}

func TestADialThatNobodyAnswersEndsInTime(t *testing.T) {
	w := newWorld(t, Config{DialTimeout: time.Millisecond})
	w.e.dial = func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	a := newAsk()
	w.n.serve(context.Background(), a, client, server)
	if got := a.told(t); got != (answer{"unreachable", packet.HostUnreachable}) {
		t.Errorf("it was told %v", got)
	}
}

func TestWhatIsForbiddenIsNotDialed(t *testing.T) {
	w := newWorld(t, Config{})
	w.e.dial = func(_ context.Context, to netip.AddrPort) (*net.TCPConn, error) {
		t.Errorf("%s was dialed", to)
		return nil, unix.ECONNREFUSED
	}
	for dst, word := range map[string]string{
		"10.5.0.7:80": "other-network", "127.0.0.1:80": "loopback", "169.254.169.254:80": "link-local", "192.168.1.10:2377": "agent",
	} {
		a := newAsk()
		w.n.serve(context.Background(), a, client, netip.MustParseAddrPort(dst))
		if got := a.told(t); got != (answer{"unreachable", packet.Prohibited}) {
			t.Errorf("of %s it was told %v", dst, got)
		}
		if w.n.Stats().Forbidden[word] != 1 {
			t.Errorf("%s is not counted as %s: %v", dst, word, w.n.Stats().Forbidden)
		}
	}
}

func TestBytesAndEndsAreCarriedAndCounted(t *testing.T) {
	w := newWorld(t, Config{})
	container, remote, ended := w.open(client, server)
	_, _ = io.WriteString(container, "question")
	_ = container.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(remote); string(b) != "question" || err != nil {
		t.Fatalf("the remote read %q, %v", b, err)
	}
	flows := w.e.Flows()
	if len(flows) != 1 {
		t.Fatalf("%d flows are listed", len(flows))
	}
	f := flows[0]
	if f.Network != "blue" || f.Protocol != frame.ProtoTCP || f.Container != client || f.Remote != server || f.Up != 8 || f.Down != 0 || f.State != "closing" || f.RTT <= 0 || f.ContainerRTT <= 0 || f.Age <= 0 {
		t.Errorf("listed is %+v", f)
	}
	if s := w.n.Stats(); s.Connections != 1 || s.Up != 8 {
		t.Errorf("counted %+v", s)
	}
	_, _ = io.WriteString(remote, "yes")
	_ = remote.Close()
	if b, err := io.ReadAll(container); string(b) != "yes" || err != nil {
		t.Fatalf("the container read %q, %v", b, err)
	}
	w.await(ended)
	if s := w.n.Stats(); s.Connections != 0 || s.Opened != 1 || s.Completed != 1 || s.Up != 8 || s.Down != 3 {
		t.Errorf("counted %+v", s)
	}
	if len(w.e.Flows()) != 0 {
		t.Error("what has ended is listed")
	}
}

func TestContainersLeaveTheAgentSockets(t *testing.T) {
	w := newWorld(t, Config{})
	w.e.sockets = datagram.NewQuota(2, 3)
	ignored := func(src netip.AddrPort) {
		t.Helper()
		a := newAsk()
		w.n.serve(context.Background(), a, src, server)
		if got := a.told(t); got.word != "ignore" {
			t.Errorf("without a socket for it %s was told %v", src, got)
		}
	}
	other := netip.MustParseAddrPort("10.1.0.6:40000")
	_, remote, ended := w.open(client, server)
	w.open(netip.AddrPortFrom(client.Addr(), 40001), server)
	ignored(netip.AddrPortFrom(client.Addr(), 40002))
	w.open(other, server)
	ignored(other)
	_ = remote.SetLinger(0)
	_ = remote.Close()
	w.await(ended)
	w.open(other, server)
	if got := w.n.Stats().Limited; got != 2 {
		t.Errorf("%d were counted, expected 2", got)
	}
}

func TestAContainerHasNoMoreFlowsThanItMay(t *testing.T) {
	w := newWorld(t, Config{FlowsPerContainer: 2})
	if !w.e.limit.Take("blue", client.Addr()) { // a flow of datagrams
		t.Fatal("it may have none at all")
	}
	_, remote, ended := w.open(client, server)
	a := newAsk()
	w.n.serve(context.Background(), a, client, server)
	if got := a.told(t); got.word != "ignore" || w.n.Stats().Limited != 1 {
		t.Errorf("beyond the limit it was told %v, and %d were counted", got, w.n.Stats().Limited)
	}
	w.open(netip.MustParseAddrPort("10.1.0.6:40000"), server) // another container is unharmed
	_ = remote.SetLinger(0)
	_ = remote.Close()
	w.await(ended)
	w.open(client, server)
	w.e.limit.Give("blue", client.Addr())
	w.open(client, server)
}

func TestAContainerThatGaveUpMeanwhileLeavesNothing(t *testing.T) {
	w := newWorld(t, Config{})
	a := newAsk()
	a.err = errors.New("the container is gone")
	w.n.serve(context.Background(), a, client, server)
	remote := <-w.remotes
	defer remote.Close()
	wasReset(t, remote)
	if s := w.n.Stats(); s.Abandoned != 1 || s.Connections != 0 {
		t.Errorf("counted %+v", s)
	}
}

func TestADialEndsWithItsContainer(t *testing.T) {
	for name, end := range map[string]func(w *world, cancel func()){
		"the router's context": func(_ *world, cancel func()) { cancel() },
		"forgotten":            func(w *world, _ func()) { w.n.Forget(client.Addr()) },
		"closed":               func(w *world, _ func()) { w.n.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			dialing := make(chan struct{})
			w.e.dial = func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
				close(dialing)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			a := newAsk()
			ended := w.serve(ctx, a, client, server)
			<-dialing
			if f := w.e.Flows(); len(f) != 1 || f[0].State != "dialing" {
				t.Errorf("listed is %+v", f)
			}
			end(w, cancel)
			w.await(ended)
			if got := a.told(t); got.word != "ignore" {
				t.Errorf("it was told %v", got)
			}
		})
	}
}

func TestFlowsAreCutWhenTheyMayBeNoLonger(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("198.51.100.1:80")
	for name, c := range map[string]struct {
		cut  func(w *world)
		left []netip.AddrPort // containers
	}{
		"a policy that forbids one": {func(w *world) {
			p := sample(Internet)
			p.Foreign = append(p.Foreign, netip.MustParsePrefix("192.0.2.0/24"))
			w.n.SetPolicy(p)
		}, []netip.AddrPort{netip.MustParseAddrPort("10.1.0.6:1")}},
		"a policy that forbids all":  {func(w *world) { w.n.SetPolicy(sample(None)) }, nil},
		"a policy that says as much": {func(w *world) { w.n.SetPolicy(sample(Full)) }, []netip.AddrPort{client, netip.MustParseAddrPort("10.1.0.6:1")}},
		"a container that went":      {func(w *world) { w.n.Forget(client.Addr()) }, []netip.AddrPort{netip.MustParseAddrPort("10.1.0.6:1")}},
		"the network's end":          {func(w *world) { w.n.Close() }, nil},
		"the way out's end":          {func(w *world) { w.e.Close() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			c1, r1, e1 := w.open(client, server)
			c2, r2, e2 := w.open(netip.MustParseAddrPort("10.1.0.6:1"), elsewhere)
			c.cut(w)
			cut := uint64(0)
			for _, f := range []struct {
				src               netip.AddrPort
				container, remote net.Conn
				ended             chan struct{}
			}{{client, c1, r1, e1}, {netip.MustParseAddrPort("10.1.0.6:1"), c2, r2, e2}} {
				if slices.Contains(c.left, f.src) {
					_, _ = io.WriteString(f.container, "a")
					if _, err := f.remote.Read(make([]byte, 1)); err != nil {
						t.Errorf("what is allowed was cut: %v", err)
					}
					continue
				}
				cut++
				w.await(f.ended)
				wasReset(t, f.container)
				wasReset(t, f.remote)
			}
			if s := w.n.Stats(); s.Cut != cut || s.Connections != 2-int(cut) {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

func TestAPolicySetWhileASYNIsLookedAtDecides(t *testing.T) {
	w := newWorld(t, Config{})
	w.e.dial = func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
		w.n.SetPolicy(sample(None))
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a := newAsk()
	w.await(w.serve(context.Background(), a, client, server))
	if got := a.told(t); got.word != "ignore" {
		t.Errorf("it was told %v", got)
	}
	a = newAsk()
	w.n.serve(context.Background(), a, client, server)
	if got := a.told(t); got.code != packet.Prohibited {
		t.Errorf("the next one was told %v", got)
	}
}

func TestASideThatBreaksWhileTheOtherDoesNotReadIsFound(t *testing.T) {
	fill := func(c net.Conn) {
		b := make([]byte, 1<<16)
		for {
			_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	t.Run("the remote", func(t *testing.T) {
		w := newWorld(t, Config{})
		_, remote, ended := w.open(client, server)
		fill(remote)
		_ = remote.SetLinger(0)
		_ = remote.Close()
		eventually(t, func() bool {
			w.e.look()
			select {
			case <-ended:
				return true
			default:
				return false
			}
		})
	})
	t.Run("the container", func(t *testing.T) {
		w := newWorld(t, Config{})
		a := newAsk()
		ended := w.serve(context.Background(), a, client, server)
		a.told(t)
		remote := <-w.remotes
		defer remote.Close()
		defer a.far.Close()
		w.e.look()
		select {
		case <-ended:
			t.Fatal("a sound connection was cut")
		default:
		}
		a.state = "ERROR"
		w.e.look()
		w.await(ended)
		wasReset(t, remote)
	})
}

func TestAClosedWayOutTakesNothing(t *testing.T) {
	w := newWorld(t, Config{})
	w.n.Close()
	w.n.Close()
	a := newAsk()
	w.n.serve(context.Background(), a, client, server)
	if got := a.told(t); got.word != "ignore" {
		t.Errorf("it was told %v", got)
	}
	w.e.Close()
	w.e.Close()
	n := w.e.Network("late", sample(Internet))
	a = newAsk()
	n.serve(context.Background(), a, client, server)
	if got := a.told(t); got.word != "ignore" {
		t.Errorf("a network of a closed way out told %v", got)
	}
}

func TestAConfigThatMakesNoSenseIsRefused(t *testing.T) {
	for _, c := range []Config{{FlowsPerContainer: -1}, {DialTimeout: -1}} {
		if e, err := New(c); err == nil {
			e.Close()
			t.Errorf("%+v is taken", c)
		}
	}
}
