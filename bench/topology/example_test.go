package topology_test

import (
	"fmt"

	"github.com/weftnet/weft/bench/topology"
)

func ExamplePaths() {
	for _, p := range topology.Paths() {
		fmt.Printf("%s: %s\n", p.Group, p.Name)
	}
	// Output:
	// overlay: direct
	// overlay: kernel-vxlan
	// overlay: weft
	// egress: kernel-masquerade
	// egress: go-proxy
	// egress: slirp4netns
	// egress: pasta
	// egress: weft-egress
	// names: dnsmasq
	// names: weft-dns
}
