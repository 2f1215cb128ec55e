package router_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/stack/router"
)

// addrPort parses s; the empty one is zero.
func addrPort(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

func TestADatagramListenerAnswersAtTheGateway(t *testing.T) {
	for name, ends := range map[string][2]netip.AddrPort{
		"IPv4": {port(inside4, 999), port(gateway4, 53)}, "IPv6": {port(inside6, 999), port(gateway6, 53)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server, err := w.router.ListenUDP(ends[1])
			must(t, err)
			defer server.Close()
			client, err := w.container.ListenUDP(ends[0])
			must(t, err)
			defer client.Close()
			// From a query that fits a packet to the largest answer, which comes in fragments.
			for _, n := range []int{1, 512, mtu, 4096, 65000} {
				sent := random(n)
				_, err := client.WriteTo(sent, net.UDPAddrFromAddrPort(ends[1]))
				must(t, err)
				b := make([]byte, 65536)
				must(t, server.SetReadDeadline(time.Now().Add(20*time.Second)))
				k, from, err := server.ReadFrom(b)
				must(t, err)
				if from.String() != ends[0].String() {
					t.Errorf("a query came from %s, want %s", from, ends[0])
				}
				_, err = server.WriteTo(b[:k], from)
				must(t, err)
				must(t, client.SetReadDeadline(time.Now().Add(20*time.Second)))
				k, _, err = client.ReadFrom(b)
				must(t, err)
				if string(b[:k]) != string(sent) {
					t.Errorf("an answer of %d bytes came back as %d others", n, k)
				}
			}
		})
	}
}

func TestListenersAreAtTheGatewayAlone(t *testing.T) {
	w := newRaw(t)
	if _, err := w.router.ListenTCP(port(outside4, 53)); err == nil {
		t.Error("ListenTCP took another's address")
	}
	if _, err := w.router.ListenUDP(port(outside4, 53)); err == nil {
		t.Error("ListenUDP took another's address")
	}
	l, err := w.router.ListenTCP(port(gateway4, 53))
	must(t, err)
	if _, err := w.router.ListenTCP(port(gateway4, 53)); !errors.Is(err, router.ErrInUse) {
		t.Errorf("a second listener gave %v", err)
	}
	must(t, l.Close())
	again, err := w.router.ListenTCP(port(gateway4, 53))
	must(t, err)
	must(t, again.Close())
}

func TestClosingAListenerEndsWhoeverWaits(t *testing.T) {
	for name, end := range map[string]func(w *raw, l net.Listener, c net.PacketConn){
		"itself":     func(_ *raw, l net.Listener, c net.PacketConn) { l.Close(); c.Close() },
		"the router": func(w *raw, _ net.Listener, _ net.PacketConn) { w.router.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRaw(t)
			l, err := w.router.ListenTCP(port(gateway4, 53))
			must(t, err)
			c, err := w.router.ListenUDP(port(gateway4, 53))
			must(t, err)
			ended := make(chan error, 4)
			for range 2 {
				go func() { _, err := l.Accept(); ended <- err }()
				go func() { _, _, err := c.ReadFrom(make([]byte, 1)); ended <- err }()
			}
			end(w, l, c)
			for i := range 4 {
				if err := next(t, ended); !errors.Is(err, net.ErrClosed) {
					t.Error(fmt.Errorf("wait %d ended with %w, want net.ErrClosed", i, err))
				}
			}
		})
	}
}
