package main

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newEgress() *cobra.Command {
	c := &cobra.Command{Use: "egress", Short: "Show what containers have going on beyond their networks"}
	c.AddCommand(newEgressList())
	return c
}

func newEgressList() *cobra.Command {
	var q question
	var f format
	var network, container string
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List connections and datagram flows out of the networks, as conntrack -L",
		Long: `List what the containers of this node have going on beyond their networks: TCP connections, UDP flows and pings. SOURCE is
the container's end, TARGET what it wrote to, and OUTER this host's end of the same flow, as the outside sees it. STATE of a
connection is dialing, established or closing; of a flow unreplied or replied. IDLE is since when nothing has passed.`,
		Example: `  weft egress ls
  weft egress ls --container c1
  weft egress ls --network web --json | jq 'group_by(.container) | map({c: .[0].container, n: length})'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			flows, err := q.client().Flows(c.Context(), network, container)
			if err != nil {
				return err
			}
			slices.SortStableFunc(flows, func(a, b api.OutsideFlow) int {
				return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Protocol, b.Protocol),
					a.Source.Compare(b.Source), a.Target.Compare(b.Target))
			})
			if f.text != "" {
				return print(c, f, flows)
			}
			return q.show(c, flows, func(t *table) {
				t.row("NETWORK", "CONTAINER", "PROTOCOL", "STATE", "SOURCE", "TARGET", "OUTER", "IDLE", "SENT", "RECEIVED")
				for _, f := range flows {
					t.row(f.Network, f.Container, f.Protocol, f.State, f.Source, f.Target, outer(f.Outer), idle(f.Idle), amount(f.Sent), amount(f.Received))
				}
			})
		},
	}
	q.flags(c)
	f.flag(c)
	c.Flags().StringVar(&network, "network", "", "only of this `network`")
	c.Flags().StringVar(&container, "container", "", "only of this `container`")
	complete(c, "network", ask(&q.socket, networkNames))
	complete(c, "container", ask(&q.socket, containerNames))
	return c
}

// outer prints an end that may not be there yet.
func outer(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// idle prints a time in as many digits as matter.
func idle(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
