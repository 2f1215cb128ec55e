package ipam_test

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/ipam"
)

func Example() {
	pools := []ipam.Pool{{Base: netip.MustParsePrefix("10.0.0.0/8"), Size: 24}}
	subnet, _ := ipam.Subnet(pools, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/23")})

	gateway := ipam.RangeOf(subnet, netip.Prefix{}).Free(1)[0]
	r := ipam.RangeOf(subnet, netip.Prefix{}, gateway)
	leased := r.Free(3)
	fmt.Println(subnet, gateway, leased, r.Usage(leased).Free)
	// Output: 10.0.2.0/24 10.0.2.1 [10.0.2.2 10.0.2.3 10.0.2.4] 250
}
