package main

import "github.com/spf13/cobra"

func newFDB() *cobra.Command {
	var q question
	var network string
	c := &cobra.Command{
		Use:   "fdb",
		Short: "Show the forwarding table: which MAC and addresses are where",
		Long: `Show the forwarding table of all networks, or of one. WHERE is local for a container of this node, remote for one behind
another node's VTEP, and static for a VTEP that gets what nobody is known to own.`,
		Example: "  weft fdb\n  weft fdb --network net1 --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fdb, err := q.client().FDB(c.Context(), network)
			if err != nil {
				return err
			}
			return q.show(c, fdb, func(t *table) {
				t.row("NETWORK", "VNI", "MAC", "ADDRESSES", "WHERE", "VIA", "NAME")
				for _, e := range fdb {
					mac, via := "", e.Port
					if e.MAC != nil {
						mac = e.MAC.String()
					}
					if e.VTEP != nil {
						via = e.VTEP.String()
					}
					t.row(e.Network, e.VNI, mac, joined(e.Addresses), e.Where, via, e.Name)
				}
			})
		},
	}
	q.flags(c)
	c.Flags().StringVar(&network, "network", "", "only this `network`")
	complete(c, "network", ask(&q.socket, networkNames))
	return c
}
