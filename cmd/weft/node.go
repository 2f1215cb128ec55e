package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newNode() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Show and change the nodes of the cluster"}
	c.AddCommand(newNodeList(), newNodeInspect(), newNodeRemove(),
		nodeChange("promote", "Make workers managers", `Make workers managers. Have 1, 3 or 5 of them: changes take more than half of the managers, so that 3 survive the loss of one,
and 5 of two.`, api.MemberChange{Role: "manager"}),
		nodeChange("demote", "Make managers workers", `Make managers workers. The last manager cannot be demoted. Those that stay must be able to agree: demote one at a
time.`,
			api.MemberChange{Role: "worker"}),
		nodeChange("drain", "Let nodes take no new containers", `Let nodes take no new containers. What is attached stays attached, until it is detached or stopped.`,
			api.MemberChange{Availability: "drain"}),
		nodeChange("activate", "Let drained nodes take containers again", `Let nodes that were drained take containers again.`,
			api.MemberChange{Availability: "active"}))
	return c
}

func newNodeList() *cobra.Command {
	var q question
	var f format
	var quiet bool
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List nodes: how they are, and what they are to the cluster",
		Long: `List the nodes of the cluster. The one with * is this one. STATUS is as gossip sees it from here: Ready, Suspect (not heard of
lately) or Down. MANAGER STATUS is Leader, Reachable or Unreachable, and empty for workers.`,
		Example: "  weft node ls\n  weft node ls --format '{{.Name}} {{.Status}}'\n  weft node ls --json | jq -r '.[].name'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			nodes, err := q.client().Members(c.Context())
			if err != nil {
				return err
			}
			slices.SortFunc(nodes, func(a, b api.Member) int { return strings.Compare(a.Name, b.Name) })
			if f.text != "" {
				return print(c, f, nodes)
			}
			if quiet && !q.json {
				for _, n := range nodes {
					fmt.Fprintln(c.OutOrStdout(), n.ID)
				}
				return nil
			}
			return q.show(c, nodes, func(t *table) {
				t.row("ID", "NAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "ADDRESS", "VERSION")
				for _, n := range nodes {
					id := n.ID
					if n.Self {
						id += " *"
					}
					t.row(id, n.Name, title(n.Status), title(n.Availability), managerStatus(n), address(n), n.Version)
				}
			})
		},
	}
	q.flags(c)
	f.flag(c)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return c
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func managerStatus(n api.Member) string {
	switch {
	case n.Role != "manager":
		return ""
	case n.Leader:
		return "Leader"
	case n.Status == api.NodeReady:
		return "Reachable"
	}
	return "Unreachable"
}

func address(n api.Member) string {
	if !n.VTEP.IsValid() {
		return ""
	}
	return n.VTEP.Addr().String()
}

func newNodeInspect() *cobra.Command {
	var q question
	var f format
	c := &cobra.Command{
		Use:   "inspect NODE...",
		Short: "Show all that the cluster knows of nodes, as JSON",
		Long: `Show all that the cluster knows of nodes, by name, ID or the beginning of an ID, as a JSON array or by a Go template. The name
self stands for this node, unless another one is called so.`,
		Example: "  weft node inspect b\n  weft node inspect self --format '{{.Role}} {{.VTEP}}'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return inspect(c, f, args, func(ref string) ([]api.Member, error) { return one(member(c.Context(), q.client(), ref)) })
		},
		ValidArgsFunction: ask(&q.socket, nodeNames),
	}
	socketFlag(c, &q.socket)
	f.flag(c)
	return c
}

// member finds a node, or the one that is asked.
func member(ctx context.Context, client *api.Client, ref string) (api.Member, error) {
	m, err := client.Member(ctx, ref)
	if err == nil || ref != "self" {
		return m, err
	}
	nodes, listErr := client.Members(ctx)
	if i := slices.IndexFunc(nodes, func(n api.Member) bool { return n.Self }); listErr == nil && i >= 0 {
		return nodes[i], nil
	}
	return m, err
}

func nodeChange(name, short, long string, change api.MemberChange) *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:               name + " NODE...",
		Short:             short,
		Long:              long + " It takes a manager.",
		Example:           "  weft node " + name + " b\n  weft node " + name + " b c",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: ask(&q.socket, nodeNames),
		RunE: func(c *cobra.Command, args []string) error {
			return eachName(c, args, func(ref string) error {
				_, err := q.client().ChangeMember(c.Context(), ref, change)
				return err
			})
		},
	}
	socketFlag(c, &q.socket)
	return c
}

func newNodeRemove() *cobra.Command {
	var q question
	var force bool
	c := &cobra.Command{
		Use:     "rm NODE...",
		Aliases: []string{"remove"},
		Short:   "Remove nodes from the cluster for ever",
		Long: `Remove nodes from the cluster for ever. At once, and without asking back:

  - a node's certificate is refused by all others from now on, so that it cannot take part in anything any more;
  - its addresses become free for others, its bridge networks are removed, and nobody sends to its containers.

What runs on such a node goes on running there. It can join again only as a new node, after weft leave on it. A node
that is alive should be taken out by weft leave, on itself; rm takes one that is down, and with --force one that is not. A
manager that is removed does not count as one any more.`,
		Example:           "  weft node rm b\n  weft node rm --force b",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: ask(&q.socket, nodeNames),
		RunE: func(c *cobra.Command, args []string) error {
			return eachName(c, args, func(ref string) error { return q.client().RemoveMember(c.Context(), ref, force) })
		},
	}
	socketFlag(c, &q.socket)
	c.Flags().BoolVarP(&force, "force", "f", false, "also a node that is alive")
	return c
}
