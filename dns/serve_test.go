package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// home is a zone whose container is this process, on loopback.
func home(n int) Config {
	c := crowd(n, false)
	c.Networks[0].Subnets = append(c.Networks[0].Subnets, netip.MustParsePrefix("127.0.0.0/8"))
	c.Containers = []Container{{Name: "here", Networks: []Membership{{"crowd", addresses("127.0.0.1")}}}}
	return c
}

// serving starts a server on loopback, and returns where.
func serving(t *testing.T, c ServerConfig, zone Config) (s *Server, at string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at = l.Addr().String()
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		l.Close()
		t.Fatal(err)
	}
	s = New(c)
	s.SetZone(Compile(zone))
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), "crowd", pc, l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if st := s.Stats(); st.Conns != 0 || st.Outstanding != 0 {
			t.Errorf("left behind: %+v", st)
		}
	})
	return s, at
}

func TestResolversAreServedByUDPAndTCP(t *testing.T) {
	_, at := serving(t, ServerConfig{Forwarder: &outside{}}, home(200))
	for _, network := range []string{"udp", "tcp"} {
		c := &mdns.Client{Net: network, Timeout: 10 * time.Second}
		for _, tt := range []struct {
			name  string
			rcode int
			cut   bool
			least int
		}{{"c7.crowd.weft.internal.", 0, false, 1}, {"all.", 0, network == "udp", 25}, {"nix.", mdns.RcodeNameError, false, 0}, {"example.org.", 0, false, 1}} {
			m, _, err := c.Exchange(new(mdns.Msg).SetQuestion(tt.name, typeA), at)
			if err != nil {
				t.Fatalf("%s by %s: %v", tt.name, network, err)
			}
			if m.Rcode != tt.rcode || m.Truncated != tt.cut || len(m.Answer) < tt.least {
				t.Errorf("%s by %s: %v", tt.name, network, m)
			}
		}
	}
}

func TestOneConnectionCarriesManyQuestions(t *testing.T) {
	_, at := serving(t, ServerConfig{Forwarder: &outside{}}, home(3))
	conn, err := mdns.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := make(map[uint16]string)
	for i, name := range []string{"c0.", "example.org.", "c1.", "example.net.", "nix."} {
		q := new(mdns.Msg).SetQuestion(name, typeA)
		q.Id = uint16(i)
		want[q.Id] = name
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
	}
	conn.Conn.(*net.TCPConn).CloseWrite() // half-closed: the answers come all the same
	for range len(want) {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if want[m.Id] != m.Question[0].Name {
			t.Fatalf("answer %d is to %s, want %s", m.Id, m.Question[0].Name, want[m.Id])
		}
		delete(want, m.Id)
	}
	if _, err := conn.Read(make([]byte, 2)); err != io.EOF {
		t.Fatalf("after the last answer: %v, want EOF", err)
	}
}

// stuck is a Forwarder that answers when it is told to.
type stuck struct {
	asked chan string
	free  chan struct{}
}

func newStuck() *stuck { return &stuck{asked: make(chan string, 100), free: make(chan struct{})} }

func (s *stuck) Forward(ctx context.Context, q *mdns.Msg, _ bool) (*mdns.Msg, error) {
	s.asked <- q.Question[0].Name
	select {
	case <-s.free:
		return new(mdns.Msg).SetReply(q), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestAResolverThatDoesNotAnswerHoldsNobodyElseUp(t *testing.T) {
	f := newStuck()
	s, at := serving(t, ServerConfig{Forwarder: f, PerContainer: 3}, home(3))
	conn, err := mdns.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	send := func(id uint16, name string) {
		q := new(mdns.Msg).SetQuestion(name, typeA)
		q.Id = id
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(id uint16, rcode int) {
		t.Helper()
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if id != 0 && m.Id != id || m.Rcode != rcode {
			t.Fatalf("%v, want %d with %s", m, id, mdns.RcodeToString[rcode])
		}
	}
	for i := range uint16(3) {
		send(1+i, "example.org.")
	}
	for range 3 {
		<-f.asked
	}
	send(10, "c1.")
	receive(10, mdns.RcodeSuccess)
	send(11, "example.org.") // one more than it may have
	receive(11, mdns.RcodeServerFailure)
	if st := s.Stats(); st.Outstanding != 3 || st.Drops["limit"] != 1 {
		t.Fatalf("%+v, want 3 outstanding and one beyond the limit", st)
	}
	close(f.free)
	for range 3 {
		receive(0, mdns.RcodeSuccess)
	}
}

func TestQuotaIsInAllAndOfEach(t *testing.T) {
	q := newQuota(3, 2)
	for i, tt := range []struct {
		who  string
		give bool
		ok   bool
	}{{"a", false, true}, {"a", false, true}, {"a", false, false}, {"b", false, true}, {"c", false, false}, {"a", true, true}, {"c", false, true}} {
		if tt.give {
			q.give(tt.who)
		} else if ok := q.take(tt.who); ok != tt.ok {
			t.Fatalf("step %d, %s: %t", i, tt.who, ok)
		}
	}
	for _, who := range []string{"a", "b", "c"} {
		q.give(who)
	}
	if q.used() != 0 || len(q.taken) != 0 {
		t.Fatalf("%d used, by %v", q.used(), q.taken)
	}
}

// pipes is a listener of connections in memory, from 127.0.0.1.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4000} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return pipe{c}, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// bubble runs f with a server on a listener in memory, whose Forwarder is stuck unless c has one.
func bubble(t *testing.T, c ServerConfig, f func(t *testing.T, s *Server, l *pipes, k *stuck)) {
	synctest.Test(t, func(t *testing.T) {
		k := newStuck()
		if c.Forwarder == nil {
			c.Forwarder = k
		}
		s, l := New(c), newPipes()
		s.SetZone(Compile(home(3)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, "crowd", nil, l) }()
		f(t, s, l, k)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if st := s.Stats(); st.Conns != 0 || st.Outstanding != 0 {
			t.Errorf("left behind: %+v", st)
		}
	})
}

func framed(t *testing.T, name string) []byte {
	wire, err := new(mdns.Msg).SetQuestion(name, typeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
}

func TestASlowClientLosesItsConnection(t *testing.T) {
	for _, tt := range []struct {
		why string
		do  func(t *testing.T, c net.Conn)
	}{
		{"says nothing", func(*testing.T, net.Conn) {}},
		{"says half a length", func(_ *testing.T, c net.Conn) { c.Write([]byte{0}) }},
		{"sends a byte a second", func(t *testing.T, c net.Conn) {
			for _, b := range framed(t, "c1.") {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
			t.Error("it was let")
		}},
		{"does not read its answer", func(t *testing.T, c net.Conn) {
			c.Write(framed(t, "c1."))
			time.Sleep(11 * time.Second)
		}},
		{"does not read others' answers", func(t *testing.T, c net.Conn) {
			for range 20 {
				c.Write(framed(t, "example.org."))
			}
			time.Sleep(11 * time.Second)
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			bubble(t, ServerConfig{Forwarder: &outside{}}, func(t *testing.T, _ *Server, l *pipes, k *stuck) {
				c := l.dial()
				defer c.Close()
				start := time.Now()
				tt.do(t, c)
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > 12*time.Second {
					t.Fatalf("the connection was kept for %v", took)
				}
			})
		})
	}
}

func TestAMessageLongerThanAnyQuestionEndsTheConnection(t *testing.T) {
	bubble(t, ServerConfig{}, func(t *testing.T, s *Server, l *pipes, k *stuck) {
		c := l.dial()
		defer c.Close()
		start := time.Now()
		c.Write([]byte{0xff, 0xff})
		io.Copy(io.Discard, c)
		if time.Since(start) != 0 || s.Stats().Drops["long"] != 1 {
			t.Fatalf("it took %v, drops %v", time.Since(start), s.Stats().Drops)
		}
	})
}

func TestAContainerHasAsManyConnectionsAsItMay(t *testing.T) {
	bubble(t, ServerConfig{ConnsPer: 2}, func(t *testing.T, s *Server, l *pipes, k *stuck) {
		first, second, third := l.dial(), l.dial(), l.dial()
		defer first.Close()
		defer second.Close()
		defer third.Close()
		if _, err := third.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the third: %v, want EOF", err)
		}
		if st := s.Stats(); st.Conns != 2 || st.Drops["conns"] != 1 {
			t.Fatalf("%+v", st)
		}
		first.Close()
		synctest.Wait()
		fourth := l.dial()
		defer fourth.Close()
		go fourth.Write(framed(t, "c1."))
		if _, err := io.ReadFull(fourth, make([]byte, 14)); err != nil {
			t.Fatalf("the fourth, with the first gone: %v", err)
		}
	})
}

func TestForwardsEndInTime(t *testing.T) {
	bubble(t, ServerConfig{}, func(t *testing.T, s *Server, l *pipes, k *stuck) {
		c := l.dial()
		defer c.Close()
		start := time.Now()
		c.Write(framed(t, "example.org."))
		b := make([]byte, 14)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 4*time.Second || b[5]&0xf != mdns.RcodeServerFailure {
			t.Fatalf("rcode %d after %v, want SERVFAIL after 4s", b[5]&0xf, took)
		}
	})
}

func TestTheEndOfAConnectionEndsItsForwards(t *testing.T) {
	bubble(t, ServerConfig{}, func(t *testing.T, s *Server, l *pipes, k *stuck) {
		c := l.dial()
		c.Write(framed(t, "example.org."))
		<-k.asked
		c.Close()
		start := time.Now()
		for s.Stats().Outstanding > 0 { // it could be half of a close, so that the answer is waited for
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("the forward went on for %v", took)
		}
	})
}

func TestContextEndsServeWithForwardsOutstanding(t *testing.T) {
	bubble(t, ServerConfig{Timeout: time.Hour}, func(t *testing.T, s *Server, l *pipes, k *stuck) {
		c := l.dial() // the server's end of it is closed with ctx
		c.Write(framed(t, "example.org."))
		<-k.asked
	})
}

func TestServeAfterCloseServesNothing(t *testing.T) {
	s := New(ServerConfig{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l := newPipes()
	if err := s.Serve(t.Context(), "crowd", nil, l); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err != net.ErrClosed {
		t.Fatalf("the listener is open: %v", err)
	}
}

// broken is a socket that fails.
type broken struct{ net.PacketConn }

var errBroken = errors.New("the router is gone")

func (broken) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, errBroken }
func (broken) Close() error                           { return nil }

func TestServeEndsWithASocketThatKeepsFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := New(ServerConfig{Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if err := s.Serve(ctx, "front", broken{}, nil); err != nil {
			t.Fatalf("Serve, of a context that has ended: %v", err)
		}
		err := s.Serve(t.Context(), "front", broken{}, nil)
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "network front") {
			t.Fatalf("Serve: %v", err)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Fatalf("%d log lines, want 1: %s", n, log.String())
		}
	})
}

func TestAnyPacketConnWillDo(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(ServerConfig{})
	s.SetZone(Compile(home(3)))
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), "crowd", struct{ net.PacketConn }{pc}, nil) }()
	m, _, err := new(mdns.Client).Exchange(new(mdns.Msg).SetQuestion("c1.", typeA), pc.LocalAddr().String())
	s.Close()
	if err != nil || data(m.Answer) != "10.8.0.3" {
		t.Fatalf("%v, %v", m, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
