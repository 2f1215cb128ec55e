package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newPort() *cobra.Command {
	c := &cobra.Command{Use: "port", Short: "Show the ports of the switch"}
	c.AddCommand(newPortList())
	return c
}

func newPortList() *cobra.Command {
	var q question
	var network string
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List ports: their devices, offloads, owners and counters",
		Long: `List the ports of all networks, or of one. Counters are as the switch sees them: RX is from the container. MODE is
offloaded where the device carries superframes, which is what makes it fast, and plain where its kernel cannot.`,
		Example: "  weft port ls\n  weft port ls --network net1 --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ports, err := q.client().Ports(c.Context(), network)
			if err != nil {
				return err
			}
			return q.show(c, ports, func(t *table) {
				t.row("NETWORK", "PORT", "KIND", "DEVICE", "NAMESPACE", "STATE", "MODE", "MTU", "RX", "TX", "DROPS", "OWNERS")
				for _, p := range ports {
					state := p.State
					if p.Error != "" {
						state += ": " + p.Error
					}
					t.row(p.Network, p.Name, p.Kind, device(p), p.Namespace, state, p.Mode, p.MTU,
						traffic(p.RxFrames, p.RxBytes), traffic(p.TxFrames, p.TxBytes), total(p.Drops)+p.TxDropped, owners(p.Owners))
				}
			})
		},
	}
	q.flags(c)
	c.Flags().StringVar(&network, "network", "", "only this `network`")
	complete(c, "network", ask(&q.socket, networkNames))
	return c
}

func device(p api.PortStatus) string {
	if p.Bridge != "" {
		return p.Interface + "@" + p.Bridge
	}
	return p.Interface
}

// traffic prints frames and their bytes in one cell.
func traffic(frames, bytes uint64) string { return fmt.Sprintf("%d (%s)", frames, amount(bytes)) }

func total(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

func owners(list []api.Owner) string {
	s := ""
	for i, o := range list {
		if i > 0 {
			s += ","
		}
		s += o.Name
	}
	return s
}
