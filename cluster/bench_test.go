package cluster

import (
	"fmt"
	"testing"

	"github.com/weftnet/weft/cluster/state"
)

// BenchmarkPropose is what a change takes that Raft has to agree on, as seen by the node that asks: until its own state has it,
// on disk too.
func BenchmarkPropose(b *testing.B) {
	for _, managers := range []int{1, 3} {
		b.Run(fmt.Sprintf("managers=%d", managers), func(b *testing.B) {
			leader := start(b, "a").found()
			hosts := []*host{leader}
			for i := 1; i < managers; i++ {
				hosts = append(hosts, start(b, fmt.Sprintf("m%d", i)).join(leader, state.Manager))
			}
			voting(b, hosts...)
			worker := start(b, "w").join(leader, state.Worker)
			for _, from := range []*host{leader, worker} {
				b.Run("from="+from.name, func(b *testing.B) {
					for i := 0; b.Loop(); i++ {
						report := from.own()
						report.MTU = 1280 + i%8000
						if _, err := from.Propose(b.Context(), state.Command{Report: &report}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}
