package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench"
	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/bench/proxy"
	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/topology"
	"github.com/weftnet/weft/internal/lab"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure weft side by side with the kernel's networking",
		Long: `Measure what weft costs on this machine: its overlay against the kernel's VXLAN, its way out of the overlay against the
kernel's masquerading and others', its resolver against dnsmasq. The containers are made for it.

Everything happens in namespaces of its own and vanishes with the command. It takes root, or user namespaces.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newBenchList(), newBenchRun(), newBenchCompare(), newBenchLoad(), newBenchProxy(), newBenchGossip())
	return c
}

func newBenchList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List paths and scenarios, and why this host cannot run some of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := benchNamespaces(); err != nil {
				return err
			}
			type row struct {
				Name    string           `json:"name"`
				Groups  []topology.Group `json:"groups"`
				About   string           `json:"about"`
				Missing string           `json:"missing,omitempty"`
			}
			var list struct {
				Paths     []row `json:"paths"`
				Scenarios []row `json:"scenarios"`
			}
			for _, p := range topology.Paths() {
				r := row{Name: p.Name, Groups: []topology.Group{p.Group}, About: p.About}
				if err := p.Missing(); err != nil {
					r.Missing = err.Error()
				}
				list.Paths = append(list.Paths, r)
			}
			for _, s := range bench.Scenarios() {
				list.Scenarios = append(list.Scenarios, row{Name: s.Name, Groups: s.Groups, About: s.About})
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(list)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "PATH\tGROUP\tWHAT IT IS\tTHIS HOST")
			for _, r := range list.Paths {
				host := "can run it"
				if r.Missing != "" {
					host = "cannot: " + r.Missing
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Name, groupNames(r.Groups), r.About, host)
			}
			fmt.Fprintln(t, "\t\t\t\nSCENARIO\tFOR\tWHAT IT MEASURES\t")
			for _, r := range list.Scenarios {
				fmt.Fprintf(t, "%s\t%s\t%s\t\n", r.Name, groupNames(r.Groups), r.About)
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newBenchRun() *cobra.Command {
	opt := bench.Default()
	opt.Commit = commit
	c := &cobra.Command{
		Use:   "run",
		Short: "Run scenarios on paths, interleaved, and write a report",
		Long: `Run scenarios on paths and write results.json and report.html into a directory.

In each run every path has its turn with every scenario that it can carry, and the order of the paths rotates from run to
run. Paths are compared within their group: overlay, egress or names, whose name stands for all its paths. Ratios are taken
run by run against ` + references() + `. With --offload off the
underlay's devices neither segment nor checksum, which is what a NIC without tunnel offload sees.`,
		Example: `  weft bench run
  weft bench run --paths egress --scenarios tcp1,tcp1-reverse,crr,udp1400
  weft bench run --scenarios dns
  weft bench run --paths kernel-vxlan,weft --scenarios tcp1,rr --runs 3 --duration 1s --out /tmp/quick`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opt.Check(); err != nil {
				return usageError{err}
			}
			if err := benchNamespaces(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer stop()
			results, err := bench.Run(ctx, opt, cmd.ErrOrStderr())
			if results == nil || len(results.Summary) == 0 {
				return err
			}
			names, writeErr := results.Write(opt.Out)
			if writeErr == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s\n", strings.Join(names, " and "))
			}
			return errors.Join(err, writeErr, results.Print(cmd.OutOrStdout()))
		},
	}
	f := c.Flags()
	f.StringSliceVar(&opt.Paths, "paths", nil, "paths to compare, or groups of them (default: all of the overlay, or of the group of --scenarios, that this host can run; see weft bench list)")
	f.StringSliceVar(&opt.Scenarios, "scenarios", nil, "scenarios to run (default: all that the paths can carry)")
	f.IntVar(&opt.Runs, "runs", opt.Runs, "runs of each scenario on each path")
	f.DurationVar(&opt.Duration, "duration", opt.Duration, "measured time of each run, after a warm-up")
	f.StringVar(&opt.Offload, "offload", opt.Offload, "the underlay's segmentation and checksum offloads: on or off")
	f.StringVar(&opt.Generator, "generator", opt.Generator, "what makes bulk and datagram loads: weft or iperf3")
	f.StringVar(&opt.Congestion, "congestion", "", "TCP congestion control, such as cubic (default: the host's own)")
	f.BoolVar(&opt.Pin, "pin", false, "give each of the two hosts, with its containers, one processor for itself")
	f.StringVar(&opt.Out, "out", opt.Out, "directory for results.json and report.html")
	return c
}

// references lists the path that each group is held against.
func references() string {
	var list []string
	for _, g := range topology.Groups() {
		list = append(list, fmt.Sprintf("%s (%s)", g.Reference(), g))
	}
	return strings.Join(list, ", ")
}

func groupNames(groups []topology.Group) string {
	var list []string
	for _, g := range groups {
		list = append(list, string(g))
	}
	return strings.Join(list, ", ")
}

func newBenchCompare() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "compare A B",
		Short: "Compare two results, and say which changes are more than noise",
		Long: `Compare two results.json, or directories that hold one: for each scenario, path and metric the medians with their ranges,
the change from A to B, and whether the ranges overlap. Where they do the change may be noise.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := report.Read(args[0])
			if err != nil {
				return err
			}
			b, err := report.Read(args[1])
			if err != nil {
				return err
			}
			changes, differences := report.Compare(a, b), report.Differences(a, b)
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(struct {
					Differences []string        `json:"differences"`
					Changes     []report.Change `json:"changes"`
				}{differences, changes})
			}
			for _, d := range differences {
				fmt.Fprintf(cmd.OutOrStdout(), "not the same: %s\n", d)
			}
			return report.PrintChanges(cmd.OutOrStdout(), changes)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// newBenchLoad is one end of a load; the bench starts it inside containers.
func newBenchLoad() *cobra.Command {
	return &cobra.Command{
		Use:       "load server|client",
		Short:     "Be one end of a load, driven over standard input and output",
		Hidden:    true,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"server", "client"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return load.Serve(cmd.InOrStdin(), cmd.OutOrStdout(), args[0] == "server")
		},
	}
}

// newBenchProxy is a path of the bench, which starts it on a host of its own.
func newBenchProxy() *cobra.Command {
	return &cobra.Command{
		Use:    "proxy AT TO",
		Short:  "Carry TCP and UDP that come to one address and port on to another",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			return proxy.Main(ctx, args[0], args[1], cmd.ErrOrStderr())
		},
	}
}

// benchNamespaces gives an ordinary user the namespaces that the bench takes, by running the program again inside them.
func benchNamespaces() error {
	done, code, err := lab.Reexec()
	if err != nil {
		return err
	}
	if done {
		os.Exit(code)
	}
	return nil
}
