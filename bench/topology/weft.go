package topology

import (
	"context"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/tap"
)

// weft has an agent on each host and a TAP as each container's eth0.
var weft = Path{
	Name:    "weft",
	About:   "an agent on each host, TAPs as the containers' interfaces, VXLAN over UDP sockets",
	Group:   Overlay,
	Missing: taps,
	build: func(ctx context.Context, n *Net) error {
		if err := n.containers(); err != nil {
			return err
		}
		a, b := newAgent("a", vtepA), newAgent("b", vtepB)
		a.attach(n.Client, client)
		a.attach(n.Neighbor, neighbor)
		a.remote(vtepB, server)
		b.attach(n.Server, server)
		b.remote(vtepA, client, neighbor)
		if err := a.run(ctx, n, n.a); err != nil {
			return err
		}
		return b.run(ctx, n, n.b)
	},
}

// taps reports why this host makes no TAPs, nil if it does.
func taps() error {
	return probe(func(h *lab.Host) error {
		d, err := tap.Open(tap.Config{Namespace: h.Namespace(), Name: "eth0", MTU: OverlayMTU})
		if err != nil {
			return err
		}
		return d.Close()
	})
}
