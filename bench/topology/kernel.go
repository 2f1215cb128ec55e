package topology

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
)

// vni is the overlay's number; Docker's begin at the same.
const vni = 4097

// kernelVXLAN is what Docker Swarm sets up: on each host a bridge with a VXLAN device and a veth per container, and static
// entries for what is elsewhere.
var kernelVXLAN = Path{
	Name:  "kernel-vxlan",
	About: "the kernel's bridge, VXLAN device and veth pairs, as Docker Swarm sets them up",
	Group: Overlay,
	Missing: func() error {
		return probe(func(h *lab.Host) error {
			if err := h.Bridge("br0"); err != nil {
				return fmt.Errorf("%w; modprobe bridge", err)
			}
			if err := h.VXLAN("vxlan0", lab.VXLANOptions{VNI: vni, Local: vtepA, Bridge: "br0"}); err != nil {
				return fmt.Errorf("%w; modprobe vxlan", err)
			}
			return nil
		})
	},
	build: func(_ context.Context, n *Net) error {
		if err := n.containers(); err != nil {
			return err
		}
		if err := kernelHost(n.a, vtepA, entry(server, vtepB)); err != nil {
			return err
		}
		if err := kernelHost(n.b, vtepB, entry(client, vtepA), entry(neighbor, vtepA)); err != nil {
			return err
		}
		for _, c := range []struct {
			host, container *lab.Host
			veth            string
			station
		}{
			{n.a, n.Client.Host, "veth1", client},
			{n.a, n.Neighbor.Host, "veth2", neighbor},
			{n.b, n.Server.Host, "veth1", server},
		} {
			err := lab.Link(c.host, c.container, lab.LinkOptions{
				Names:     [2]string{c.veth, "eth0"},
				Masters:   [2]string{"br0", ""},
				MACs:      [2]frame.MAC{0, c.mac},
				Addresses: [2][]netip.Prefix{nil, {c.prefix()}},
				MTU:       OverlayMTU,
			})
			if err != nil {
				return err
			}
		}
		return nil
	},
}

func entry(s station, vtep netip.Addr) lab.Entry {
	return lab.Entry{MAC: s.mac, Addr: s.addr, VTEP: vtep}
}

func kernelHost(h *lab.Host, vtep netip.Addr, entries ...lab.Entry) error {
	if err := h.Bridge("br0"); err != nil {
		return err
	}
	return h.VXLAN("vxlan0", lab.VXLANOptions{
		VNI: vni, Local: vtep, MTU: OverlayMTU, Bridge: "br0", Proxy: true, Entries: entries,
	})
}
