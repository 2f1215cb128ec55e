package agent_test

import (
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

func TestTwoAgentsCarryEveryKindOfTraffic(t *testing.T) {
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			a, b := lay(t, w.wire)
			c2, c3 := newContainer(t, 2), newContainer(t, 3)
			nodes := []*node{start(t, a, a.config(c2).with(b, c3)), start(t, b, b.config(c3).with(a, c2))}
			before := []map[string]uint64{nodes[0].refusals(), nodes[1].refusals()}
			converse(t, c2, c3, w.overlayMTU(), a, b)
			for i, n := range nodes {
				n.nothingLost(before[i])
				if misjudged := n.drops(drop.NotOwner); misjudged > 0 {
					t.Errorf("agent %s took %d frames of the other for forged ones", n.cfg.Node, misjudged)
				}
			}
		})
	}
}

func TestContainersOfOneAgentReachEachOther(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	n := start(t, a, a.config(c2, c3))
	before := n.refusals()
	converse(t, c2, c3, wire{}.overlayMTU(), a)
	n.nothingLost(before)
}

func TestSeveralThreadsAndQueuesKeepFlowsInOrder(t *testing.T) {
	a, b := lay(t, wire{noOffload: true})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	ca, cb := a.config(c2, c4).with(b, c3), b.config(c3).with(a, c2, c4)
	for _, cfg := range []*config{&ca, &cb} {
		cfg.Threads = 3
		for i := range cfg.Networks[0].Endpoints {
			cfg.Networks[0].Endpoints[i].Queues = 2
		}
	}
	na, nb := start(t, a, ca), start(t, b, cb)
	before := []map[string]uint64{na.refusals(), nb.refusals()}
	converse(t, c2, c3, wire{}.overlayMTU(), a, b)
	converse(t, c2, c4, wire{}.overlayMTU(), a)
	na.nothingLost(before[0])
	nb.nothingLost(before[1])
}
