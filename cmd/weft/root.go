package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "Overlay networks for containers, in user space",
		Long: `weft is an overlay network in user space, with the manners of Docker Swarm: nodes that join a cluster by a token, networks
made once and present everywhere, containers attached with one command. It needs /dev/net/tun and nothing else of the kernel.

An agent on each node does the work (weft agent); the other commands ask it over its unix socket. That is $WEFT_SOCKET if it
is set, otherwise /run/weft.sock for root and $XDG_RUNTIME_DIR/weft.sock for others.`,
		Example: `  weft agent                                      # on each node, as root or as yourself
  weft init                                       # on the first; prints what to run on the others
  weft network create web
  weft run --network web --name c1 -- sleep 1h    # on any node
  weft demo                                       # all that on this machine, removed after`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	for _, g := range groups() {
		group := &cobra.Group{ID: g.title, Title: g.title + ":"}
		root.AddGroup(group)
		for _, c := range g.commands {
			c.GroupID = group.ID
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID(aboutGroup)
	root.CompletionOptions.DisableDefaultCmd = true // ours takes one argument, as the other commands do
	tellUsage(root)
	return root
}

const aboutGroup = "About weft itself"

type commandGroup struct {
	title    string
	commands []*cobra.Command
}

// groups are the commands in the order in which help shows them.
func groups() []commandGroup {
	return []commandGroup{
		{"The cluster", []*cobra.Command{newInit(), newJoin(), newLeave(), newToken(), newNode(), newCluster()}},
		{"Networks", []*cobra.Command{newNetwork(), newAttach(), newDetach(), newEndpoint(), newIPAM(), newDNS(), newEgress()}},
		{"Containers", []*cobra.Command{newRun(), newExec(), newPS(), newLogs(), newStop(), newRemove()}},
		{"This node", []*cobra.Command{newAgent(), newStatus(), newDoctor(), newFDB(), newPort(), newStats(), newCapture()}},
		{aboutGroup, []*cobra.Command{newDemo(), newBench(), newCompletion(), newVersion()}},
	}
}

// tellUsage makes wrong flags and arguments of c, and of all commands below it, usage errors.
func tellUsage(c *cobra.Command) {
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	if !c.Runnable() { // a group: cobra would print help and succeed, whatever follows
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			hint := ""
			c.SuggestionsMinimumDistance = 2 // typing errors, as cobra itself allows
			if s := c.SuggestionsFor(args[0]); len(s) > 0 {
				hint = "; did you mean " + strings.Join(s, " or ") + "?"
			}
			return usageError{fmt.Errorf("%s has no command %q%s", c.CommandPath(), args[0], hint)}
		}
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) == nil {
				return nil
			}
			return usageError{fmt.Errorf("%s; expected %s", given(args), strings.TrimSuffix(c.UseLine(), " [flags]"))}
		}
	}
	for _, sub := range c.Commands() {
		tellUsage(sub)
	}
}

// given says what arguments there are.
func given(args []string) string {
	switch len(args) {
	case 0:
		return "no argument"
	case 1:
		return fmt.Sprintf("argument %q", args[0])
	}
	return fmt.Sprintf("arguments %q", args)
}

// defaultSocket is where the agent of this user listens. Root's is a service of the system: it does not listen in a session's directory.
func defaultSocket() string {
	if path := os.Getenv("WEFT_SOCKET"); path != "" {
		return path
	}
	if systemRoot() {
		return systemSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "weft.sock")
	}
	return systemSocket
}

// systemSocket is where root's agent listens.
const systemSocket = "/run/weft.sock"

// ofRoot is where root's services keep their data.
const ofRoot = "/var/lib"

// systemRoot reports whether this is the system's root. Root of a user namespace only (podman unshare, nsenter --user) is refused in
// ofRoot, and still is the user in all else.
func systemRoot() bool {
	return os.Geteuid() == 0 && !errors.Is(unix.Faccessat(unix.AT_FDCWD, ofRoot, unix.W_OK, unix.AT_EACCESS), unix.EACCES)
}

// defaultDataDir is where this user's node keeps what it must not forget.
func defaultDataDir() string {
	if dir := os.Getenv("WEFT_DATA_DIR"); dir != "" {
		return dir
	}
	if systemRoot() {
		return filepath.Join(ofRoot, "weft")
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "weft")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "" // a user without a home names a directory
	}
	return filepath.Join(home, ".local", "share", "weft")
}

func dataDirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "data-dir", defaultDataDir(), "the `directory` in which this node keeps what it must not forget")
	_ = c.MarkFlagDirname("data-dir") // the flag is there
}

// question is what all commands that ask the agent have in common.
type question struct {
	socket string
	json   bool
}

// flags adds them to a command.
func (q *question) flags(c *cobra.Command) {
	socketFlag(c, &q.socket)
	c.Flags().BoolVar(&q.json, "json", false, "print what the agent answers as JSON")
}

func socketFlag(c *cobra.Command, socket *string) {
	c.Flags().StringVar(socket, "socket", defaultSocket(), "`path` of the agent's socket")
}

func (q *question) client() *api.Client { return api.NewClient(q.socket) }

// show prints v as JSON if that was asked for, and otherwise as the table that fill writes.
func (q *question) show(c *cobra.Command, v any, fill func(t *table)) error {
	if q.json {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	t := &table{columned(c.OutOrStdout())}
	fill(t)
	return t.w.Flush()
}

// columned aligns what tabs part.
func columned(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// table prints rows in columns.
type table struct{ w *tabwriter.Writer }

// row prints one row; empty cells become a dash, so that columns stay where they are for other programs.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		s := fmt.Sprint(c)
		if s == "" {
			s = "-"
		}
		if i > 0 {
			s = "\t" + s
		}
		fmt.Fprint(t.w, s)
	}
	fmt.Fprintln(t.w)
}

// section prints an empty line and a title of its own, which sets no column's width.
func (t *table) section(title string) {
	_ = t.w.Flush() // the last Flush reports any error
	fmt.Fprintf(t.w, "\n%s\n", title)
	_ = t.w.Flush()
}

// joined prints a list in one cell.
func joined[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return strings.Join(words, ",")
}

// amount prints a number of bytes with a unit.
func amount(n uint64) string {
	const units = "KMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1000, 0
	for v >= 999.5 {
		v, u = v/1000, u+1
	}
	return fmt.Sprintf("%.3g %cB", v, units[u])
}
