package router_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/loop"
	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/router"
	"github.com/weftnet/weft/stack/tap"
	"github.com/weftnet/weft/vxlan"
)

// kernel is a container whose kernel is a real one: a namespace behind a TAP, a bridge, and a thread of the data path.
type kernel struct {
	*lab.Host
	router *router.Router
	port   *bridge.Port
}

func newKernel(t testing.TB, plain bool, f *forward) *kernel {
	if out, err := exec.Command("id", "-u").Output(); err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Skip("needs root to make namespaces")
	}
	k := &kernel{Host: lab.T(t, "container")}
	dev, err := tap.Open(tap.Config{
		Namespace: k.Namespace(), Name: "eth0", MAC: 0x0242_0a00_0002, MTU: mtu, Plain: plain,
		Addresses: []netip.Prefix{netip.PrefixFrom(inside4, 24), netip.PrefixFrom(inside6, 64)},
		Routes:    []tap.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway4}, {Dst: netip.MustParsePrefix("::/0"), Via: gateway6}},
	})
	must(t, err)
	t.Cleanup(func() { _ = dev.Remove() })

	net := bridge.NewNetwork("net", 1, capture.New())
	k.router = start(t, config(net, f))
	c := bridge.PortConfig{Name: "container", Plain: dev.Mode() == tap.Plain}
	if caps := dev.Caps(); dev.Mode() == tap.Offloaded && caps.TSO4 && caps.TSO6 {
		c.Joins = frame.JoinTCP4 | frame.JoinTCP6
	}
	for _, q := range dev.Queues() {
		c.Queues = append(c.Queues, q)
	}
	k.port = net.NewPort(c)
	net.SetTable(bridge.Compile(bridge.Config{
		MTU: mtu, Router: k.router, Gateway: bridge.Gateway{MAC: 0x0242_0a00_0001, V4: gateway4, V6: gateway6}, Ports: []*bridge.Port{k.port},
		Endpoints: []bridge.Endpoint{{Name: "container", MAC: 0x0242_0a00_0002, Addresses: []netip.Addr{inside4, inside6}, Port: k.port}},
	}))
	k.serve(t, net)
	return k
}

// serve runs the thread of the data path.
func (k *kernel) serve(t testing.TB, net *bridge.Network) {
	var networks bridge.Networks
	networks.Store(&map[vxlan.VNI]*bridge.Network{1: net})
	lane := bridge.NewLane(&networks, new(vxlan.Tunnel)) // nothing is sent through it
	l, err := loop.New(lane.Flush)
	must(t, err)
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + 1)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("the loop: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		runtime.GOMAXPROCS(before)
	})
	must(t, l.Add(k.port.Queue(0, lane)))
}

// dial connects from the namespace.
func (k *kernel) dial(network, to string) (c net.Conn, err error) {
	err = k.Do(func() (err error) {
		c, err = net.Dial(network, to)
		return err
	})
	return c, err
}

// echoes has every connection continue in a kernel connection of this host, whose other end says again what it is told.
func echoes(t testing.TB) *forward {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(struct{ io.Writer }{c}, c)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
		}
	}()
	return &forward{tcp: func(ctx context.Context, q *router.Request) {
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			q.Refuse()
			return
		}
		defer out.Close()
		in, err := q.Accept(ctx)
		if err != nil {
			return
		}
		defer in.Close()
		var up sync.WaitGroup
		up.Go(func() {
			_, _ = in.WriteTo(out)
			_ = out.(*net.TCPConn).CloseWrite()
		})
		_, _ = in.ReadFrom(out)
		_ = in.CloseWrite()
		up.Wait()
	}}
}

func TestAKernelsStreamsPassTheRouterWhole(t *testing.T) {
	for name, plain := range map[string]bool{"with offloads": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t, plain, echoes(t))
			size := 100 << 20
			if plain {
				size = 10 << 20
			}
			sent := random(size)
			for _, to := range []string{"192.0.2.9:80", "[2001:db8::9]:80"} {
				c, err := k.dial("tcp", to)
				must(t, err)
				go func() {
					_, _ = c.Write(sent)
					_ = c.(*net.TCPConn).CloseWrite()
				}()
				must(t, c.SetReadDeadline(time.Now().Add(60*time.Second)))
				got := sha256.New()
				began := time.Now()
				n, err := io.Copy(got, c)
				must(t, err)
				must(t, c.Close())
				if n != int64(size) || [32]byte(got.Sum(nil)) != sha256.Sum256(sent) {
					t.Errorf("%d bytes came back from %s, and not those that were sent", n, to)
				}
				t.Logf("%s: %d MiB to and fro in %v; %+v; the port dropped %v", to, size>>20, time.Since(began), k.router.Stats().TCP, k.port.Drops.Snapshot())
			}
		})
	}
}

func TestAKernelHearsWhyThereIsNoConnection(t *testing.T) {
	answers := make(chan func(q *router.Request), 1)
	k := newKernel(t, false, &forward{tcp: func(_ context.Context, q *router.Request) { (<-answers)(q) }})
	for name, c := range map[string]struct {
		answer func(q *router.Request)
		want   error
	}{
		"refused":     {func(q *router.Request) { q.Refuse() }, syscall.ECONNREFUSED},
		"unreachable": {func(q *router.Request) { q.Unreachable(packet.HostUnreachable) }, syscall.EHOSTUNREACH},
	} {
		t.Run(name, func(t *testing.T) {
			for _, to := range []string{"192.0.2.9:80", "[2001:db8::9]:80"} {
				answers <- c.answer
				began := time.Now()
				if _, err := k.dial("tcp", to); !errors.Is(err, c.want) {
					t.Errorf("connecting to %s gave %v, want %v", to, err, c.want)
				}
				if n := k.port.TxFrames.Load(); n == 0 {
					t.Error("the container was told nothing")
				}
				t.Logf("told in %v", time.Since(began))
			}
		})
	}
}

func TestAKernelsDatagramsToTheGateway(t *testing.T) {
	k := newKernel(t, false, &forward{})
	server, err := k.router.ListenUDP(port(gateway4, 53))
	must(t, err)
	defer server.Close()
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(b[:n], from)
		}
	}()
	c, err := k.dial("udp", "10.0.0.1:53")
	must(t, err)
	defer c.Close()
	for _, n := range []int{12, 4000} {
		sent := random(n)
		_, err = c.Write(sent)
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		b := make([]byte, 65536)
		k, err := c.Read(b)
		must(t, err)
		if string(b[:k]) != string(sent) {
			t.Errorf("%d bytes came back as %d others", n, k)
		}
	}
	closed, err := k.dial("udp", "[fd00::1]:99")
	must(t, err)
	defer closed.Close()
	_, err = closed.Write([]byte("x"))
	must(t, err)
	must(t, closed.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := closed.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port gave %v, want ECONNREFUSED", err)
	}
}

func TestPingAndTracerouteSeeTheGateway(t *testing.T) {
	if _, err := exec.LookPath("ping"); err != nil {
		t.Skip("needs ping")
	}
	k := newKernel(t, false, &forward{})
	for _, a := range []netip.Addr{gateway4, gateway6} {
		for _, size := range []string{"56", "4000"} {
			if out, err := k.Command("ping", "-n", "-c", "1", "-W", "10", "-s", size, a.String()).CombinedOutput(); err != nil {
				t.Errorf("ping %s with %s bytes: %v\n%s", a, size, err, out)
			}
		}
	}
	for far, gateway := range map[netip.Addr]netip.Addr{outside4: gateway4, outside6: gateway6} {
		out, _ := k.Command("ping", "-n", "-c", "1", "-W", "10", "-t", "1", far.String()).CombinedOutput()
		if s := string(out); !strings.Contains(strings.ToLower(s), "exceeded") || !strings.Contains(s, "From "+gateway.String()) {
			t.Errorf("ping %s with a TTL of 1 said\n%s", far, out)
		}
	}
}
