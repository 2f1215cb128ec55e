package agent_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/internal/lab"
)

// TestNetworksWithTheSameSubnetAreIsolated puts containers of the same addresses, and even the same MACs, on two networks of the same
// two agents.
func TestNetworksWithTheSameSubnetAreIsolated(t *testing.T) {
	a, b := lay(t, wire{})
	var cfgs [2]config
	type color struct {
		name        string
		c2, c3, own *container // own is on host b too, and on this network only
	}
	colors := []color{
		{"blue", newContainer(t, 2), newContainer(t, 3), newContainer(t, 20)},
		{"red", newContainer(t, 2), newContainer(t, 3), newContainer(t, 30)},
	}
	for i, c := range colors {
		ca, cb := a.config(c.c2).with(b, c.c3, c.own), b.config(c.c3, c.own).with(a, c.c2)
		for j, cfg := range []config{ca, cb} {
			net := cfg.Networks[0]
			net.Name, net.VNI = c.name, vni+uint32(i)
			cfg.Networks = append(cfgs[j].Networks, net)
			cfgs[j] = cfg
		}
	}
	start(t, a, cfgs[0])
	start(t, b, cfgs[1])

	const port = 7000
	for _, c := range colors {
		server := c.c3.packets(t, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		go func() { // until the test closes the socket
			buf := make([]byte, 100)
			for {
				_, from, err := server.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				if _, err = server.WriteToUDPAddrPort([]byte(c.name), from); err != nil {
					return
				}
			}
		}()
	}
	for _, c := range colors {
		for _, to := range []netip.Addr{c.c3.v4, netip.MustParseAddr("10.77.0.255")} {
			client := c.c2.packets(t, netip.AddrPortFrom(c.c2.v4, 0))
			_, err := client.WriteToUDPAddrPort([]byte("who is there?"), netip.AddrPortFrom(to, port))
			lab.Must(t, err)
			lab.Must(t, client.SetDeadline(time.Now().Add(patience)))
			buf := make([]byte, 100)
			n, from, err := client.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != c.name || from.Addr().Unmap() != c.c3.v4 {
				t.Errorf("%q answered %s of network %s from %s: %v", buf[:n], to, c.name, from, err)
			}
			// A second answer to the broadcast would be on its way behind a ping's.
			ping(t, c.c2, c.c3.v4, 56)
			lab.Must(t, client.SetDeadline(time.Now()))
			if n, _, err = client.ReadFromUDPAddrPort(buf); err == nil {
				t.Errorf("%q answered %s of network %s as well", buf[:n], to, c.name)
			}
		}
	}
	for i, c := range colors {
		ping(t, c.c2, c.own.v4, 56)
		if other := colors[1-i].own; reaches(c.c2, other.v4) {
			t.Errorf("a container of network %s reaches %s of the other network", c.name, other.v4)
		}
	}
}
