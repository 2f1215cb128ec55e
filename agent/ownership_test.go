package agent_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// counts waits until the node has refused more frames for reason than before.
func (n *node) counts(reason drop.Reason, before uint64) {
	n.t.Helper()
	lab.Eventually(n.t, func() bool { return n.drops(reason) > before }, patience)
}

func (c *container) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := c.Netlink().LinkByName(name)
	lab.Must(t, err)
	return l
}

func TestContainerWithAnotherMACIsRefused(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	n := start(t, a, a.config(c2, c3))
	ping(t, c2, c3.v4, 56)
	eth0 := c2.link(t, "eth0")
	lab.Must(t, c2.Netlink().LinkSetHardwareAddr(eth0, net.HardwareAddr{2, 0x42, 10, 77, 0, 99}))
	before := n.drops(drop.SpoofedMAC)
	if reaches(c2, c3.v4) {
		t.Error("a container with a MAC that is not its own reaches another")
	}
	n.counts(drop.SpoofedMAC, before)
	lab.Must(t, c2.Netlink().LinkSetHardwareAddr(eth0, net.HardwareAddr{2, 0x42, 10, 77, 0, 2}))
	ping(t, c2, c3.v4, 56)
}

func TestContainerWithAFurtherAddressIsRefused(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	n := start(t, a, a.config(c2, c3).with(b, c4))
	for _, further := range []string{"10.77.0.99/24", "10.77.0.4/24", "10.78.0.99/24", "fd77::99/64"} {
		p := netip.MustParsePrefix(further)
		lab.Must(t, c2.Address("eth0", p))
		to := c3.v4
		if p.Addr().Is6() {
			to = c3.v6
		}
		before := n.drops(drop.SpoofedAddress)
		if c2.Command("ping", "-c1", "-W1", "-I", p.Addr().String(), to.String()).Run() == nil {
			t.Errorf("a container reaches another from %s, which is not its own", further)
		}
		n.counts(drop.SpoofedAddress, before)
		ping(t, c2, to, 56, "-I", map[bool]string{true: c2.v6.String(), false: c2.v4.String()}[to.Is6()])
	}
	if port := n.port("c2"); port.Drops[drop.SpoofedAddress.String()] == 0 {
		t.Errorf("the port's own counters are %v; expected spoofed-address among them", port.Drops)
	}
}

func TestSpoofAllowLetsOtherMACsAndAddressesThrough(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	cfg := a.config(c2, c3)
	cfg.Networks[0].Spoof = "allow"
	n := start(t, a, cfg)
	// As a virtual machine inside the container would be: a MAC and an address of its own behind the same interface.
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "inner", c2.link(t, "eth0").Attrs().Index
	lab.Must(t, c2.Netlink().LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	lab.Must(t, c2.Netlink().LinkSetUp(c2.link(t, "inner")))
	own := netip.MustParsePrefix("10.77.0.99/32")
	lab.Must(t, c2.Address("inner", own))
	lab.Must(t, c2.Sysctl("net.ipv4.conf.all.arp_ignore", "1"))
	ping(t, c2, c3.v4, 56, "-I", "inner")
	ping(t, c3, own.Addr(), 56)
	if refused := n.drops(drop.SpoofedMAC) + n.drops(drop.SpoofedAddress); refused > 0 {
		t.Errorf("%d frames were refused for their source on a network that allows any", refused)
	}
}

// forgery is a datagram that a host on the underlay sends to a node.
type forgery struct {
	name   string
	from   string // outer source
	vni    vxlan.VNI
	mac    frame.MAC  // inner source
	addr   netip.Addr // inner source; of an ARP reply if arp
	arp    bool
	flags  byte // of the VXLAN header; 0 is what is right
	reason drop.Reason
}

func TestForgedTunnelFramesAreRefused(t *testing.T) {
	a, b := lay(t, wire{})
	lab.Must(t, b.Address("eth0", netip.MustParsePrefix("192.0.2.77/24")))
	lab.Must(t, b.Address("eth0", netip.MustParsePrefix("192.0.2.5/24")))
	lab.Must(t, b.Address("eth0", netip.MustParsePrefix("192.0.2.6/24")))
	c2, c3, c4, c6 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4), newContainer(t, 6)
	cfg := a.config(c2).with(b, c3).with(site{vtep: netip.MustParseAddr("192.0.2.4")}, c4)
	cfg.Networks[0].VTEPs = []netip.Addr{netip.MustParseAddr("192.0.2.5")}
	// A node that is a peer, but has nothing to say in the first network.
	other := a.config().Networks[0]
	other.Name, other.VNI, other.Remotes = "other", vni+1, []endpoint{c6.there(netip.MustParseAddr("192.0.2.6"))}
	cfg.Networks = append(cfg.Networks, other)
	n := start(t, a, cfg)
	server := c2.packets(t, netip.AddrPortFrom(c2.v4, 9999))

	gateway := netip.MustParseAddr("10.77.0.1")
	nobody := netip.MustParseAddr("10.77.0.200")
	for _, f := range []forgery{
		{name: "from a host that is no peer", from: "192.0.2.77", vni: vni, mac: c3.mac, addr: c3.v4, reason: drop.UnknownVTEP},
		{name: "from a peer of another network", from: "192.0.2.6", vni: vni, mac: c6.mac, addr: c6.v4, reason: drop.UnknownVTEP},
		{name: "in an unknown network", from: "192.0.2.2", vni: 99, mac: c3.mac, addr: c3.v4, reason: drop.UnknownVNI},
		{name: "with a reserved flag", from: "192.0.2.2", vni: vni, mac: c3.mac, addr: c3.v4, flags: 0x0c, reason: drop.BadVXLAN},
		{name: "without the VNI flag", from: "192.0.2.2", vni: vni, mac: c3.mac, addr: c3.v4, flags: 0x04, reason: drop.BadVXLAN},
		{name: "from another node's MAC", from: "192.0.2.2", vni: vni, mac: c4.mac, addr: c4.v4, reason: drop.NotOwner},
		{name: "from another node's address", from: "192.0.2.2", vni: vni, mac: c3.mac, addr: c4.v4, reason: drop.NotOwner},
		{name: "from a container of the receiver's", from: "192.0.2.2", vni: vni, mac: c2.mac, addr: c2.v4, reason: drop.NotOwner},
		{name: "from the gateway", from: "192.0.2.2", vni: vni, mac: 0x0242_0a4d_0001, addr: gateway, reason: drop.NotOwner},
		{name: "from its own MAC and the gateway's address", from: "192.0.2.2", vni: vni, mac: c3.mac, addr: gateway, reason: drop.NotOwner},
		{name: "from a MAC of nobody", from: "192.0.2.2", vni: vni, mac: 0x0200_0000_0099, addr: nobody, reason: drop.NotOwner},
		{name: "ARP for another node's address", from: "192.0.2.2", vni: vni, mac: c3.mac, addr: c4.v4, arp: true, reason: drop.NotOwner},
		{name: "ARP for the gateway", from: "192.0.2.2", vni: vni, mac: c3.mac, addr: gateway, arp: true, reason: drop.NotOwner},
		{name: "static VTEP, from another node's MAC", from: "192.0.2.5", vni: vni, mac: c4.mac, addr: nobody, reason: drop.NotOwner},
		{name: "static VTEP, from another node's address", from: "192.0.2.5", vni: vni, mac: 0x0200_0000_0099, addr: c4.v4, reason: drop.NotOwner},
		{name: "static VTEP, from the gateway", from: "192.0.2.5", vni: vni, mac: 0x0242_0a4d_0001, addr: nobody, reason: drop.NotOwner},
		{name: "static VTEP, ARP for a local container", from: "192.0.2.5", vni: vni, mac: 0x0200_0000_0099, addr: c2.v4, arp: true, reason: drop.NotOwner},
	} {
		t.Run(f.name, func(t *testing.T) {
			before := n.drops(f.reason)
			f.send(t, b, a.vtep, c2)
			n.counts(f.reason, before)
		})
	}
	// All that arrives now is what may: nothing forged was in front of it.
	for _, f := range []forgery{
		{from: "192.0.2.2", vni: vni, mac: c3.mac, addr: c3.v4},
		{from: "192.0.2.5", vni: vni, mac: 0x0200_0000_0099, addr: nobody},
	} {
		want := f.send(t, b, a.vtep, c2)
		lab.Must(t, server.SetReadDeadline(time.Now().Add(patience)))
		buf := make([]byte, 2000)
		size, from, err := server.ReadFromUDPAddrPort(buf)
		if err != nil || from.Addr().Unmap() != f.addr || !bytes.Equal(buf[:size], want) {
			t.Fatalf("%q arrived from %s: %v; expected %q from %s", buf[:size], from, err, want, f.addr)
		}
	}
}

// send sends the forgery from host b to the node at vtep, for container to, and returns the payload of the inner datagram.
func (f forgery) send(t *testing.T, b site, vtep netip.Addr, to *container) []byte {
	t.Helper()
	payload := []byte("to port 9999: " + f.name)
	eth := &layers.Ethernet{SrcMAC: hardware(f.mac), DstMAC: hardware(to.mac), EthernetType: layers.EthernetTypeIPv4}
	inner := []gopacket.SerializableLayer{eth}
	if f.arp {
		eth.EthernetType = layers.EthernetTypeARP
		inner = append(inner, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
			SourceHwAddress: hardware(f.mac), SourceProtAddress: f.addr.AsSlice(), DstHwAddress: hardware(to.mac), DstProtAddress: to.v4.AsSlice(),
		})
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: f.addr.AsSlice(), DstIP: to.v4.AsSlice()}
		udp := &layers.UDP{SrcPort: 9999, DstPort: 9999}
		lab.Must(t, udp.SetNetworkLayerForChecksum(ip))
		inner = append(inner, ip, udp, gopacket.Payload(payload))
	}
	buf := gopacket.NewSerializeBuffer()
	lab.Must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, inner...))
	datagram := make([]byte, vxlan.HeaderLen, 200)
	vxlan.PutHeader(datagram, f.vni)
	if f.flags != 0 {
		datagram[0] = f.flags
	}
	datagram = append(datagram, buf.Bytes()...)
	lab.Must(t, b.Do(func() error {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(f.from)}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(vtep, vxlan.Port)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(datagram)
		return err
	}))
	return payload
}

func hardware(m frame.MAC) net.HardwareAddr {
	b := make(net.HardwareAddr, 6)
	m.Put(b)
	return b
}
