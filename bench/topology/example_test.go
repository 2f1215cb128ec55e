package topology_test

import (
	"fmt"

	"github.com/weftnet/weft/bench/topology"
)

func ExamplePaths() {
	for _, p := range topology.Paths() {
		fmt.Println(p.Name)
	}
	// Output:
	// direct
	// kernel-vxlan
	// weft
}
