package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
)

func TestAPanicKillsTheRouterAndIsToldOnce(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, w *world){
		"in netstack": func(t *testing.T, w *world) {
			w.router.BreakNetstack()
			f := framed(tcp(port(inside4, 9), port(outside4, 80), syn, 1, 0, nil))
			f.Parse()
			for range 100 { // what comes behind the first must not be stuck in there
				w.router.Receive(nil, f)
			}
		},
		"in a timer": func(_ *testing.T, w *world) { w.router.BreakTimer() },
		"in Forward.TCP": func(_ *testing.T, w *world) {
			w.forward.tcp = func(context.Context, *router.Request) { panic("forward") }
			f := framed(tcp(port(inside4, 9), port(outside4, 80), syn, 1, 0, nil))
			f.Parse()
			w.router.Receive(nil, f)
		},
		"in Forward.Datagram": func(_ *testing.T, w *world) {
			w.forward.datagram = func(*frame.Frame) drop.Reason { panic("forward") }
			f := framed(udp(port(inside4, 9), port(outside4, 80), nil))
			f.Parse()
			w.router.Receive(nil, f)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			faults := make(chan string, 8)
			c := config(w.down, w.forward)
			c.Fault = func(network string, cause any, stack []byte) {
				if cause == nil || !strings.Contains(string(stack), "panic") {
					t.Errorf("Fault was told %v, and the stack\n%s", cause, stack)
				}
				faults <- network
			}
			w.router = start(t, c)
			_, server := w.pair(t)
			l, err := w.router.ListenTCP(port(gateway4, 53))
			must(t, err)
			u, err := w.router.ListenUDP(port(gateway4, 53))
			must(t, err)
			ended := make(chan error, 3)
			go func() { _, err := server.Read(make([]byte, 1)); ended <- err }()
			go func() { _, err := l.Accept(); ended <- err }()
			go func() { _, _, err := u.ReadFrom(make([]byte, 1)); ended <- err }()

			fault(t, w)
			if got := next(t, faults); got != "net" {
				t.Errorf("the fault is of %q", got)
			}
			for range 3 {
				if err := next(t, ended); err == nil || errors.Is(err, net.ErrClosed) {
					t.Errorf("who waited got %v, want the fault", err)
				}
			}
			f := framed(echo(inside4, gateway4, nil))
			f.Parse()
			if got := w.router.Receive(nil, f); got != drop.RouterFault {
				t.Errorf("Receive gave %v, want router-fault", got)
			}
			if _, err := w.router.DialTCP(t.Context(), netip.AddrPort{}, port(inside4, 80)); err == nil {
				t.Error("DialTCP gave a connection")
			}
			must(t, server.Close())
			must(t, w.router.Close())
			select {
			case <-faults:
				t.Error("Fault was called twice")
			default:
			}
		})
	}
}

func TestCloseOfAFailedRouterDoesNotWaitForWhatHangsInIt(t *testing.T) {
	w := newWorld(t)
	running, release := make(chan struct{}), make(chan struct{})
	w.forward.tcp = func(context.Context, *router.Request) {
		close(running)
		<-release
	}
	f := framed(tcp(port(inside4, 9), port(outside4, 80), syn, 1, 0, nil))
	f.Parse()
	w.router.Receive(nil, f)
	next(t, running)
	w.router.BreakTimer()
	eventually(t, "the router is dead", func() bool { return w.router.Receive(nil, f) == drop.RouterFault })
	if err := w.router.Close(); err == nil {
		t.Error("Close hid that something hangs")
	}
	close(release)
	eventually(t, "it has ended", func() bool { return w.router.Close() == nil })
}

func TestNetstacksGoroutinesTellWhichNetworkTheyAreOf(t *testing.T) {
	newWorld(t)
	var b strings.Builder
	must(t, pprof.Lookup("goroutine").WriteTo(&b, 1))
	for _, name := range []string{"net", "container"} {
		if !strings.Contains(b.String(), fmt.Sprintf("# labels: {%q:%q}", "network", name)) {
			t.Errorf("no goroutine is labeled with network %s", name)
		}
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		w := newWorld(t)
		conns := w.accepting(t)
		var open []*router.Conn
		for range 5 {
			open = append(open, w.dial(t, netip.AddrPortFrom(outside4, 80)), next(t, conns))
		}
		must(t, open[0].CloseWrite())                          // FIN-WAIT-2, CLOSE-WAIT
		must(t, errors.Join(open[2].Close(), open[3].Close())) // TIME-WAIT
		must(t, open[4].Reset())                               // gone
		_, _ = open[6].Write(random(128 << 10))                // unread
		go func() { _, _ = open[9].Read(make([]byte, 1)) }()   // waited for
		go func() { _, _ = open[9].Write(random(32 << 20)) }() // stuck
		w.forward.tcp = func(ctx context.Context, _ *router.Request) { <-ctx.Done() }
		go func() { _, _ = w.container.DialTCP(within(t), netip.AddrPort{}, netip.AddrPortFrom(outside4, 81)) }()
		_, err := w.router.ListenTCP(port(gateway4, 53))
		must(t, err)
		_, err = w.router.ListenUDP(port(gateway4, 53))
		must(t, err)
		must(t, w.router.Close())
		must(t, w.router.Close())
		must(t, w.container.Close())
		w.up.close()
		w.down.close()
		if _, err := w.router.ListenTCP(port(gateway4, 53)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ListenTCP after Close gave %v", err)
		}
	}
	eventually(t, "the goroutines are as many as before", func() bool { return runtime.NumGoroutine() <= before })
}
