package agent

import (
	"slices"
	"testing"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/egress"
	"github.com/weftnet/weft/stack/frame"
)

func TestNoContainerReachesTheTunnelOfAnyNode(t *testing.T) {
	cfg := &plan.Config{Underlay: plan.Underlay{Port: 4790}}
	for _, o := range []Options{{}, {Static: "node.yaml"}} {
		if !slices.Contains(sockets(cfg, o), egress.Socket{Protocol: frame.ProtoUDP, Port: 4790, Everywhere: true}) {
			t.Errorf("%+v: the sockets that containers are kept from are %+v", o, sockets(cfg, o))
		}
	}
}
