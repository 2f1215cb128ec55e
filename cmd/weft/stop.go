package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/engine/run"
)

func newStop() *cobra.Command {
	var data string
	var seconds int
	c := &cobra.Command{
		Use:   "stop [-t SECONDS] NAME...",
		Short: "Stop containers: SIGTERM, and SIGKILL for those that do not end",
		Long: `Send the commands of containers that weft run has made on this node SIGTERM, and SIGKILL to those that have not ended after
some seconds, and wait until they are detached. The containers stay known (weft ps -a) until weft rm. One that has ended
already is no error. The names of those that have been stopped are printed.`,
		Example:           "  weft stop c1\n  weft stop -t 1 c1 c2",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: known(&data, func(k *run.Container) bool { return k.State == run.Running }),
		RunE: func(c *cobra.Command, args []string) error {
			const most = 1 << 20 // twelve days; what is more cannot be meant
			if seconds < 0 || seconds > most {
				return usageError{fmt.Errorf("--time %d; expected seconds, from 0 to %d", seconds, most)}
			}
			store, err := enter(data)
			if err != nil {
				return err
			}
			return eachName(c, args, func(name string) error {
				return store.Stop(c.Context(), name, time.Duration(seconds)*time.Second)
			})
		},
	}
	c.Flags().IntVarP(&seconds, "time", "t", 10, "how many `seconds` a command has to end by itself")
	dataDirFlag(c, &data)
	return c
}

func newRemove() *cobra.Command {
	var data string
	var force bool
	c := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove containers that have ended",
		Long: `Remove containers that weft run has made on this node, with their logs: those that have ended, with -f also those that run,
whose processes are killed, and those whose supervisor is gone. The names of those that have been removed are printed.`,
		Example:           "  weft rm c1\n  weft rm -f c1 c2",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: known(&data, func(k *run.Container) bool { return force || k.State == run.Exited || k.State == run.Dead }),
		RunE: func(c *cobra.Command, args []string) error {
			store, err := enter(data)
			if err != nil {
				return err
			}
			return eachName(c, args, func(name string) error { return store.Remove(c.Context(), name, force) })
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also containers that run: kill their processes")
	dataDirFlag(c, &data)
	return c
}
