package upstream

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// heard is a question as a fake server got it.
type heard struct {
	network string
	from    netip.AddrPort
	msg     *dns.Msg
	gone    <-chan struct{} // closed when a client of wires is
}

// say is how a fake server answers: with any number of datagrams, or of whole messages on a stream.
type say func(h heard) [][]byte

// fake is a name server on the loopback, of both UDP and TCP.
type fake struct {
	at  netip.AddrPort
	say say

	mu    sync.Mutex
	heard []heard
}

// serve starts a fake server that ends with the test.
func serve(t testing.TB, s say) *fake { return serveAt(t, "127.0.0.1", s) }

func serveAt(t testing.TB, host string, s say) *fake {
	t.Helper()
	var pc net.PacketConn
	var l net.Listener
	for range 20 { // another process may hold the TCP port of that number
		var err error
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			t.Skipf("no loopback: %v", err)
		}
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		l.Close()
	}
	if pc == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	f := &fake{at: l.Addr().(*net.TCPAddr).AddrPort(), say: s}
	var serving sync.WaitGroup
	serving.Go(func() { f.datagrams(pc) })
	serving.Go(func() { f.streams(l, &serving) })
	t.Cleanup(func() { pc.Close(); l.Close(); serving.Wait() })
	return f
}

func (f *fake) datagrams(pc net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		for _, b := range f.answer("udp", from.(*net.UDPAddr).AddrPort(), buf[:n]) {
			pc.WriteTo(b, from)
		}
	}
}

func (f *fake) streams(l net.Listener, serving *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			f.stream(conn, conn.RemoteAddr().(*net.TCPAddr).AddrPort())
		})
	}
}

// stream answers one question; what say returns goes out as it is, so that it must hold the length prefixes.
func (f *fake) stream(conn net.Conn, from netip.AddrPort) {
	b, err := whole(conn)
	if err != nil {
		return
	}
	for _, b := range f.answer("tcp", from, b) {
		conn.Write(b)
	}
}

func (f *fake) answer(network string, from netip.AddrPort, b []byte) [][]byte {
	q := new(dns.Msg)
	if err := q.Unpack(b); err != nil {
		panic(fmt.Sprintf("a question that is none: %v", err))
	}
	h := heard{network: network, from: from, msg: q}
	f.mu.Lock()
	f.heard = append(f.heard, h)
	f.mu.Unlock()
	return f.say(h)
}

func (f *fake) questions() []heard {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]heard(nil), f.heard...)
}

// pack returns a message as the network of the question carries it.
func (h heard) pack(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return h.frame(b)
}

func (h heard) frame(b []byte) []byte {
	if h.network == "udp" {
		return b
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// reply is an answer with these records, OPT as a server sends it.
func (h heard) reply(rcode int, records ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(h.msg, rcode)
	m.RecursionAvailable, m.AuthenticatedData, m.Authoritative = true, true, true
	for _, s := range records {
		r := rr(s)
		if r.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, r)
		} else {
			m.Answer = append(m.Answer, r)
		}
	}
	if h.msg.IsEdns0() != nil {
		m.SetEdns0(4096, false)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
	}
	return m
}

func rr(s string) dns.RR {
	r, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return r
}

// always answers with these records.
func always(rcode int, records ...string) say {
	return func(h heard) [][]byte { return [][]byte{h.pack(h.reply(rcode, records...))} }
}

func never(heard) [][]byte { return nil }

// query is a client's question.
func query(name string, kind uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	return m
}

// resolver returns one that ends with the test.
func resolver(t testing.TB, c Config) *Resolver {
	t.Helper()
	r := New(c)
	t.Cleanup(func() { r.Close() })
	return r
}

// must forwards a question that has an answer.
func must(t testing.TB, r *Resolver, q *dns.Msg) *dns.Msg {
	t.Helper()
	m, err := r.Forward(t.Context(), q, false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wires are fake servers without a kernel between, for tests in a synctest bubble. A server that is not there refuses.
type wires map[netip.AddrPort]func(heard, net.Conn)

func (w wires) dial(_ context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	serve, ok := w[to]
	if !ok {
		return nil, fmt.Errorf("connect to %s: connection refused", to)
	}
	pipe, server := net.Pipe()
	client := &wire{Conn: pipe, gone: make(chan struct{})}
	go func() {
		defer server.Close()
		buf := make([]byte, room)
		if network == "tcp" {
			if _, err := io.ReadFull(server, buf[:2]); err != nil {
				return
			}
		}
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if err := q.Unpack(buf[:n]); err != nil {
			panic(err)
		}
		serve(heard{network: network, msg: q, gone: client.gone}, server)
		io.Copy(io.Discard, server) // until the client closes
	}()
	return client, nil
}

// wire is a client's end that tells the server when it is closed.
type wire struct {
	net.Conn
	gone chan struct{}
	once sync.Once
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.gone) })
	return w.Conn.Close()
}

// after answers when some time has passed, if anybody still waits.
func after(d time.Duration, s say) func(heard, net.Conn) {
	return func(h heard, conn net.Conn) {
		select {
		case <-time.After(d):
		case <-h.gone:
		}
		for _, b := range s(h) {
			conn.Write(b)
		}
	}
}

var (
	one   = netip.MustParseAddrPort("192.0.2.1:53")
	two   = netip.MustParseAddrPort("192.0.2.2:53")
	three = netip.MustParseAddrPort("192.0.2.3:53")
)
