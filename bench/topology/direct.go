package topology

import (
	"context"
	"net/netip"

	"github.com/weftnet/weft/internal/lab"
)

// direct has no overlay: the hosts themselves are the containers. It is what the machine and the load generators can do.
var direct = Path{
	Name:    "direct",
	About:   "a veth pair between the hosts, without an overlay: the upper bound",
	Group:   Overlay,
	Missing: func() error { return probe(func(*lab.Host) error { return nil }) },
	build: func(_ context.Context, n *Net) error {
		h, err := n.host("neighbor", cpuA)
		if err != nil {
			return err
		}
		near, far := netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")
		n.Client, n.Server, n.Neighbor = Container{n.a, vtepA}, Container{n.b, vtepB}, Container{h, far.Addr()}
		return lab.Link(n.a, h, lab.LinkOptions{
			Names:     [2]string{"eth1", "eth0"},
			MTU:       UnderlayMTU,
			Addresses: [2][]netip.Prefix{{near}, {far}},
		})
	},
}
