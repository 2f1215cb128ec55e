package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/gossip"
)

func newBenchGossip() *cobra.Command {
	opt := gossip.Default()
	opt.Commit = commit
	var (
		asJSON, realTime bool
		out              string
	)
	c := &cobra.Command{
		Use:   "gossip",
		Short: "Measure how fast gossip converges, from 3 to 300 nodes, and what it costs",
		Long: `Measure how fast gossip converges, and what it costs: clusters of many nodes in one process, on a network in memory.

Time is virtual: what is measured is the protocol with the link's latency, jitter and loss, not this machine. With --real it
is the clock's, and a cluster that is too large for the processors says so.

A put's time is from the write at one node until all nodes have it that took part then and still do.`,
		Example: `  weft bench gossip
  weft bench gossip --nodes 25 --loss 0.01 --json
  weft bench gossip --nodes 3,10 --churn 30s --real`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if realTime {
				opt.Clock = gossip.Real
			}
			if err := opt.Check(); err != nil {
				return usageError{err}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer stop()
			results, err := gossip.Run(ctx, opt, func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) })
			if results == nil || len(results.Sizes) == 0 {
				return err
			}
			text, jsonErr := json.MarshalIndent(results, "", "  ")
			if jsonErr != nil {
				return errors.Join(err, jsonErr)
			}
			text = append(text, '\n')
			if out != "" {
				err = errors.Join(err, writeNew(out, text))
			}
			if asJSON {
				_, printErr := cmd.OutOrStdout().Write(text)
				return errors.Join(err, printErr)
			}
			return errors.Join(err, results.Print(cmd.OutOrStdout()))
		},
	}
	f := c.Flags()
	f.IntSliceVar(&opt.Nodes, "nodes", opt.Nodes, "sizes of the clusters")
	f.IntVar(&opt.Records, "records", opt.Records, "records that each node has")
	f.IntVar(&opt.Puts, "puts", opt.Puts, "puts to measure while nothing else happens")
	f.DurationVar(&opt.Idle, "idle", opt.Idle, "how long to count the traffic of an idle cluster")
	f.DurationVar(&opt.Churn, "churn", opt.Churn, "how long nodes join, leave and crash (0: not at all)")
	f.DurationVar(&opt.Every, "every", opt.Every, "time between two joins, leaves or crashes")
	f.Float64Var(&opt.Rate, "rate", opt.Rate, "puts per second meanwhile")
	f.DurationVar(&opt.Limit, "limit", opt.Limit, "time after which a put counts as missed")
	f.DurationVar(&opt.Link.Latency, "latency", opt.Link.Latency, "latency of the network, one way")
	f.DurationVar(&opt.Link.Jitter, "jitter", opt.Link.Jitter, "how much more it may be")
	f.Float64Var(&opt.Link.Loss, "loss", opt.Link.Loss, "share of the packets that the network loses, such as 0.01")
	f.Uint64Var(&opt.Seed, "seed", opt.Seed, "of what is random in the network and in the churn")
	f.BoolVar(&realTime, "real", false, "use the real clock")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&out, "out", "", "write JSON to this file too")
	c.AddCommand(newBenchGossipCluster())
	return c
}

// newBenchGossipCluster measures one cluster for the command above; virtual time takes a process of its own.
func newBenchGossipCluster() *cobra.Command {
	return &cobra.Command{
		Use:    "cluster",
		Short:  "Measure one cluster, driven over standard input and output",
		Hidden: true,
		Args:   cobra.NoArgs,
		Run:    func(cmd *cobra.Command, _ []string) { gossip.Serve(cmd.InOrStdin(), cmd.OutOrStdout()) },
	}
}

// writeNew writes a file whole or not at all.
func writeNew(name string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(tmp.Name()))
	}
	return err
}
