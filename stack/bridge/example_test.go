package bridge_test

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/frame"
)

// A network is told where everything is by a table; the next frame of every lane goes by it.
func ExampleCompile() {
	n := bridge.NewNetwork("web", 4097, nil)
	port := n.NewPort(bridge.PortConfig{Name: "eth0"})
	n.SetTable(bridge.Compile(bridge.Config{
		MTU:   1450,
		Ports: []*bridge.Port{port},
		Endpoints: []bridge.Endpoint{{
			Name: "web.1", MAC: 0x02420a000002, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Port: port,
		}},
		Gateway: bridge.Gateway{MAC: frame.MAC(0x02420a000001), V4: netip.MustParseAddr("10.0.0.1")},
	}))
	for _, e := range n.Table().Endpoints() {
		fmt.Println(e.Name, e.MAC, e.Addresses)
	}
	// Output: web.1 02:42:0a:00:00:02 [10.0.0.2]
}
