package egress_test

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/egress"
	"github.com/weftnet/weft/stack/frame"
)

// What the containers of a network reach while another network has 10.2.0.0/24.
func ExamplePolicy_Admit() {
	p := &egress.Policy{
		Mode:    egress.Internet,
		Foreign: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
		Closed:  []egress.Socket{{Protocol: frame.ProtoTCP, Port: 7946}},
		Host:    egress.NewLocal(),
	}
	for _, dst := range []string{"93.184.216.34:443", "10.2.0.5:80", "[64:ff9b::a02:5]:80", "169.254.169.254:80"} {
		fmt.Println(dst, p.Admit(frame.ProtoTCP, netip.MustParseAddrPort(dst)))
	}
	// Output:
	// 93.184.216.34:443 allowed
	// 10.2.0.5:80 other-network
	// [64:ff9b::a02:5]:80 other-network
	// 169.254.169.254:80 link-local
}
