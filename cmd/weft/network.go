package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newNetwork() *cobra.Command {
	c := &cobra.Command{Use: "network", Short: "Make, show and remove networks"}
	c.AddCommand(newNetworkCreate(), newNetworkList(), newNetworkInspect(), newNetworkRemove(), newNetworkPrune())
	return c
}

func newNetworkInspect() *cobra.Command {
	var q question
	var f format
	c := &cobra.Command{
		Use:   "inspect NETWORK...",
		Short: "Show networks, their nodes and their endpoints, as JSON",
		Long: `Show networks, by name, ID or the beginning of an ID, as a JSON array or by a Go template. Endpoints are those on all nodes, as
far as this node takes part in the network.`,
		Example: `  weft network inspect web
  weft network inspect web --format '{{.VNI}} {{range .Endpoints}}{{.Name}} {{end}}'
  weft network inspect web --format '{{json .Subnets}}'`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: ask(&q.socket, networkNames),
		RunE: func(c *cobra.Command, args []string) error {
			return inspect(c, f, args, func(ref string) ([]api.NetworkDetail, error) { return one(q.client().Segment(c.Context(), ref)) })
		},
	}
	socketFlag(c, &q.socket)
	f.flag(c)
	return c
}

func newNetworkRemove() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:     "rm NETWORK...",
		Aliases: []string{"remove"},
		Short:   "Remove networks that nobody uses",
		Long: `Remove networks, by name, ID or the beginning of an ID, on all nodes. One that is in use is refused, with who uses it: detach
or remove those containers first (weft endpoint ls --network NETWORK).`,
		Example:           "  weft network rm web",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: ask(&q.socket, networkNames),
		RunE: func(c *cobra.Command, args []string) error {
			return eachName(c, args, func(ref string) error { return q.client().RemoveNetwork(c.Context(), ref) })
		},
	}
	socketFlag(c, &q.socket)
	return c
}

func newNetworkPrune() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove all networks that nobody uses",
		Long: `Remove all networks that no container of any node uses, but ingress. Nothing is asked back. It prints the names of those that
it removed.`,
		Example: "  weft network prune\n  weft network prune --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			removed, err := q.client().PruneNetworks(c.Context())
			if err != nil {
				return err
			}
			return q.show(c, removed, func(t *table) {
				for _, name := range removed {
					fmt.Fprintln(t.w, name)
				}
			})
		},
	}
	q.flags(c)
	c.Flags().BoolP("force", "f", false, "accepted as Docker's is; nothing is asked in any case")
	return c
}
