package gossip_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weftnet/weft/bench/gossip"
)

func ExampleRun() {
	opt := gossip.Default()
	opt.Nodes, opt.Puts, opt.Churn, opt.Idle = []int{3}, 10, 10*time.Second, time.Second
	report, err := gossip.Run(context.Background(), opt, func(string) {})
	if err != nil {
		fmt.Println(err)
		return
	}
	three := report.Sizes[0]
	fmt.Println(three.Quiet.Count, "puts, within half a second:", three.Quiet.Max < 0.5)
	// Output:
	// 10 puts, within half a second: true
}
