package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"
)

func newIPAM() *cobra.Command {
	c := &cobra.Command{Use: "ipam", Short: "Show what becomes of the networks' addresses"}
	c.AddCommand(newIPAMUsage(), newIPAMAudit())
	return c
}

func newIPAMUsage() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "usage",
		Short: "Show how full the networks are",
		Long: `Show how full the networks' ranges are. Of SIZE addresses LEASED are with nodes, which hand them out themselves, and FREE with
none; USED are the leased ones that containers have, as far as this node takes part in the network. RESERVED are the gateway's,
auxiliary, network and broadcast addresses.`,
		Example: "  weft ipam usage\n  weft ipam usage --json | jq '.[] | select(.free == 0)'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			usage, err := q.client().Usage(c.Context())
			if err != nil {
				return err
			}
			return q.show(c, usage, func(t *table) {
				t.row("NETWORK", "SUBNET", "RANGE", "SIZE", "LEASED", "USED", "FREE", "RESERVED")
				for _, u := range usage {
					t.row(u.Network, u.Prefix, prefix(u.Range), u.Size, u.Leased, u.Used, u.Free, u.Reserved)
				}
			})
		},
	}
	q.flags(c)
	return c
}

// prefix prints one that may not be there.
func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func newIPAMAudit() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "audit",
		Short: "Find addresses that are not accounted for",
		Long: `Compare what is leased with what is used, and list what does not fit together. The exit status is 1 if there is anything.
What is being attached or given back just now may show for a moment.`,
		Example: "  weft ipam audit",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			findings, err := q.client().Audit(c.Context())
			if err != nil {
				return err
			}
			err = q.show(c, findings, func(t *table) {
				if len(findings) == 0 {
					fmt.Fprintln(t.w, "All addresses are accounted for.")
					return
				}
				t.row("NETWORK", "ADDRESS", "NODE", "FINDING")
				for _, f := range findings {
					address := ""
					if f.Address.IsValid() {
						address = f.Address.String()
					}
					t.row(f.Network, address, f.Node, f.Finding)
				}
			})
			if err == nil && len(findings) > 0 {
				err = fmt.Errorf("%d findings; if they are there again in a minute, weft endpoint ls shows who has what", len(findings))
			}
			return err
		},
	}
	q.flags(c)
	return c
}
