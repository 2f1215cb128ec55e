package datagram_test

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/egress/datagram"
	"github.com/weftnet/weft/stack/frame"
)

func Example() {
	table, err := datagram.New(datagram.Config{Flows: 1024})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()
	// DNS goes to the host's own resolver, all else where it is meant to go.
	resolver := netip.MustParseAddrPort("127.0.0.53:53")
	blue := table.Network("blue", nil, func(proto uint8, dst netip.AddrPort) (netip.AddrPort, bool) {
		if proto == frame.ProtoUDP && dst.Port() == 53 {
			return resolver, true
		}
		return dst, true
	})
	// blue.Bind(router), and router's Forward.Datagram is blue.Datagram.
	defer blue.Close()
	fmt.Println(len(table.Flows()), "flows")
	// Output: 0 flows
}
