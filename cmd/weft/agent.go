package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent"
)

func newAgent() *cobra.Command {
	var o agent.Options
	var level string
	c := &cobra.Command{
		Use:   "agent --static FILE",
		Short: "Run this node: its switch, its tunnel and its containers' interfaces",
		Long: `Run this node in the foreground, as FILE describes it (docs/static.md), until SIGINT or SIGTERM.

SIGHUP makes it read FILE again. A file with faults changes nothing: they are logged, all of them, each with its line.
It takes root, or a user namespace whose containers it may enter (podman unshare weft agent ...).`,
		Example: `  weft agent --static /etc/weft/node-a.yaml
  weft agent --static node-a.yaml --socket /tmp/a.sock --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Static == "" {
				return usageError{errors.New("--static is missing; name the file that describes this node (docs/static.md)")}
			}
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return usageError{fmt.Errorf("--log-level %q; expected debug, info, warn or error", level)}
			}
			o.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: l}))
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			o.Reload, o.Version = reload, version
			return agent.Run(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Static, "static", "", "the `file` that describes this node and its networks")
	f.StringVar(&level, "log-level", "info", "what is logged: debug, info, warn or error")
	socketFlag(c, &o.Socket)
	return c
}
