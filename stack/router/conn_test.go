package router_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/router"
)

// random returns n bytes that no mistake repeats.
func random(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(b)
	return b
}

// each runs a test over IPv4 and IPv6.
func each(t *testing.T, test func(t *testing.T, outside netip.AddrPort)) {
	t.Run("IPv4", func(t *testing.T) { test(t, netip.AddrPortFrom(outside4, 80)) })
	t.Run("IPv6", func(t *testing.T) { test(t, netip.AddrPortFrom(outside6, 80)) })
}

func TestStreamsArriveWholeInSuperframesBothWays(t *testing.T) {
	each(t, func(t *testing.T, outside netip.AddrPort) {
		w := newWorld(t)
		conns := w.accepting(t)
		client := w.dial(t, outside)
		server := next(t, conns)
		sent := random(20 << 20)
		for name, ends := range map[string][2]net.Conn{"up": {client, server}, "down": {server, client}} {
			t.Run(name, func(t *testing.T) {
				wrote := make(chan error, 1)
				go func() {
					_, err := ends[0].Write(sent)
					wrote <- err
				}()
				got := make([]byte, len(sent))
				_, err := io.ReadFull(ends[1], got)
				must(t, err)
				must(t, next(t, wrote))
				if sha256.Sum256(got) != sha256.Sum256(sent) {
					t.Error("other bytes arrived than were sent")
				}
			})
		}
		if w.up.superframes() == 0 || w.down.superframes() == 0 {
			t.Errorf("superframes: %d up, %d down; want some each way", w.up.superframes(), w.down.superframes())
		}
		if a := server.LocalAddr().String(); a != outside.String() {
			t.Errorf("the local address is %s, want %s, as the container sees it", a, outside)
		}
		if i := server.Info(); i.State != "ESTABLISHED" || i.Received != uint64(len(sent)) || i.Sent != uint64(len(sent)) || i.SegmentsIn == 0 || i.RTT == 0 || i.Window == 0 {
			t.Errorf("Info is %+v", i)
		}
	})
}

func TestHandshakeWaitsForAccept(t *testing.T) {
	each(t, func(t *testing.T, outside netip.AddrPort) {
		w := newWorld(t)
		asked, answer := make(chan *router.Request, 1), make(chan struct{})
		accepted := make(chan error, 1)
		w.forward.tcp = func(ctx context.Context, q *router.Request) {
			asked <- q
			<-answer
			_, err := q.Accept(ctx)
			accepted <- err
		}
		dialed := make(chan error, 1)
		go func() {
			_, err := w.container.DialTCP(within(t), netip.AddrPort{}, outside)
			dialed <- err
		}()
		if q := next(t, asked); q.Dst != outside {
			t.Errorf("the request is for %s, want %s", q.Dst, outside)
		}
		if n := w.router.Stats().TCP; n.Opening != 1 || n.Accepted != 0 {
			t.Errorf("stats are %+v, want one connection that is opening", n)
		}
		select {
		case err := <-dialed:
			t.Fatalf("the container was connected (%v) before Accept", err)
		default:
		}
		close(answer)
		must(t, next(t, dialed))
		must(t, next(t, accepted))
		eventually(t, "the request is gone", func() bool { return w.router.Stats().TCP.Opening == 0 })
	})
}

func TestRefusedAndUnreachableStayThat(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(q *router.Request)
		want   error
	}{
		"refused":     {func(q *router.Request) { q.Refuse() }, syscall.ECONNREFUSED},
		"unreachable": {func(q *router.Request) { q.Unreachable(packet.HostUnreachable) }, syscall.EHOSTUNREACH},
		"no network":  {func(q *router.Request) { q.Unreachable(packet.NetUnreachable) }, syscall.ENETUNREACH},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.forward.tcp = func(_ context.Context, q *router.Request) { c.answer(q) }
			_, err := w.container.DialTCP(within(t), netip.AddrPort{}, netip.AddrPortFrom(outside4, 80))
			if !errors.Is(err, c.want) {
				t.Errorf("the container got %v, want %v", err, c.want)
			}
			if op := (*net.OpError)(nil); !errors.As(err, &op) {
				t.Errorf("%T is no net.OpError", err)
			}
		})
	}
}

func TestARequestIsAnsweredOnce(t *testing.T) {
	w := newWorld(t)
	second := make(chan error, 1)
	w.forward.tcp = func(ctx context.Context, q *router.Request) {
		q.Refuse()
		q.Unreachable(packet.HostUnreachable)
		q.Ignore()
		_, err := q.Accept(ctx)
		second <- err
	}
	if _, err := w.container.DialTCP(within(t), netip.AddrPort{}, netip.AddrPortFrom(outside4, 80)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the container got %v, want refused", err)
	}
	if err := next(t, second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Refuse gave %v", err)
	}
}

func TestAcceptEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.down.take = nil // the container never hears the SYN-ACK
	failed := make(chan error, 1)
	w.forward.tcp = func(ctx context.Context, q *router.Request) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := q.Accept(ctx)
		failed <- err
	}
	ctx, cancel := context.WithCancel(t.Context())
	dialed := make(chan error, 1)
	go func() {
		_, err := w.container.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(outside4, 80))
		dialed <- err
	}()
	if err := next(t, failed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept gave %v, want its context's error", err)
	}
	cancel()
	if err := next(t, dialed); !errors.Is(err, context.Canceled) {
		t.Errorf("DialTCP gave %v, want its context's error", err)
	}
}

// pair returns the two ends of a connection that the container opened.
func (w *world) pair(t testing.TB) (client, server *router.Conn) {
	conns := w.accepting(t)
	client = w.dial(t, netip.AddrPortFrom(outside4, 80))
	server = next(t, conns)
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	client, server := newWorld(t).pair(t)
	_, err := client.Write([]byte("question"))
	must(t, err)
	must(t, client.CloseWrite())
	got, err := io.ReadAll(server)
	must(t, err)
	_, err = server.Write(append(got, " and answer"...))
	must(t, err)
	must(t, server.CloseWrite())
	got, err = io.ReadAll(client)
	must(t, err)
	if string(got) != "question and answer" {
		t.Errorf("the container read %q", got)
	}
	if _, err := client.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing after CloseWrite gave %v, want EPIPE", err)
	}
}

func TestResetReachesReaderAndWriterOfTheOtherSide(t *testing.T) {
	client, server := newWorld(t).pair(t)
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		read <- err
	}()
	go func() {
		_, err := server.Write(random(64 << 20)) // more than fits
		wrote <- err
	}()
	must(t, client.Reset())
	for name, c := range map[string]chan error{"Read": read, "Write": wrote} {
		if err := next(t, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s gave %v, want ECONNRESET", name, err)
		}
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Reset gave %v, want net.ErrClosed", err)
	}
}

func TestWatchSeesAResetAfterTheEndOfTheStream(t *testing.T) {
	client, server := newWorld(t).pair(t)
	must(t, client.CloseWrite())
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("Read gave %v, want the end", err)
	}
	watched := make(chan error, 1)
	go func() { watched <- server.Watch() }()
	must(t, client.Reset())
	if err := next(t, watched); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Watch gave %v, want ECONNRESET", err)
	}
}

func TestCloseEndsWhoeverWaits(t *testing.T) {
	_, server := newWorld(t).pair(t)
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		read <- err
	}()
	must(t, server.Close())
	must(t, server.Close())
	if err := next(t, read); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read gave %v, want net.ErrClosed", err)
	}
}

func TestDeadlinesEndWaitsAndCanBeLifted(t *testing.T) {
	client, server := newWorld(t).pair(t)
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		read <- err
	}()
	must(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if err := next(t, read); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read gave %v, want a timeout", err)
	}
	must(t, server.SetReadDeadline(time.Time{}))
	_, err := client.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(server, make([]byte, 1))
	must(t, err)
	much := random(64 << 20)
	must(t, server.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := server.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("Write gave %d, %v; want a part, and a timeout", n, err)
	}
}

func TestAPeerThatTakesNothingHoldsOnlyItself(t *testing.T) {
	w := newWorld(t)
	conns := w.accepting(t)
	w.dial(t, netip.AddrPortFrom(outside4, 80)) // reads nothing: its window closes
	stuck := next(t, conns)
	much := random(64 << 20)
	must(t, stuck.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	n, err := stuck.Write(much)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > 24<<20 {
		t.Errorf("Write gave %d, %v; want a timeout when the buffers are full", n, err)
	}
	other := w.dial(t, netip.AddrPortFrom(outside4, 80))
	server := next(t, conns)
	_, err = server.Write([]byte("hello"))
	must(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(other, got)
	must(t, err)
	if !bytes.Equal(got, []byte("hello")) {
		t.Errorf("another connection got %q", got)
	}
}
