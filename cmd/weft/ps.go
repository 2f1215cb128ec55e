package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/engine/run"
	"github.com/weftnet/weft/engine/run/inside"
)

func newPS() *cobra.Command {
	var q question
	var data string
	var all bool
	c := &cobra.Command{
		Use:   "ps",
		Short: "List the containers that weft run has made on this node",
		Long: `List the containers that weft run has made on this node: those that run, with -a also those that have ended. It needs no
agent.

Dead is a container whose supervisor was killed, or that was running when the host went down: how its command ended is not
known, and weft rm -f ends what may be left of it.`,
		Example: "  weft ps\n  weft ps -a --json | jq -r '.[].name'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := stored(data)
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(k *run.Container) bool { return k.State == run.Exited })
			}
			if list == nil {
				list = []*run.Container{} // [] in JSON, as the next
			}
			for _, k := range list {
				if k.Volumes == nil {
					k.Volumes = []inside.Volume{}
				}
				if k.Endpoints == nil {
					k.Endpoints = []run.Endpoint{}
				}
			}
			return q.show(c, list, func(t *table) { showContainers(t, list, time.Now()) })
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also containers that have ended")
	c.Flags().BoolVar(&q.json, "json", false, "print what is on record as JSON")
	dataDirFlag(c, &data)
	return c
}

func showContainers(t *table, list []*run.Container, now time.Time) {
	t.row("NAME", "COMMAND", "STATUS", "PID", "NETWORKS", "ADDRESSES")
	for _, k := range list {
		pid := ""
		if k.State == run.Running {
			pid = strconv.Itoa(k.Process.PID)
		}
		var networks, addresses []string
		for _, e := range k.Endpoints {
			networks = append(networks, e.Network)
			for _, a := range e.Addresses {
				addresses = append(addresses, a.Addr().String())
			}
		}
		t.row(k.Name, short(strings.Join(k.Command, " ")), k.Summary(now), pid, strings.Join(networks, ","), strings.Join(addresses, ","))
	}
}

// short keeps a command in its column.
func short(s string) string {
	const most = 30
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return string(r)
}
