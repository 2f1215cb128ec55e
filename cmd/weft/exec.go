package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/engine/run"
)

func newExec() *cobra.Command {
	var o run.ExecOptions
	var data string
	var env []string
	c := &cobra.Command{
		Use:   "exec NAME [flags] -- COMMAND [ARG]...",
		Short: "Run a command in a container that runs",
		Long: `Run a command in the network, mount and UTS namespaces of a container that weft run has made on this node, with its
environment. Streams, terminal, signals and exit status are the command's; 125 means that weft failed, 126 that the command
cannot be run, 127 that there is no such command. It ends with the container at the latest.`,
		Example: `  weft exec c1 -- ip addr
  weft exec c1 -e LANG=C -w /srv -- sh
  weft exec c1 ping -c 3 10.0.1.3`,
		Args:              cobra.MinimumNArgs(1),
		Annotations:       withOwnStatus,
		ValidArgsFunction: first(known(&data, func(k *run.Container) bool { return k.State == run.Running })),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if err := c.Flags().Parse(args[1:]); err != nil { // those after the name
				return usageError{err}
			}
			o.Command = c.Flags().Args()
			if len(o.Command) == 0 {
				return usageError{errors.New("no command; name one after --")}
			}
			var err error
			if o.Env, err = run.Setting(env, os.LookupEnv); err != nil {
				return usageError{fmt.Errorf("--env: %w", err)}
			}
			if term, ok := os.LookupEnv("TERM"); ok { // the terminal is this one
				o.Env = run.Environment([]string{"TERM=" + term}, o.Env)
			}
			store, err := enter(data)
			if err != nil {
				return err
			}
			status, err := store.Exec(name, o)
			return exitStatus{err, status}
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the command is the command's
	f.StringArrayVarP(&env, "env", "e", nil, "set `NAME=VALUE` in its environment, which otherwise is the container's")
	f.StringVarP(&o.Workdir, "workdir", "w", "", "its working `directory` (default: the container's)")
	f.StringVarP(&o.User, "user", "u", "", "run it as `USER[:GROUP]`, names or numbers (default: root, or whoever runs weft)")
	dataDirFlag(c, &data)
	return c
}

// known completes a word to the names of this node's containers that are wanted.
func known(data *string, wanted func(*run.Container) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		store, err := stored(*data)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := store.List()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var list []string
		for _, k := range all {
			if wanted(k) {
				list = append(list, k.Name)
			}
		}
		return remaining(list, args, begun), cobra.ShellCompDirectiveNoFileComp
	}
}

// remaining returns the words that begin so, without those that are there already.
func remaining(all, there []string, begun string) []string {
	return slices.DeleteFunc(all, func(w string) bool { return !strings.HasPrefix(w, begun) || slices.Contains(there, w) })
}
