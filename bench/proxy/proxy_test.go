package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/internal/lab"
)

// start runs a proxy to a server, on the loopback interface, until the test ends.
func start(t *testing.T, to net.Addr) netip.AddrPort {
	t.Helper()
	p, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort(to.String()))
	lab.Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	return p.Addr()
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	lab.Must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, at netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	lab.Must(t, err)
	lab.Must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func TestAConnectionIsCarriedBothWaysAndHalfCloses(t *testing.T) {
	l := listen(t)
	c := dial(t, start(t, l.Addr()))
	question := bytes.Repeat([]byte("question"), 100_000)
	go func() {
		_, _ = c.Write(question)
		_ = c.CloseWrite()
	}()
	s, err := l.AcceptTCP()
	lab.Must(t, err)
	defer s.Close()
	got, err := io.ReadAll(s) // ends with the client's half
	if err != nil || !bytes.Equal(got, question) {
		t.Fatalf("the server got %d bytes, %v", len(got), err)
	}
	_, err = s.Write([]byte("answer"))
	lab.Must(t, err)
	s.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Errorf("the client got %q, %v", got, err)
	}
}

func TestAConnectionToNobodyEnds(t *testing.T) {
	l := listen(t)
	at := start(t, l.Addr())
	l.Close()
	if n, err := dial(t, at).Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func TestDatagramsFindBackToTheirClients(t *testing.T) {
	s, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	lab.Must(t, err)
	defer s.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := s.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = s.WriteToUDPAddrPort(append([]byte("re: "), buf[:n]...), from)
		}
	}()
	at := start(t, s.LocalAddr())
	var clients []net.Conn
	for i := range 3 {
		c, err := net.Dial("udp", at.String())
		lab.Must(t, err)
		defer c.Close()
		lab.Must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = fmt.Fprintf(c, "client %d", i)
		lab.Must(t, err)
		clients = append(clients, c)
	}
	for i, c := range clients {
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if want := fmt.Sprintf("re: client %d", i); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v; want %q", buf[:n], err, want)
		}
	}
}

func TestOpenConnectionsEndWithTheProxy(t *testing.T) {
	l := listen(t)
	p, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort(l.Addr().String()))
	lab.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx, slog.New(slog.DiscardHandler)) }()
	c := dial(t, p.Addr())
	s, err := l.AcceptTCP()
	lab.Must(t, err)
	defer s.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the client reads on")
	}
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	l := listen(t)
	at := netip.MustParseAddrPort(l.Addr().String())
	if _, err := Listen(at, at); err == nil {
		t.Error("listens")
	}
}
