package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newStatus() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the node and its networks, and what does not work as configured",
		Example: "  weft status\n  weft status --json | jq .status.problems",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all struct {
				Status   api.Status    `json:"status"`
				Networks []api.Network `json:"networks"`
			}
			var err error
			if all.Status, err = q.client().Status(c.Context()); err != nil {
				return err
			}
			if all.Networks, err = q.client().Networks(c.Context()); err != nil {
				return err
			}
			return q.show(c, all, func(t *table) { showStatus(t, all.Status, all.Networks) })
		},
	}
	q.flags(c)
	return c
}

func showStatus(t *table, s api.Status, networks []api.Network) {
	t.row("node", s.Node)
	t.row("underlay", s.Underlay)
	t.row("threads", s.Threads)
	t.row("ports", fmt.Sprintf("%d up, %d gone", s.Ports.Up, s.Ports.Gone))
	t.row("up since", s.Started.Local().Format(time.DateTime))
	t.row("process", s.PID)
	for _, p := range s.Problems {
		t.row("problem", p)
	}
	if len(networks) == 0 {
		return
	}
	t.section("Networks")
	t.row("NETWORK", "VNI", "SUBNETS", "GATEWAYS", "MTU", "SPOOF", "HERE", "ELSEWHERE", "VTEPS")
	for _, n := range networks {
		t.row(n.Name, n.VNI, joined(n.Subnets), joined(n.Gateways), n.MTU, n.Spoof, n.Endpoints, n.Remotes, joined(n.VTEPs))
	}
}
