package router_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/weftnet/weft/stack/router"
)

// loopback returns the ends of a kernel connection.
func loopback(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	d, err := l.Accept()
	must(t, err)
	a, b = c.(*net.TCPConn), d.(*net.TCPConn)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestASocketTakesAndGivesStreamsWithoutLoss(t *testing.T) {
	w := newWorld(t)
	client, server := w.pair(t)
	near, far := loopback(t)
	must(t, near.SetWriteBuffer(64<<10)) // so that it is full now and then
	sent := random(16<<20 + 12345)

	up := make(chan error, 1)
	go func() {
		n, err := server.WriteTo(near)
		if err == nil && n != int64(len(sent)) {
			err = errors.New("WriteTo returned another length")
		}
		near.CloseWrite()
		up <- err
	}()
	down := make(chan error, 1)
	go func() {
		n, err := server.ReadFrom(near)
		if err == nil && n != int64(len(sent)) {
			err = errors.New("ReadFrom returned another length")
		}
		server.CloseWrite()
		down <- err
	}()
	for _, ends := range [][2]interface {
		net.Conn
		CloseWrite() error
	}{{client, far}, {far, client}} {
		wrote := make(chan error, 1)
		go func() {
			_, err := ends[0].Write(sent)
			ends[0].CloseWrite()
			wrote <- err
		}()
		got, err := io.ReadAll(ends[1])
		must(t, err)
		must(t, next(t, wrote))
		if !bytes.Equal(got, sent) {
			t.Errorf("%d bytes arrived, and not those that were sent", len(got))
		}
	}
	must(t, next(t, up))
	must(t, next(t, down))
}

func TestStreamsWithoutASocketArriveToo(t *testing.T) {
	client, server := newWorld(t).pair(t)
	sent := random(1 << 20)
	go func() {
		_, _ = client.ReadFrom(bytes.NewReader(sent))
		_ = client.CloseWrite()
	}()
	var got bytes.Buffer
	n, err := server.WriteTo(&got)
	must(t, err)
	if n != int64(len(sent)) || !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%d bytes arrived, and not those that were sent", n)
	}
}

func TestResetsEndStreamsWithSockets(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(client *router.Conn, far *net.TCPConn)
		copy func(server *router.Conn, near *net.TCPConn) (int64, error)
	}{
		"of the container": {
			func(client *router.Conn, _ *net.TCPConn) { _ = client.Reset() },
			func(server *router.Conn, near *net.TCPConn) (int64, error) { return server.WriteTo(near) },
		},
		"of the socket": {
			func(_ *router.Conn, far *net.TCPConn) { _ = far.SetLinger(0); _ = far.Close() },
			func(server *router.Conn, near *net.TCPConn) (int64, error) { return server.ReadFrom(near) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := newWorld(t).pair(t)
			near, far := loopback(t)
			done := make(chan error, 1)
			go func() {
				_, err := c.copy(server, near)
				done <- err
			}()
			c.fail(client, far)
			if err := next(t, done); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the copy ended with %v, want ECONNRESET", err)
			}
		})
	}
}

func TestClosingEndsAnIdleStream(t *testing.T) {
	_, server := newWorld(t).pair(t)
	near, _ := loopback(t)
	up, down := make(chan error, 1), make(chan error, 1)
	go func() { _, err := server.WriteTo(near); up <- err }()
	go func() { _, err := server.ReadFrom(near); down <- err }()
	must(t, server.Reset())
	must(t, near.Close())
	for _, c := range []chan error{up, down} {
		if err := next(t, c); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the copy ended with %v, want net.ErrClosed", err)
		}
	}
}

func TestDialReachesAContainerFromAnyAddress(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"from a client's own":      {"198.51.100.7:4711", "10.0.0.2:80", "198.51.100.7:4711"},
		"over IPv6":                {"[2001:db8::7]:4711", "[fd00::2]:80", "[2001:db8::7]:4711"},
		"from the gateway's":       {"", "10.0.0.2:80", ""},
		"from any port of another": {"198.51.100.7:0", "10.0.0.2:80", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l, err := w.container.ListenTCP(addrPort(c.to))
			must(t, err)
			defer l.Close()
			conn, err := w.router.DialTCP(within(t), addrPort(c.from), addrPort(c.to))
			must(t, err)
			defer conn.Close()
			in, err := l.Accept()
			must(t, err)
			defer in.Close()
			if got := in.RemoteAddr().String(); got != conn.LocalAddr().String() || c.want != "" && got != c.want {
				t.Errorf("the container sees %s, the router %s; want %s", got, conn.LocalAddr(), c.want)
			}
			_, err = conn.Write([]byte("hello"))
			must(t, err)
			b := make([]byte, 5)
			_, err = io.ReadFull(in, b)
			must(t, err)
		})
	}
}

func TestDialFailsForItsReason(t *testing.T) {
	w := newWorld(t)
	l, err := w.container.ListenTCP(port(inside4, 80))
	must(t, err)
	defer l.Close()
	from := addrPort("198.51.100.7:4711")
	open, err := w.router.DialTCP(within(t), from, port(inside4, 80))
	must(t, err)
	defer open.Close()
	for name, c := range map[string]struct {
		from, to string
		want     error
	}{
		"nobody listens":      {"", "10.0.0.2:81", syscall.ECONNREFUSED},
		"there is nobody":     {"", "10.0.0.7:80", syscall.EHOSTUNREACH},
		"the pair is taken":   {from.String(), "10.0.0.2:80", router.ErrInUse},
		"nobody is over IPv6": {"", "[fd00::7]:80", syscall.EHOSTUNREACH},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.router.DialTCP(within(t), addrPort(c.from), addrPort(c.to)); !errors.Is(err, c.want) {
				t.Errorf("DialTCP gave %v, want %v", err, c.want)
			}
		})
	}
	if _, err := w.router.DialTCP(within(t), from, port(inside6, 80)); err == nil {
		t.Error("DialTCP mixed address families")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.router.DialTCP(ctx, from, port(inside4, 80)); !errors.Is(err, context.Canceled) {
		t.Errorf("DialTCP with a context that has ended gave %v", err)
	}
}
