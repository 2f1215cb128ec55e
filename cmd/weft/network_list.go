package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

// shortID is how much of an ID a table shows, as Docker's do.
const shortID = 12

func newNetworkList() *cobra.Command {
	var q question
	var f format
	var quiet, whole bool
	var filters []string
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List networks",
		Long: `List the networks of the cluster. SCOPE is swarm for what is there on all nodes, and local for a bridge. EGRESS is what
containers reach beyond the network: internet, full (link-local addresses too) or none.

Filters, by --filter: name=PART, id=BEGINNING, driver=overlay|bridge, scope=swarm|local, dangling=true|false (true is what no
node uses), label=KEY or label=KEY=VALUE. Of one key any may match, but all labels must; of different keys all must.

--format takes a Go template for each network, or "table" and a template for columns with a heading.`,
		Example: `  weft network ls
  weft network ls --filter driver=overlay --filter label=team=a
  weft network ls --format '{{.Name}} {{.VNI}} {{json .Labels}}'
  weft network ls --format 'table {{.Name}}\t{{.VNI}}\t{{.Driver}}'
  weft network rm $(weft network ls --quiet --filter label=temporary)`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			keep, err := parseFilters(filters)
			if err != nil {
				return usageError{err}
			}
			networks, err := q.client().Segments(c.Context())
			if err != nil {
				return err
			}
			networks = slices.DeleteFunc(networks, func(n api.NetworkDetail) bool { return !keep(n) })
			slices.SortFunc(networks, func(a, b api.NetworkDetail) int { return strings.Compare(a.Name, b.Name) })
			if q.json {
				return q.show(c, networks, nil)
			}
			for i := range networks {
				if !whole && len(networks[i].ID) > shortID {
					networks[i].ID = networks[i].ID[:shortID]
				}
			}
			switch {
			case f.text != "":
				return print(c, f, networks)
			case quiet:
				for _, n := range networks {
					fmt.Fprintln(c.OutOrStdout(), n.ID)
				}
				return nil
			}
			return q.show(c, networks, func(t *table) {
				t.row("NETWORK ID", "NAME", "DRIVER", "SCOPE", "EGRESS")
				for _, n := range networks {
					t.row(n.ID, n.Name, n.Driver, n.Scope, n.Egress)
				}
			})
		},
	}
	q.flags(c)
	f.flag(c)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	c.Flags().BoolVar(&whole, "no-trunc", false, "print whole IDs")
	c.Flags().StringArrayVarP(&filters, "filter", "f", nil, "only networks that match, as `KEY=VALUE`; may be repeated")
	complete(c, "filter", words("name=", "id=", "driver=overlay", "driver=bridge", "scope=swarm", "scope=local", "dangling=true", "dangling=false", "label="))
	return c
}

// parseFilters reads what --filter says: of the values of a key any may match, of labels all must.
func parseFilters(filters []string) (keep func(api.NetworkDetail) bool, err error) {
	wanted := make(map[string][]string)
	for _, filter := range filters {
		key, value, given := strings.Cut(filter, "=")
		if _, known := matches(api.NetworkDetail{}, key, value); !known || !given || value == "" {
			return nil, fmt.Errorf("--filter %q; expected name=, id=, driver=, scope=, dangling=true|false or label=, with a value", filter)
		}
		wanted[key] = append(wanted[key], value)
	}
	return func(n api.NetworkDetail) bool {
		for key, values := range wanted {
			found := 0
			for _, value := range values {
				if ok, _ := matches(n, key, value); ok {
					found++
				}
			}
			if found == 0 || key == "label" && found < len(values) {
				return false
			}
		}
		return true
	}, nil
}

// matches says whether a network has this value of a key of a filter, and whether there is such a key.
func matches(n api.NetworkDetail, key, value string) (ok, known bool) {
	switch key {
	case "name":
		return strings.Contains(n.Name, value), true
	case "id":
		return strings.HasPrefix(n.ID, value), true
	case "driver":
		return n.Driver == value, true
	case "scope":
		return n.Scope == value, true
	case "dangling":
		return strconv.FormatBool(len(n.Peers) == 0) == value, value == "true" || value == "false"
	case "label":
		label, want, given := strings.Cut(value, "=")
		have, ok := n.Labels[label]
		return ok && (!given || have == want), true
	}
	return false, false
}
