package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/engine/run"
)

func newLogs() *cobra.Command {
	var data, tail string
	var o run.LogOptions
	c := &cobra.Command{
		Use:   "logs [-f] [-t] [--tail N] NAME",
		Short: "Show what a container in the background has written",
		Long: `Show what a container that weft run -d has made has written: its standard output on the standard output, and its standard
error on the standard error. The last 10 to 20 MiB are kept, until weft rm.`,
		Example:           "  weft logs c1\n  weft logs -f --tail 20 c1\n  weft logs -t c1 2>&1 | less",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(known(&data, func(k *run.Container) bool { return k.Detached })),
		RunE: func(c *cobra.Command, args []string) (err error) {
			o.Tail = -1
			if tail != "all" {
				if o.Tail, err = strconv.Atoi(tail); err != nil || o.Tail < 0 {
					return usageError{fmt.Errorf("--tail %q; expected a number of lines, or all", tail)}
				}
			}
			store, err := stored(data)
			if err != nil {
				return err
			}
			return store.Logs(c.Context(), args[0], o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on until the container ends")
	f.BoolVarP(&o.Stamps, "timestamps", "t", false, "show when each line came")
	f.StringVar(&tail, "tail", "all", "only the last `N` lines")
	dataDirFlag(c, &data)
	return c
}
