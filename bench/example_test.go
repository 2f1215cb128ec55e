package bench_test

import (
	"fmt"

	"github.com/weftnet/weft/bench"
)

func ExampleOptions_Check() {
	opt := bench.Default()
	opt.Offload = "maybe"
	fmt.Println(opt.Check())
	// Output: bench: --offload "maybe"; expected on or off
}
