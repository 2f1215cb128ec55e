package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

// patience is how long a shell's completion waits for the agent.
const patience = time.Second

// source says what a word may be, by asking an agent.
type source func(ctx context.Context, c *api.Client) ([]string, error)

// complete makes the values of a flag known to the shells' completion.
func complete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	_ = c.RegisterFlagCompletionFunc(flag, f) // the flag is there, and has no other
}

// words completes to any of these.
func words(list ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// ask completes a word to what the agent at *socket knows, without the words that are there already. An agent that does not
// answer at once completes nothing.
func ask(socket *string, s source) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx := c.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		all, err := s(ctx, api.NewClient(*socket))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all = slices.DeleteFunc(all, func(w string) bool { return !strings.HasPrefix(w, begun) || slices.Contains(args, w) })
		slices.Sort(all)
		return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
	}
}

// first completes the first argument alone.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(c, args, begun)
	}
}

// networkNames are those of the cluster, or of the file of a node with --static.
func networkNames(ctx context.Context, c *api.Client) ([]string, error) {
	if all, err := c.Segments(ctx); err == nil {
		return names(all, func(n api.NetworkDetail) string { return n.Name }), nil
	}
	all, err := c.Networks(ctx)
	return names(all, func(n api.Network) string { return n.Name }), err
}

func nodeNames(ctx context.Context, c *api.Client) ([]string, error) {
	all, err := c.Members(ctx)
	return names(all, func(m api.Member) string { return m.Name }), err
}

// containerNames are those of this node.
func containerNames(ctx context.Context, c *api.Client) ([]string, error) {
	all, err := c.Endpoints(ctx, "")
	here := slices.DeleteFunc(all, func(e api.Endpoint) bool { return !e.Local })
	return names(here, func(e api.Endpoint) string { return e.Name }), err
}

// endpointNames are those of all nodes.
func endpointNames(ctx context.Context, c *api.Client) ([]string, error) {
	all, err := c.Endpoints(ctx, "")
	return names(all, func(e api.Endpoint) string { return e.Name }), err
}

func portNames(ctx context.Context, c *api.Client) ([]string, error) {
	all, err := c.Ports(ctx, "")
	return names(all, func(p api.PortStatus) string { return p.Name }), err
}

func names[T any](all []T, name func(T) string) []string {
	list := make([]string, len(all))
	for i, v := range all {
		list[i] = name(v)
	}
	return list
}
