package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newStats() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show counters: traffic, what was refused and why, and how the threads fare",
		Long: `Show the node's counters since its agent began. FRAMES/SEND is how many frames each datagram send or receive carried: with
segmentation (GSO) it is many. Beyond the networks are the containers' TCP connections (weft egress ls lists them). Every
refused frame is counted under one reason, at its port, its network or the tunnel.`,
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
	showNames(t, s.Names)
	showOutside(t, s.Networks)
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
		if o := n.Outside; o != nil {
			showDrops(t, n.Network+", router", o.Drops)
			showDrops(t, n.Network+", forbidden", o.Forbidden)
		}
	}
	if s.Names != nil {
		showDrops(t, "names", s.Names.Drops)
	}
	showDrops(t, "tunnel", s.Tunnel.Drops)
	t.section("Threads")
	t.row("THREAD", "ROUNDS", "FRAMES", "YIELDS", "WAITS")
	for _, h := range s.Threads {
		t.row(h.Thread, h.Rounds, h.Frames, h.Yields, h.Waits)
	}
}

// showNames shows what was asked, if names are answered here.
func showNames(t *table, n *api.NameStats) {
	if n == nil {
		return
	}
	t.section("Names")
	t.row("ASKED BY UDP", "BY TCP", "ANSWERS", "FROM THE CACHE", "OUTSTANDING")
	t.row(n.UDP, n.TCP, tally(n.Rcodes), n.Cached, n.Outstanding)
	if len(n.Servers) == 0 {
		return
	}
	t.section("Name servers")
	t.row("SERVER", "ASKED", "ANSWERS", "FAILED", "STATE")
	for _, s := range n.Servers {
		state := "up"
		if s.Down {
			state = "down"
		}
		t.row(s.Address, s.Asked, s.Answers, s.Failed, state)
	}
}

// showOutside shows what left the networks that have a router.
func showOutside(t *table, all []api.NetworkStats) {
	all = slices.DeleteFunc(slices.Clone(all), func(n api.NetworkStats) bool { return n.Outside == nil })
	if len(all) == 0 {
		return
	}
	t.section("Beyond the networks")
	t.row("NETWORK", "CONNECTIONS", "OPENED", "FAILED", "LIMITED", "SENT", "RECEIVED", "RETRANSMITS")
	for _, n := range all {
		o := n.Outside
		t.row(n.Network, o.Connections, o.Opened, tally(o.Failed), o.Limited, amount(o.Sent), amount(o.Received), o.Retransmits)
	}
}

// tally prints counters by name in one cell.
func tally(counters map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		parts = append(parts, fmt.Sprintf("%s=%d", name, counters[name]))
	}
	return strings.Join(parts, ",")
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
