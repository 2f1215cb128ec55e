package topology

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/internal/lab"
)

// The ways out that do not leave host a's kernel or are weft's own; those of other programs are in usermode.go.
var (
	// kernelMasquerade is what container engines set up: a bridge, a veth per container, and masquerading.
	kernelMasquerade = Path{
		Name:  "kernel-masquerade",
		About: "the kernel's way out: a veth pair, a bridge, and nftables masquerading, as container engines set them up",
		Group: Egress,
		Missing: func() error {
			return probe(func(h *lab.Host) error {
				if err := h.Bridge("br0"); err != nil {
					return fmt.Errorf("%w; modprobe bridge", err)
				}
				return masquerade(h)
			})
		},
		build: func(_ context.Context, n *Net) error {
			if err := n.outside(); err != nil {
				return err
			}
			if err := n.a.Bridge("br0", netip.PrefixFrom(gateway, subnet.Bits())); err != nil {
				return err
			}
			if err := n.wire("veth1", "br0"); err != nil {
				return err
			}
			if err := n.Client.Host.Default(gateway); err != nil {
				return err
			}
			if err := n.a.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
				return err
			}
			return masquerade(n.a)
		},
	}

	// weftEgress is an agent whose network has a way out.
	weftEgress = Path{
		Name:    "weft-egress",
		About:   "weft's way out: a TAP as the container's interface, the network's router, a host socket per connection",
		Group:   Egress,
		Missing: taps,
		build: func(ctx context.Context, n *Net) error {
			if err := n.outside(); err != nil {
				return err
			}
			a := newAgent("a", vtepA)
			a.attach(n.Client, client, route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway})
			return a.run(ctx, n, n.a)
		},
	}
)

// outside makes the client, without an interface, and lets host b be the server. Host a, which opens connections in the client's place on
// all paths but the kernel's, has as many ports for them as the load's client gives itself: what ends must not be measured for a minute.
func (n *Net) outside() error {
	h, err := n.host(client.name, client.cpu)
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"net.ipv4.ip_local_port_range": "1024 65535", "net.ipv4.tcp_tw_reuse": "1"} {
		if err := n.a.Sysctl(name, value); err != nil {
			return err
		}
	}
	n.Client, n.Server = Container{h, client.addr}, Container{n.b, vtepB}
	return nil
}

// wire joins the client to host a by a veth pair whose near end has the name, and becomes a port of the bridge or, if that
// is empty, has the gateway's address.
func (n *Net) wire(name, bridge string) error {
	opt := lab.LinkOptions{
		Names:     [2]string{name, "eth0"},
		Masters:   [2]string{bridge, ""},
		Addresses: [2][]netip.Prefix{nil, {client.prefix()}},
		MTU:       UnderlayMTU,
	}
	if bridge == "" {
		opt.Addresses[0] = []netip.Prefix{netip.PrefixFrom(gateway, subnet.Bits())}
	}
	return lab.Link(n.a, n.Client.Host, opt)
}

// masquerade lets what comes from the subnet and leaves h by eth0 have h's address.
func masquerade(h *lab.Host) error {
	nft, err := program("nft", "nftables")
	if err != nil {
		return err
	}
	rules := "add table ip bench; " +
		"add chain ip bench out { type nat hook postrouting priority srcnat; }; " +
		"add rule ip bench out ip saddr " + subnet.String() + " oifname eth0 masquerade"
	if said, err := h.Command(nft, rules).CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s; modprobe nft_masq", err, bytes.TrimSpace(said))
	}
	return nil
}
