package agent_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
)

func TestNetworksMTUFollowsTheUnderlays(t *testing.T) {
	for _, c := range []struct {
		wire
		set, want int
	}{
		{wire{}, 0, 1450},
		{wire{mtu: 9000}, 0, 8950},
		{wire{v6: true}, 0, 1430},
		{wire{v6: true, mtu: 9000}, 0, 8930},
		{wire{mtu: 65535}, 0, 65485},
		{wire{mtu: 9000}, 1400, 1400},
	} {
		t.Run(fmt.Sprintf("%+v and mtu %d in the file", c.wire, c.set), func(t *testing.T) {
			a, b := lay(t, c.wire)
			c2, c3 := newContainer(t, 2), newContainer(t, 3)
			ca, cb := a.config(c2).with(b, c3), b.config(c3).with(a, c2)
			ca.Networks[0].MTU, cb.Networks[0].MTU = c.set, c.set
			n := start(t, a, ca)
			start(t, b, cb)
			networks, err := n.Networks(t.Context())
			lab.Must(t, err)
			if got := c2.link(t, "eth0").Attrs().MTU; got != c.want || networks[0].MTU != c.want {
				t.Errorf("the container's MTU is %d, the network's %d; expected %d", got, networks[0].MTU, c.want)
			}
			for _, to := range c3.addresses() {
				ping(t, c2, to, c.want-headers(to), "-M", "do")
				transfer(t, c2, c3, to, 8<<20, a, b)
			}
		})
	}
}

func TestUnderlayTooNarrowForPacketsIsRefused(t *testing.T) {
	a, _ := lay(t, wire{mtu: 620})
	n := launch(t, a, a.config())
	<-n.ended
	if n.cmd.Wait() == nil || !strings.Contains(n.log.String(), "MTU of 620 leaves 570 bytes") {
		t.Errorf("the agent said %q; expected a complaint about the underlay's MTU, and its end", n.log)
	}
}

// tooBig fails the test unless a packet of one byte more than mtu is refused, with that MTU: by the gateway, or by the container's own
// kernel if it remembers what the gateway said.
func tooBig(t *testing.T, from *container, to, gateway netip.Addr, mtu int) {
	t.Helper()
	args := []string{"-c1", "-W5", "-M", "do", "-s", fmt.Sprint(mtu + 1 - headers(to)), to.String()}
	out, err := from.Command("ping", args...).CombinedOutput()
	if err == nil || !bytes.Contains(out, fmt.Append(nil, mtu)) ||
		!bytes.Contains(out, []byte("rom "+gateway.String())) && !bytes.Contains(out, []byte("local error")) {
		t.Errorf("ping %v said (%v)\n%s\nexpected %s to say %d", args, err, out, gateway, mtu)
	}
}

var gateways = []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")}

func TestContainerThatRaisesItsMTUIsToldTheNetworks(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	n := start(t, a, a.config(c2, c4).with(b, c3))
	start(t, b, b.config(c3).with(a, c2, c4))
	for _, c := range []*container{c2, c3, c4} {
		lab.Must(t, c.Netlink().LinkSetMTU(c.link(t, "eth0"), 9000))
	}
	for i, to := range c3.addresses() {
		before := n.drops(drop.TooBig)
		tooBig(t, c2, to, gateways[i], 1450)
		// Nobody but the gateway can have told the kernel.
		told, err := c2.Command("ip", "route", "get", to.String()).Output()
		if err != nil || !strings.Contains(string(told), "mtu 1450") {
			t.Errorf("the container's route is %q (%v); expected an MTU of 1450", told, err)
		}
		n.counts(drop.TooBig, before)
		ping(t, c2, to, 1450-headers(to), "-M", "do")
		// Now that it knows, it fragments; the other one learns of it when it answers.
		lab.Eventually(t, func() bool {
			return c2.Command("ping", "-c1", "-W1", "-s8000", "-Mdont", to.String()).Run() == nil
		}, patience)
		transfer(t, c2, c3, to, 16<<20, a, b)
		datagrams(t, c3, c2, c2.addresses()[i], 1450)
	}
	// Nothing lies between two containers of one node.
	for _, to := range c4.addresses() {
		ping(t, c2, to, 9000-headers(to), "-M", "do")
		transfer(t, c2, c4, to, 16<<20, a)
	}
}

func TestPathNarrowerThanTheDeviceIsFound(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6 underlay: %t", v6), func(t *testing.T) {
			a, b := routed(t, v6, 1400)
			c2, c3 := newContainer(t, 2), newContainer(t, 3)
			start(t, a, a.config(c2).with(b, c3))
			start(t, b, b.config(c3).with(a, c2))
			for i, to := range c3.addresses() {
				back, narrow := c2.addresses()[i], 1400-wire{v6: v6}.overhead()
				// The first packets are lost: the router tells the tunnel why, and from then on the gateway tells the container.
				deliver(t, c2, c3, to, 1<<20)
				tooBig(t, c2, to, gateways[i], narrow)
				ping(t, c2, to, narrow-headers(to), "-M", "do")
				transfer(t, c2, c3, to, 16<<20, a, b)
				transfer(t, c3, c2, back, 16<<20, a, b) // the way back is as wide as it looks
				echoes(t, c3, c2, back, 20)
				datagrams(t, c2, c3, to, narrow)
			}
		})
	}
}

// routed makes two hosts with a router between them, whose way to the second is narrower than all the hosts can see.
func routed(t *testing.T, v6 bool, mtu int) (a, b site) {
	t.Helper()
	nets, bits := [2]string{"192.0.2.", "198.51.100."}, 24
	if v6 {
		nets, bits = [2]string{"2001:db8:1::", "2001:db8:2::"}, 64
	}
	router := host(t, "router")
	lab.Must(t, router.Sysctl("net.ipv4.ip_forward", "1"))
	lab.Must(t, router.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	sites := [2]site{}
	for i, name := range []string{"a", "b"} {
		s, via := site{host(t, name), netip.MustParseAddr(nets[i] + "2")}, netip.MustParseAddr(nets[i]+"1")
		opt := lab.LinkOptions{Names: [2]string{"eth0", "to-" + name}}
		opt.Addresses[0] = []netip.Prefix{netip.PrefixFrom(s.vtep, bits)}
		opt.Addresses[1] = []netip.Prefix{netip.PrefixFrom(via, bits)}
		lab.Must(t, lab.Link(s.Host, router, opt))
		lab.Must(t, s.Default(via))
		sites[i] = s
	}
	narrow, err := router.Netlink().LinkByName("to-b")
	lab.Must(t, err)
	lab.Must(t, router.Netlink().LinkSetMTU(narrow, mtu))
	// Neighbor discovery waits for the routers' own addresses; a container's connection should not have to.
	for i, s := range sites {
		lab.Eventually(t, func() bool { return s.Command("ping", "-c1", "-W1", sites[1-i].vtep.String()).Run() == nil }, patience)
	}
	return sites[0], sites[1]
}
