package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/loop"
	"github.com/weftnet/weft/stack/router"
	"github.com/weftnet/weft/stack/tap"
	"github.com/weftnet/weft/vxlan"
)

// Where everybody is. The host is the tests' own namespace.
//
//	blue  10.1.0.0/24 fd01::/64 ─┐
//	                             ├─ egress, host 192.0.2.1 ── veth ── 192.0.2.2 outside
//	green 10.2.0.0/24 fd02::/64 ─┘      2001:db8::1                   2001:db8::2
var (
	host4     = netip.MustParseAddr("192.0.2.1")
	host6     = netip.MustParseAddr("2001:db8::1")
	outside4  = netip.MustParseAddr("192.0.2.2")
	outside6  = netip.MustParseAddr("2001:db8::2")
	meta      = netip.MustParseAddr("169.254.169.254") // outside, too
	agentPort = uint16(7946)
)

const gatewayMAC = frame.MAC(0x0242_0a00_0001)

// site is a host with two networks, a container on each, and the outside.
type site struct {
	testing.TB
	outside *lab.Host
	e       *Egress
	nets    map[string]*segment
}

// segment is a network of a site.
type segment struct {
	*Network
	bridge     *bridge.Network
	router     *router.Router
	container  *lab.Host
	dev        *tap.Device
	v4, v6     netip.Addr // the container
	gw4, gw6   netip.Addr
	sub4, sub6 netip.Prefix
}

func newSite(t testing.TB, c Config) *site {
	t.Helper()
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(procs + 2) // the threads of the data path wait in system calls that keep their P
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	s := &site{TB: t, outside: lab.T(t, "outside"), nets: make(map[string]*segment)}
	s.wire()
	e, err := New(c)
	lab.Must(t, err)
	s.e = e
	t.Cleanup(e.Close)

	tunnel, err := vxlan.Listen(vxlan.Config{Local: netip.MustParseAddr("127.0.0.1")})
	lab.Must(t, err)
	t.Cleanup(tunnel.Close)
	var networks bridge.Networks
	all := make(map[vxlan.VNI]*bridge.Network)
	lane := bridge.NewLane(&networks, tunnel)
	l, err := loop.New(lane.Flush)
	lab.Must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	for i, name := range []string{"blue", "green"} {
		g := s.segment(name, byte(i+1))
		all[g.bridge.VNI] = g.bridge
		port := g.bridge.NewPort(bridge.PortConfig{Name: "c", Queues: []bridge.Device{g.dev.Queues()[0]}, Joins: joins(g.dev), Plain: g.dev.Mode() == tap.Plain})
		g.bridge.SetTable(bridge.Compile(bridge.Config{
			MTU: 1450, Gateway: bridge.Gateway{MAC: gatewayMAC, V4: g.gw4, V6: g.gw6}, Router: g.router, Ports: []*bridge.Port{port},
			Endpoints: []bridge.Endpoint{{Name: "c", MAC: containerMAC(i), Addresses: []netip.Addr{g.v4, g.v6}, Port: port}},
		}))
		q := port.Queue(0, lane)
		lab.Must(t, l.Add(q))
		t.Cleanup(func() { l.Remove(q) })
		s.nets[name] = g
	}
	networks.Store(&all)
	return s
}

func containerMAC(i int) frame.MAC { return frame.MAC(0x0242_0a00_0010 + i) }

func joins(d *tap.Device) (j frame.Joins) {
	c := d.Caps()
	if c.TSO4 {
		j |= frame.JoinTCP4
	}
	if c.TSO6 {
		j |= frame.JoinTCP6
	}
	if c.USO {
		j |= frame.JoinUDP
	}
	return j
}

// wire joins the host and the outside.
func (s *site) wire() {
	s.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(s.outside.FD())
	lab.Must(s, netlink.LinkAdd(veth))
	s.Cleanup(func() { _ = netlink.LinkDel(veth) })
	here, err := netlink.LinkByName("up0")
	lab.Must(s, err)
	for _, p := range []string{"192.0.2.1/24", "2001:db8::1/64", "169.254.1.1/16"} {
		a, err := netlink.ParseAddr(p)
		lab.Must(s, err)
		a.Flags = unix.IFA_F_NODAD
		lab.Must(s, netlink.AddrAdd(here, a))
	}
	lab.Must(s, netlink.LinkSetUp(here))
	for _, p := range []string{"192.0.2.2/24", "2001:db8::2/64", "169.254.169.254/16"} {
		lab.Must(s, s.outside.Address("eth0", netip.MustParsePrefix(p)))
	}
	there, err := s.outside.Netlink().LinkByName("eth0")
	lab.Must(s, err)
	lab.Must(s, s.outside.Netlink().LinkSetUp(there))
	lab.Eventually(s, func() bool {
		up, err := netlink.LinkByName("up0")
		return err == nil && up.Attrs().OperState == netlink.OperUp
	}, patience)
}

// reject has the host's routes refuse what is for a prefix.
func (s *site) reject(prefix string, kind int) {
	s.Helper()
	p := netip.MustParsePrefix(prefix)
	r := &netlink.Route{Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Type: kind}
	lab.Must(s, netlink.RouteAdd(r))
	s.Cleanup(func() { _ = netlink.RouteDel(r) })
}

func (s *site) policy(m Mode) *Policy {
	return &Policy{
		Mode: m, Foreign: prefixes("10.1.0.0/24", "10.2.0.0/24", "fd01::/64", "fd02::/64"), Host: NewLocal(),
		Closed: []Socket{{Protocol: frame.ProtoTCP, Port: agentPort}, {Protocol: frame.ProtoUDP, Port: agentPort}},
	}
}

// segment makes a network, its router and its container.
func (s *site) segment(name string, n byte) *segment {
	s.Helper()
	g := &segment{
		container: lab.T(s, name),
		v4:        netip.AddrFrom4([4]byte{10, n, 0, 5}), v6: netip.AddrFrom16([16]byte{0: 0xfd, 1: n, 15: 5}),
		gw4: netip.AddrFrom4([4]byte{10, n, 0, 1}), gw6: netip.AddrFrom16([16]byte{0: 0xfd, 1: n, 15: 1}),
	}
	g.sub4, g.sub6 = netip.PrefixFrom(g.gw4, 24).Masked(), netip.PrefixFrom(g.gw6, 64).Masked()
	g.bridge = bridge.NewNetwork(name, vxlan.VNI(100+int(n)), nil)
	g.Network = s.e.Network(name, s.policy(Internet))
	var err error
	g.router, err = router.New(router.Config{
		Network: name, Subnets: []netip.Prefix{g.sub4, g.sub6}, Gateways: []netip.Addr{g.gw4, g.gw6}, MTU: 1450,
		Link: g.bridge, Forward: g.Network,
		Fault: func(network string, cause any, stack []byte) {
			s.Errorf("the router of %s failed: %v\n%s", network, cause, stack)
		},
	})
	lab.Must(s, err)
	s.Cleanup(func() { _ = g.router.Close() })
	g.Bind(g.router)
	g.dev, err = tap.Open(tap.Config{
		Namespace: g.container.Namespace(), Name: "eth0", MAC: containerMAC(int(n - 1)), MTU: 1450,
		Addresses: []netip.Prefix{netip.PrefixFrom(g.v4, 24), netip.PrefixFrom(g.v6, 64)},
		Routes: []tap.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: g.gw4}, {Dst: netip.MustParsePrefix("::/0"), Via: g.gw6},
		},
	})
	lab.Must(s, err)
	s.Cleanup(func() { _ = g.dev.Remove() })
	return g
}

// dial connects from a container.
func (g *segment) dial(to netip.AddrPort) (c *net.TCPConn, err error) {
	e := g.container.Do(func() error {
		d := net.Dialer{Timeout: patience}
		any, err := d.Dial("tcp", to.String())
		if err == nil {
			c = any.(*net.TCPConn)
		}
		return err
	})
	return c, e
}

// listen listens outside (or, with at nil, on the host).
func (s *site) listen(at *lab.Host, addr netip.AddrPort) *net.TCPListener {
	s.Helper()
	var l net.Listener
	open := func() (err error) { l, err = net.Listen("tcp", addr.String()); return err }
	if at == nil {
		lab.Must(s, open())
	} else {
		lab.Must(s, at.Do(open))
	}
	s.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// echo serves a listener: it reads to the end, and then gives all back.
func (s *site) echo(l *net.TCPListener) netip.AddrPort {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if b, err := io.ReadAll(c); err == nil {
					_, _ = c.Write(b)
				}
			})
		}
	})
	s.Cleanup(func() { l.Close(); all.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// ask sends something, ends its stream, and reads the answer: it takes a half-close that is carried as one.
func (s *site) ask(g *segment, to netip.AddrPort, what string) {
	s.Helper()
	c, err := g.dial(to)
	if err != nil {
		s.Errorf("%s: %v", to, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, what)
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != what || err != nil {
		s.Errorf("%s answered %q, %v; expected %q", to, b, err, what)
	}
}

// refusal returns the errno that a dial from a container fails with.
func (s *site) refusal(g *segment, to netip.AddrPort) error {
	s.Helper()
	c, err := g.dial(to)
	if err == nil {
		c.Close()
		return nil
	}
	errno := syscall.Errno(0)
	if !errors.As(err, &errno) {
		s.Errorf("%s: %v", to, err)
	}
	return errno
}

func (s *site) ping(g *segment, to netip.Addr) error {
	_, err := g.container.Command("ping", "-n", "-c1", "-W2", to.String()).Output()
	return err
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func TestContainersReachTheOutsideAndNotEachOther(t *testing.T) {
	lab.Must(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0))
	s := newSite(t, Config{})
	blue, green := s.nets["blue"], s.nets["green"]

	t.Run("a question is asked, half-closed and answered", func(t *testing.T) {
		for _, a := range []netip.Addr{outside4, outside6} {
			to := s.echo(s.listen(s.outside, at(a, 0)))
			s.ask(blue, to, "a question of a container")
			s.ask(green, to, "one of another network's")
		}
	})
	t.Run("the host's own services are reached, and the agent's are not", func(t *testing.T) {
		for _, a := range []netip.Addr{host4, host6} {
			s.ask(blue, s.echo(s.listen(nil, at(a, 0))), "what does the host say?")
			l := s.listen(nil, at(a, agentPort))
			want := unix.EHOSTUNREACH
			if a.Is6() {
				want = unix.EACCES
			}
			if err := s.refusal(blue, at(a, agentPort)); err != want {
				t.Errorf("the agent's socket: %v, expected %v", err, want)
			}
			never(t, l)
			// The same port of another host's is none of ours.
			other := map[bool]netip.Addr{true: outside6, false: outside4}[a.Is6()]
			s.ask(blue, s.echo(s.listen(s.outside, at(other, agentPort))), "are you an agent?")
		}
	})
	t.Run("refused stays refused", func(t *testing.T) {
		for _, a := range []netip.Addr{outside4, outside6, host4} {
			if err := s.refusal(blue, at(a, 9)); err != unix.ECONNREFUSED {
				t.Errorf("%s: %v", a, err)
			}
		}
	})
	t.Run("unreachable stays unreachable", func(t *testing.T) {
		s.reject("198.51.100.0/25", unix.RTN_UNREACHABLE)
		s.reject("198.51.100.128/25", unix.RTN_PROHIBIT)
		for dst, want := range map[string]error{
			"203.0.113.1:80":      unix.ENETUNREACH, // the host has no route
			"[2001:db8:1::1]:80":  unix.ENETUNREACH,
			"198.51.100.1:80":     unix.EHOSTUNREACH,
			"198.51.100.129:80":   unix.EHOSTUNREACH, // prohibited, for which IPv4 has no other errno
			"192.0.2.99:80":       unix.EHOSTUNREACH, // nobody has the address: the host asks for a while
			"[2001:db8::99]:80":   unix.EHOSTUNREACH,
			"169.254.169.254:80":  unix.EHOSTUNREACH, // forbidden
			"[fd00:ec2::254]:80":  unix.EACCES,
			"[64:ff9b::a02:5]:80": unix.EACCES, // the container on green, in disguise
		} {
			if err := s.refusal(blue, netip.MustParseAddrPort(dst)); err != want {
				t.Errorf("%s: %v, expected %v", dst, err, want)
			}
		}
	})
	t.Run("no container reaches one of another network", func(t *testing.T) { s.apart(t, blue, green) })
	t.Run("datagrams and echo requests go out, too", func(t *testing.T) { s.datagrams(t, blue) })
	t.Run("metadata is reached when it is allowed", func(t *testing.T) {
		to := s.echo(s.listen(s.outside, at(meta, 0)))
		if err := s.refusal(blue, to); err != unix.EHOSTUNREACH {
			t.Errorf("before: %v", err)
		}
		blue.SetPolicy(s.policy(Full))
		defer blue.SetPolicy(s.policy(Internet))
		s.ask(blue, to, "who am I?")
	})
	t.Run("an internal network reaches nothing", func(t *testing.T) {
		to := s.echo(s.listen(s.outside, at(outside4, 0)))
		blue.SetPolicy(s.policy(None))
		defer blue.SetPolicy(s.policy(Internet))
		if err := s.refusal(blue, to); err != unix.EHOSTUNREACH {
			t.Errorf("%v", err)
		}
		s.ask(green, to, "does the other still?")
	})
}

// never checks that nobody has connected to a listener.
func never(t *testing.T, l *net.TCPListener) {
	t.Helper()
	_ = l.SetDeadline(time.Now()) // whoever was accepted by the kernel is in its queue already
	if c, err := l.Accept(); err == nil {
		t.Errorf("%s got in", c.RemoteAddr())
		c.Close()
	}
}

// apart checks that nothing passes from one network's container to another's.
func (s *site) apart(t *testing.T, from, to *segment) {
	var pc net.PacketConn
	lab.Must(t, to.container.Do(func() (err error) { pc, err = net.ListenPacket("udp", ":5353"); return err }))
	defer pc.Close()
	link, err := from.container.Netlink().LinkByName("eth0")
	lab.Must(t, err)
	gateway := make(net.HardwareAddr, 6)
	gatewayMAC.Put(gateway)
	try := func(way string) {
		for _, a := range []netip.Addr{to.v4, to.v6} {
			l := s.listen(to.container, at(a, 0))
			want := unix.EHOSTUNREACH
			if a.Is6() {
				want = unix.EACCES
			}
			before := from.Stats().Forbidden["other-network"]
			if err := s.refusal(from, netip.MustParseAddrPort(l.Addr().String())); err != want {
				t.Errorf("%s, to %s: %v, expected %v", way, a, err, want)
			}
			never(t, l)
			lab.Must(t, from.container.Do(func() error {
				c, err := net.Dial("udp", at(a, 5353).String())
				if err == nil {
					_, err = c.Write([]byte("a"))
					c.Close()
				}
				return err
			}))
			if err := s.ping(from, a); err == nil {
				t.Errorf("%s, %s answers echo requests", way, a)
			}
			if n := from.Stats().Forbidden["other-network"] - before; n < 3 {
				t.Errorf("%s, to %s: %d attempts of 3 were counted", way, a, n)
			}
		}
		for _, a := range []netip.Addr{to.gw4, to.gw6} {
			if err := s.refusal(from, at(a, 53)); err != unix.EHOSTUNREACH && err != unix.EACCES {
				t.Errorf("%s, to the other's gateway %s: %v", way, a, err)
			}
		}
	}
	try("by the default route")
	for _, p := range []netip.Prefix{to.sub4, to.sub6} {
		lab.Must(t, from.container.Netlink().RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		}))
	}
	for _, a := range []netip.Addr{to.v4, to.v6, to.gw4, to.gw6} {
		lab.Must(t, from.container.Netlink().NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: a.AsSlice(), HardwareAddr: gateway, State: netlink.NUD_PERMANENT,
		}))
	}
	try("by the gateway's MAC")
	_ = pc.SetReadDeadline(time.Now()) // what had passed would be there: pings went after it, and were refused
	if n, who, err := pc.ReadFrom(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes of %s got through", n, who)
	}
}

// datagrams sends some, and expects them back.
func (s *site) datagrams(t *testing.T, g *segment) {
	for _, a := range []netip.Addr{outside4, outside6} {
		var pc net.PacketConn
		lab.Must(t, s.outside.Do(func() (err error) { pc, err = net.ListenPacket("udp", at(a, 0).String()); return err }))
		var done sync.WaitGroup
		done.Go(func() {
			b := make([]byte, 2000)
			for {
				n, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = pc.WriteTo(b[:n], from)
			}
		})
		var c net.Conn
		lab.Must(t, g.container.Do(func() (err error) { c, err = net.Dial("udp", pc.LocalAddr().String()); return err }))
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "anybody there?")
		b := make([]byte, 100)
		if n, err := c.Read(b); err != nil || string(b[:n]) != "anybody there?" {
			t.Errorf("%s answered %q, %v", a, b[:n], err)
		}
		listed := false
		for _, f := range s.e.Flows() {
			listed = listed || f.Protocol == frame.ProtoUDP && f.Remote.String() == pc.LocalAddr().String() && f.Container.Addr() == netip.MustParseAddrPort(c.LocalAddr().String()).Addr()
		}
		if !listed {
			t.Errorf("the flow is not listed: %+v", s.e.Flows())
		}
		c.Close()
		pc.Close()
		done.Wait()
		if err := s.ping(g, a); err != nil {
			t.Errorf("%s does not answer echo requests: %v", a, err)
		}
	}
}

func TestADetachedContainersFlowsEnd(t *testing.T) {
	s := newSite(t, Config{})
	blue := s.nets["blue"]
	l := s.listen(s.outside, at(outside4, 0))
	var remotes []*net.TCPConn
	for range 3 {
		c, err := blue.dial(netip.MustParseAddrPort(l.Addr().String()))
		lab.Must(t, err)
		defer c.Close()
		r, err := l.AcceptTCP()
		lab.Must(t, err)
		defer r.Close()
		remotes = append(remotes, r)
	}
	lab.Eventually(t, func() bool { return len(s.e.Flows()) == 3 }, patience)
	blue.Forget(blue.v4)
	for _, r := range remotes {
		_ = r.SetDeadline(time.Now().Add(patience))
		wasReset(t, r)
	}
	lab.Eventually(t, func() bool { return len(s.e.Flows()) == 0 }, patience)
}

func TestARoutersEndIsTheEndOfItsConnections(t *testing.T) {
	s := newSite(t, Config{})
	l := s.listen(s.outside, at(outside4, 0))
	_, err := s.nets["blue"].dial(netip.MustParseAddrPort(l.Addr().String()))
	lab.Must(t, err)
	r, err := l.AcceptTCP()
	lab.Must(t, err)
	defer r.Close()
	lab.Must(t, s.nets["blue"].router.Close())
	_ = r.SetDeadline(time.Now().Add(patience))
	wasReset(t, r)
	lab.Eventually(t, func() bool { return len(s.e.Flows()) == 0 }, patience)
}

func TestAResetOfTheContainersReachesTheRemoteAndTheOtherWayRound(t *testing.T) {
	s := newSite(t, Config{})
	blue := s.nets["blue"]
	l := s.listen(s.outside, at(outside4, 0))
	for _, half := range []bool{false, true} {
		for _, inside := range []bool{false, true} {
			t.Run(fmt.Sprintf("the container's %t, half-closed before %t", inside, half), func(t *testing.T) {
				c, err := blue.dial(netip.MustParseAddrPort(l.Addr().String()))
				lab.Must(t, err)
				defer c.Close()
				r, err := l.AcceptTCP()
				lab.Must(t, err)
				defer r.Close()
				first, second := c, r
				if !inside {
					first, second = r, c
				}
				_ = second.SetDeadline(time.Now().Add(patience))
				if half {
					_ = first.CloseWrite()
					if _, err := second.Read(make([]byte, 1)); err != io.EOF {
						t.Fatalf("the end was not heard: %v", err)
					}
				}
				_ = first.SetLinger(0)
				_ = first.Close()
				if !half {
					wasReset(t, second)
				}
				lab.Eventually(t, func() bool { return len(s.e.Flows()) == 0 }, patience)
			})
		}
	}
}

func TestManyFlowsAtOnce(t *testing.T) {
	s := newSite(t, Config{})
	to := s.echo(s.listen(s.outside, at(outside4, 0)))
	const n = 300
	var all sync.WaitGroup
	for i := range n {
		g := s.nets["blue"]
		if i%2 == 1 {
			g = s.nets["green"]
		}
		all.Go(func() { s.ask(g, to, fmt.Sprintf("question %d", i)) })
	}
	all.Wait()
	lab.Eventually(t, func() bool {
		return s.nets["blue"].Stats().Completed+s.nets["green"].Stats().Completed == n
	}, patience)
}
