package member

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// most is how many routes a node reports: one with a full table of the Internet's must not fill the managers' state.
const most = 256

// routes returns the destinations in this host's main routing tables, without default and link-local ones. New subnets avoid them
// (moby#48069).
func routes() (all []netip.Prefix) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			continue // a host without that family
		}
		for _, r := range list {
			if r.Dst == nil {
				continue
			}
			addr, ok := netip.AddrFromSlice(r.Dst.IP)
			ones, _ := r.Dst.Mask.Size()
			if !ok || ones == 0 || addr.IsLinkLocalUnicast() || addr.IsMulticast() {
				continue
			}
			all = append(all, netip.PrefixFrom(addr.Unmap(), ones))
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Bits() - b.Bits(); c != 0 {
			return c // the widest first: they matter most
		}
		return a.Addr().Compare(b.Addr())
	})
	all = slices.Compact(all)
	return all[:min(len(all), most)]
}
