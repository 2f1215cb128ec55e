package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

// apiPort is where a manager is reached if no port is named.
const apiPort = "7373"

func newInit() *cobra.Command {
	var q question
	var r api.InitRequest
	var pools []string
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a cluster, with this node as its first manager",
		Long: `Make a cluster, with this node as its first manager: a certificate authority, this node's certificate, the keys of gossip,
and the network "ingress". It prints the commands with which other nodes join; weft token show prints them again.

Networks that are created without --subnet get one of the length --default-addr-pool-mask-length out of a --default-addr-pool,
which overlaps neither another network nor any route that any node has.`,
		Example: `  weft init
  weft init --name a --default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 26`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, text := range pools {
				p, err := parseSubnet(text)
				if err != nil {
					return usageError{fmt.Errorf("--default-addr-pool %w", err)}
				}
				r.Pools = append(r.Pools, p)
			}
			tokens, err := q.client().Init(c.Context(), r)
			if err != nil {
				return err
			}
			if q.json {
				return q.show(c, tokens, nil)
			}
			fmt.Fprintf(c.OutOrStdout(), "The cluster is made; this node is its first manager.\n\n")
			sayJoin(c.OutOrStdout(), "worker", tokens.Worker, tokens.Remote)
			sayJoin(c.OutOrStdout(), "manager", tokens.Manager, tokens.Remote)
			return nil
		},
	}
	q.flags(c)
	f := c.Flags()
	f.StringVar(&r.Name, "name", "", "this node's `name` in the cluster (default: its host name)")
	f.StringArrayVar(&pools, "default-addr-pool", nil, "a `range` that networks get their subnets from; may be repeated (default 10.0.0.0/8)")
	f.IntVar(&r.PoolSize, "default-addr-pool-mask-length", 0, "prefix `length` of those subnets (default 24)")
	return c
}

// sayJoin prints how a node joins.
func sayJoin(w io.Writer, role, token string, remote netip.AddrPort) {
	fmt.Fprintf(w, "To add a %s to this cluster, run on the node that shall join:\n\n    weft join --token %s %s\n\n", role, token, remote)
}

func newJoin() *cobra.Command {
	var q question
	var r api.JoinRequest
	var file string
	c := &cobra.Command{
		Use:   "join (--token TOKEN | --token-file FILE) HOST[:PORT]",
		Short: "Join this node to a cluster, as a worker or as a manager",
		Long: `Join this node to the cluster that the manager at HOST belongs to. The token says whether as a worker or as a manager, and
carries the digest of the cluster's certificate authority: a host that does not prove to belong to it is refused. The token's
secret is not sent, but proved. PORT is 7373 if it is left out. If it fails the node is what it was before.

All users of a host can see the arguments of its processes while they run: --token-file keeps the token from them.`,
		Example: `  weft join --token WFTKN-1-... 192.0.2.1:7373
  weft join --token WFTKN-1-... --name b manager.example.org
  ssh manager weft token show -q worker | weft join --token-file - 192.0.2.1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			switch {
			case r.Token == "" && file == "":
				return usageError{errors.New("--token and --token-file are missing; expected one of them: weft token show, on a manager, prints the token")}
			case r.Token != "" && file != "":
				return usageError{errors.New("--token beside --token-file; expected one of them")}
			}
			if r.Remote, err = remote(args[0]); err != nil {
				return usageError{err}
			}
			if file != "" {
				if r.Token, err = tokenIn(c, file); err != nil {
					return err
				}
			}
			m, err := q.client().Join(c.Context(), r)
			if err != nil {
				return err
			}
			if q.json {
				return q.show(c, m, nil)
			}
			fmt.Fprintf(c.OutOrStdout(), "This node has joined the cluster as a %s. Its name is %s.\n", m.Role, m.Name)
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	q.flags(c)
	c.Flags().StringVar(&r.Token, "token", "", "the `token`, as weft init and weft token show print it")
	c.Flags().StringVar(&file, "token-file", "", "a `file` that holds the token alone; - is standard input")
	c.Flags().StringVar(&r.Name, "name", "", "this node's `name` in the cluster (default: its host name)")
	return c
}

// tokenIn reads the token that a file holds.
func tokenIn(c *cobra.Command, path string) (string, error) {
	b, err := readAll(c, path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	words := strings.Fields(string(b))
	if len(words) != 1 {
		return "", fmt.Errorf("%s has %d words; expected a token alone, as weft token show -q worker prints it", path, len(words))
	}
	return words[0], nil
}

// remote completes the address of a manager.
func remote(s string) (string, error) {
	fault := fmt.Errorf("manager %q; expected HOST or HOST:PORT, such as 192.0.2.1:7373 or [2001:db8::1]:7373", s)
	if addr, err := netip.ParseAddr(s); err == nil {
		return net.JoinHostPort(addr.String(), apiPort), nil
	}
	if s == "" || strings.ContainsAny(s, "/ ") {
		return "", fault
	}
	if !strings.Contains(s, ":") {
		return net.JoinHostPort(s, apiPort), nil
	}
	host, port, err := net.SplitHostPort(s)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || portErr != nil || n == 0 {
		return "", fault
	}
	return s, nil
}

func newLeave() *cobra.Command {
	var q question
	var r api.LeaveRequest
	c := &cobra.Command{
		Use:   "leave",
		Short: "Take this node out of its cluster, and its containers off its networks",
		Long: `Take this node out of its cluster. At once, and without asking back:

  - every container of this node loses its interfaces on the cluster's networks, but goes on running;
  - the node's addresses become free for others, and its bridge networks are removed;
  - its certificate is refused by all others from now on, and it forgets its key, its certificate and the cluster's state.

To come back it joins again, with a token, as a new node. A manager hands its part over first; the last manager leaves only
with --force, and the cluster ends with it. Take a backup before: weft cluster backup FILE. With --force the node leaves also
when no manager can be told; the others then see a node that is down until weft node rm.`,
		Example: "  weft leave\n  weft leave --force",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := q.client().Leave(c.Context(), r); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "This node has left its cluster.")
			return nil
		},
	}
	socketFlag(c, &q.socket)
	c.Flags().BoolVarP(&r.Force, "force", "f", false, "leave also as the last manager, and when no manager can be told")
	return c
}

func newToken() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Show or replace the tokens with which nodes join"}
	c.AddCommand(newTokenShow(), newTokenRotate())
	return c
}

func newTokenShow() *cobra.Command {
	return tokenCommand(&cobra.Command{
		Use:     "show [worker|manager]",
		Short:   "Print how nodes join, with the tokens",
		Long:    "Print the commands with which nodes join, as a worker and as a manager, or one of them. It takes a manager.",
		Example: "  weft token show\n  weft token show worker --quiet",
		Args:    cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
	}, func(c *cobra.Command, client *api.Client, _ string) (api.JoinTokens, error) {
		return client.Tokens(c.Context())
	})
}

func newTokenRotate() *cobra.Command {
	return tokenCommand(&cobra.Command{
		Use:   "rotate worker|manager",
		Short: "Replace a token; the old one is void at once",
		Long: `Replace the token with which workers, or managers, join, and print the new one. Nobody joins by the old one any more. Nodes
that are members already are not affected.`,
		Example: "  weft token rotate worker",
		Args:    cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
	}, func(c *cobra.Command, client *api.Client, role string) (api.JoinTokens, error) {
		return client.RotateToken(c.Context(), role)
	})
}

// tokenCommand completes a command that prints tokens: all, or that of the role which is its argument.
func tokenCommand(c *cobra.Command, get func(c *cobra.Command, client *api.Client, role string) (api.JoinTokens, error)) *cobra.Command {
	var q question
	var quiet bool
	c.ValidArgs = []string{"worker", "manager"}
	c.RunE = func(c *cobra.Command, args []string) error {
		role := ""
		if len(args) > 0 {
			role = args[0]
		}
		tokens, err := get(c, q.client(), role)
		if err != nil {
			return err
		}
		switch role {
		case "worker":
			tokens.Manager = ""
		case "manager":
			tokens.Worker = ""
		}
		if q.json {
			return q.show(c, tokens, nil)
		}
		for _, t := range []struct{ role, token string }{{"worker", tokens.Worker}, {"manager", tokens.Manager}} {
			switch {
			case t.token == "":
			case quiet:
				fmt.Fprintln(c.OutOrStdout(), t.token)
			default:
				sayJoin(c.OutOrStdout(), t.role, t.token, tokens.Remote)
			}
		}
		return nil
	}
	q.flags(c)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print tokens only")
	return c
}
