package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newStatus() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the node, its cluster and its networks, and what does not work as configured",
		Long:    `Show the node, its part in the cluster, its networks, and what does not work as configured.`,
		Example: "  weft status\n  weft status --json | jq .status.problems",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all struct {
				Status   api.Status    `json:"status"`
				Networks []api.Network `json:"networks"`
				Cluster  *api.Cluster  `json:"cluster,omitempty"`
			}
			var err error
			if all.Status, err = q.client().Status(c.Context()); err != nil {
				return err
			}
			if all.Networks, err = q.client().Networks(c.Context()); err != nil {
				return err
			}
			if all.Cluster, err = cluster(c.Context(), q.client()); err != nil {
				return err
			}
			return q.show(c, all, func(t *table) { showStatus(t, all.Status, all.Networks, all.Cluster) })
		},
	}
	q.flags(c)
	return c
}

// cluster asks what cluster the node is a member of, which may be none.
func cluster(ctx context.Context, client *api.Client) (*api.Cluster, error) {
	info, err := client.Cluster(ctx)
	if r := (*api.Refusal)(nil); errors.As(err, &r) && r.Status == http.StatusConflict {
		return nil, nil
	}
	return &info, err
}

func showStatus(t *table, s api.Status, networks []api.Network, info *api.Cluster) {
	t.row("node", s.Node)
	if info == nil {
		t.row("cluster", "none")
	} else {
		t.row("cluster", info.ID)
		showCluster(t, *info)
	}
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
