package agent

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/egress"
	"github.com/weftnet/weft/stack/frame"
)

// sockets are those of this agent that other nodes reach, and containers do not. No container reaches the tunnel of another node either.
func sockets(cfg *plan.Config, o Options) []egress.Socket {
	all := []egress.Socket{{Protocol: frame.ProtoUDP, Port: cfg.Underlay.Port, Everywhere: true}}
	if o.Static == "" {
		all = append(all,
			egress.Socket{Protocol: frame.ProtoTCP, Port: o.Ports.API},
			egress.Socket{Protocol: frame.ProtoTCP, Port: o.Ports.Gossip},
			egress.Socket{Protocol: frame.ProtoUDP, Port: o.Ports.Gossip})
	}
	return all
}

// hostAddresses are those by which containers reach this host, one of each family: that of the underlay, and of the other family the one
// of the default route's interface.
func hostAddresses(underlay netip.Addr) []netip.Addr {
	all := []netip.Addr{underlay}
	family := netlink.FAMILY_V6
	if underlay.Is6() {
		family = netlink.FAMILY_V4
	}
	routes, err := netlink.RouteList(nil, family)
	if err != nil {
		return all // a host without that family
	}
	i := slices.IndexFunc(routes, isDefault)
	if i < 0 {
		return all
	}
	link, err := netlink.LinkByIndex(routes[i].LinkIndex)
	if err != nil {
		return all // it went away meanwhile
	}
	if addrs := addressesOf(link, family); len(addrs) > 0 {
		all = append(all, addrs[0])
	}
	return all
}
