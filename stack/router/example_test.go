package router_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
	"github.com/weftnet/weft/stack/router"
)

// island is a way out that leads nowhere.
type island struct{ asked chan netip.AddrPort }

func (i island) TCP(_ context.Context, q *router.Request) {
	i.asked <- q.Dst
	q.Unreachable(packet.NetUnreachable)
}

func (i island) Datagram(*frame.Frame) drop.Reason { return drop.NotForwarded }

// A router takes what the bridge has for the gateway, and asks its Forward what becomes of the rest.
func Example() {
	way := island{make(chan netip.AddrPort)}
	r, err := router.New(router.Config{
		Network: "net", Subnets: []netip.Prefix{subnet4}, Gateways: []netip.Addr{gateway4}, MTU: 1450,
		Link: &sinkhole{}, Forward: way, // in a node, a bridge.Network and egress
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	f := framed(tcp(port(inside4, 40000), port(outside4, 443), syn, 1, 0, nil))
	f.Parse()
	fmt.Println(r.Receive(nil, f))
	fmt.Println("asked for", <-way.asked)
	// Output:
	// none
	// asked for 192.0.2.9:443
}
