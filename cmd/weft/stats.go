package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newStats() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show counters: traffic, what was refused and why, and how the threads fare",
		Long: `Show the node's counters since its agent began. FRAMES/SEND is how many frames each datagram send or receive carried: with
segmentation (GSO) it is many. Every refused frame is counted under one reason, at its port, its network or the tunnel.`,
		Example: "  weft stats\n  weft stats --json | jq .tunnel",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := q.client().Stats(c.Context())
			if err != nil {
				return err
			}
			ports, err := q.client().Ports(c.Context(), "")
			if err != nil {
				return err
			}
			return q.show(c, s, func(t *table) { showStats(t, s, ports) })
		},
	}
	q.flags(c)
	return c
}

func showStats(t *table, s api.Stats, ports []api.PortStatus) {
	t.row("NETWORK", "VNI", "FROM CONTAINERS", "TO CONTAINERS")
	for _, n := range s.Networks {
		t.row(n.Network, n.VNI, traffic(n.RxFrames, n.RxBytes), traffic(n.TxFrames, n.TxBytes))
	}
	t.section("Tunnel at " + s.Tunnel.Local.String())
	t.row("PEER", "MTU", "GSO", "TX", "FRAMES/SEND", "RX", "FRAMES/RECEIVE")
	for _, p := range s.Tunnel.Peers {
		gso := "off"
		if p.GSO {
			gso = "on"
		}
		t.row(p.VTEP, p.MTU, gso, traffic(p.TxFrames, p.TxBytes), each(p.TxFrames, p.TxMessages), traffic(p.RxFrames, p.RxBytes), each(p.RxFrames, p.RxMessages))
	}
	t.section("Refused")
	t.row("WHERE", "REASON", "FRAMES")
	for _, p := range ports {
		drops := maps.Clone(p.Drops)
		if p.TxDropped > 0 {
			drops["device-queue-full"] = p.TxDropped
		}
		showDrops(t, p.Network+"/"+p.Name, drops)
	}
	for _, n := range s.Networks {
		showDrops(t, n.Network+", from the tunnel", n.Drops)
	}
	showDrops(t, "tunnel", s.Tunnel.Drops)
	t.section("Threads")
	t.row("THREAD", "ROUNDS", "FRAMES", "YIELDS", "WAITS")
	for _, h := range s.Threads {
		t.row(h.Thread, h.Rounds, h.Frames, h.Yields, h.Waits)
	}
}

func showDrops(t *table, where string, drops map[string]uint64) {
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		t.row(where, reason, drops[reason])
	}
}

// each prints how many frames a message carried.
func each(frames, messages uint64) string {
	if messages == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(frames)/float64(messages))
}
