package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newEndpoint() *cobra.Command {
	c := &cobra.Command{Use: "endpoint", Short: "Show the containers' ends of networks, on all nodes"}
	c.AddCommand(newEndpointList(), newEndpointInspect())
	return c
}

func newEndpointList() *cobra.Command {
	var q question
	var f format
	var network string
	var quiet, local bool
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List endpoints: which container is where, with which addresses",
		Long: `List the containers' ends of networks: those of this node, and those of other nodes on networks in which this node takes part.
STATE is up, gone (with the reason), or hidden while an endpoint's node is down.`,
		Example: "  weft endpoint ls\n  weft endpoint ls --network web --local\n  weft endpoint ls --format '{{.Name}} {{join .Addresses \",\"}}'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := q.client().Endpoints(c.Context(), network)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(e api.Endpoint) bool { return local && !e.Local })
			slices.SortStableFunc(all, func(a, b api.Endpoint) int {
				return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node))
			})
			if f.text != "" {
				return print(c, f, all)
			}
			if quiet && !q.json {
				for _, e := range all {
					fmt.Fprintln(c.OutOrStdout(), e.ID)
				}
				return nil
			}
			return q.show(c, all, func(t *table) { showEndpoints(t, all) })
		},
	}
	q.flags(c)
	f.flag(c)
	c.Flags().StringVar(&network, "network", "", "only of this `network`")
	c.Flags().BoolVar(&local, "local", false, "only of this node")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	complete(c, "network", ask(&q.socket, networkNames))
	return c
}

func showEndpoints(t *table, all []api.Endpoint) {
	t.row("NAME", "NETWORK", "ADDRESSES", "MAC", "NODE", "INTERFACE", "STATE")
	for _, e := range all {
		state := e.State
		if e.Error != "" {
			state += ": " + e.Error
		}
		t.row(e.Name, e.Network, joined(e.Addresses), e.MAC, e.Node, e.Interface, state)
	}
}

func newEndpointInspect() *cobra.Command {
	var q question
	var f format
	c := &cobra.Command{
		Use:   "inspect NAME...",
		Short: "Show endpoints, as JSON",
		Long:  `Show all endpoints of a container, by its name, or one endpoint by its ID, as a JSON array or by a Go template.`,
		Example: `  weft endpoint inspect c1
  weft endpoint inspect c1 --format '{{.Network}} {{.MAC}} {{.Interface}}'`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: ask(&q.socket, endpointNames),
		RunE: func(c *cobra.Command, args []string) error {
			return inspect(c, f, args, func(ref string) ([]api.Endpoint, error) { return q.client().Endpoint(c.Context(), ref) })
		},
	}
	socketFlag(c, &q.socket)
	f.flag(c)
	return c
}
