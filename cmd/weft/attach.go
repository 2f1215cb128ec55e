package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/engine/run/etc"
)

func newAttach() *cobra.Command {
	var q question
	var o attachOptions
	c := &cobra.Command{
		Use:   "attach --network NET[:ip=ADDRESS,alias=NAME,...]... (--pid PID | --netns PATH | --bridge NAME)",
		Short: "Attach anything that has a network namespace to networks",
		Long: `Attach a container that weft did not make to networks: by the PID of a process in its network namespace, by the namespace's
path, or by a Linux bridge of this host that holds it. It is attached to all of the networks or to none; when the command
returns, it can use them, and knows whom it can reach.

NET is a network's name, ID or the beginning of one. After a colon follow what the container wishes on that network: ip=
(once for each family), alias= (more than once if need be), mac= and ifname=. With a single --network the flags --ip, --alias
and --ifname say the same. The name, by which weft detach finds the container, is taken from the namespace if --name is left
out: pid-4711, or the last part of the path or the bridge's name.

So that the container finds others by name, its /etc/resolv.conf should name the gateway, and its /etc/hosts the container
itself. What to write there is shown; weft changes no file of a container that it did not make.

What is attached stays so when the agent ends; it ends with its namespace, or with weft detach.`,
		Example: `  weft attach --network web --pid 4711
  weft attach --network web:ip=10.0.1.9,alias=db --network back --netns /run/netns/c1 --name c1
  weft attach --network web --bridge br-legacy --ip 10.0.1.20
  weft attach --network web --pid 4711 --json | jq -r '.[0].resolv_conf' > resolv.conf`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := o.request()
			if err != nil {
				return usageError{err}
			}
			endpoints, err := q.client().Attach(c.Context(), r)
			if err != nil {
				return err
			}
			for _, e := range endpoints {
				if e.Warning != "" {
					fmt.Fprintf(c.ErrOrStderr(), "warning: %s on %s: %s\n", e.Name, e.Network, e.Warning)
				}
			}
			all := furnished(endpoints)
			return q.show(c, all, func(t *table) { showAttached(t, all) })
		},
	}
	q.flags(c)
	o.flags(c, &q.socket)
	return c
}

// attached is an endpoint, and what its container's files should say.
type attached struct {
	api.Endpoint
	ResolvConf string `json:"resolv_conf"`
	Hosts      string `json:"hosts"`
}

// furnished adds what is to be written; it is the same for all endpoints of the container.
func furnished(endpoints []api.Endpoint) []attached {
	var gateways [][]netip.Addr
	var own []netip.Addr
	all := make([]attached, len(endpoints))
	for _, e := range endpoints {
		gateways = append(gateways, e.Gateways)
		for _, a := range e.Addresses {
			own = append(own, a.Addr())
		}
	}
	host, _ := os.ReadFile("/etc/resolv.conf") // without one there are no domains to search
	for i, e := range endpoints {
		all[i] = attached{
			Endpoint:   e,
			ResolvConf: etc.Resolv{}.Text(etc.Server(gateways...), string(host)),
			Hosts:      etc.Hosts(etc.Names(e.Hostname, e.Name), own, nil),
		}
	}
	return all
}

func showAttached(t *table, all []attached) {
	t.row("NAME", "NETWORK", "INTERFACE", "ADDRESSES", "GATEWAYS", "MAC")
	for _, e := range all {
		t.row(e.Name, e.Network, e.Interface, joined(e.Addresses), joined(e.Gateways), e.MAC)
	}
	if len(all) == 0 {
		return
	}
	for _, f := range []struct{ path, text string }{{"/etc/resolv.conf", all[0].ResolvConf}, {"/etc/hosts", all[0].Hosts}} {
		t.section(fmt.Sprintf("For %s of %s:", f.path, all[0].Name))
		fmt.Fprint(t.w, f.text)
	}
}

// attachOptions are the flags of weft attach.
type attachOptions struct {
	networks, ips, aliases []string
	expose                 []string
	ifname                 string
	what                   api.AttachRequest
}

func (o *attachOptions) flags(c *cobra.Command, socket *string) {
	f := c.Flags()
	f.StringArrayVar(&o.networks, "network", nil, "a `network`, with wishes after a colon; may be repeated")
	f.IntVar(&o.what.PID, "pid", 0, "the network namespace of this `process`")
	f.StringVar(&o.what.NetNS, "netns", "", "the network namespace at this `path`")
	f.StringVar(&o.what.Bridge, "bridge", "", "this Linux `bridge`, and what is on it")
	f.StringVar(&o.what.Name, "name", "", "the container's `name`, unique on this node")
	f.StringVar(&o.what.Hostname, "hostname", "", "the container's host `name`")
	f.StringVar(&o.what.Service, "service", "", "the `service` that the container is part of")
	f.StringArrayVar(&o.ips, "ip", nil, "the `address` that it shall have; may be repeated, once for each family")
	f.StringArrayVar(&o.aliases, "alias", nil, "another `name` on the network; may be repeated")
	f.StringVar(&o.ifname, "ifname", "", "`name` of the interface in the container (default: eth0, eth1, ...)")
	exposeFlag(c, &o.expose)
	complete(c, "network", ask(socket, networkNames))
	for _, name := range []string{"pid", "bridge", "name", "hostname", "service", "ip", "alias", "ifname"} {
		complete(c, name, cobra.NoFileCompletions)
	}
}

// request makes the API's request of the flags.
func (o *attachOptions) request() (api.AttachRequest, error) {
	r := o.what
	if len(o.networks) == 0 {
		return r, errors.New("--network is missing; name a network, see weft network ls")
	}
	for _, text := range o.networks {
		a, err := parseAttachment(text)
		if err != nil {
			return r, fmt.Errorf("--%w", err)
		}
		r.Networks = append(r.Networks, a)
	}
	if err := o.wishes(&r.Networks[0]); err != nil {
		return r, err
	}
	var err error
	if r.Ports, err = endpoint.ParsePorts(o.expose); err != nil {
		return r, fmt.Errorf("--expose: %w", err)
	}
	return r, o.place(&r)
}

// wishes adds what flags of their own say about the only network.
func (o *attachOptions) wishes(a *api.Attachment) error {
	if len(o.ips)+len(o.aliases) == 0 && o.ifname == "" {
		return nil
	}
	if len(o.networks) > 1 {
		return fmt.Errorf("--ip, --alias and --ifname are of one network, and there are %d; expected --network NET:ip=ADDRESS,alias=NAME,ifname=NAME", len(o.networks))
	}
	for _, wish := range []struct {
		key    string
		values []string
	}{{"ip", o.ips}, {"alias", o.aliases}} {
		for _, value := range wish.values {
			if err := setAttachment(a, wish.key, value); err != nil {
				return fmt.Errorf("--%w", err)
			}
		}
	}
	if o.ifname == "" {
		return nil
	}
	if err := setAttachment(a, "ifname", o.ifname); err != nil {
		return fmt.Errorf("--%w", err)
	}
	return nil
}

// place checks where the interfaces go, and names the container after that if it has no name.
func (o *attachOptions) place(r *api.AttachRequest) (err error) {
	var names []string
	if r.PID != 0 {
		names = append(names, fmt.Sprintf("pid-%d", r.PID))
	}
	if r.NetNS != "" {
		if r.NetNS, err = filepath.Abs(r.NetNS); err != nil { // the agent has a directory of its own
			return err
		}
		names = append(names, filepath.Base(r.NetNS))
	}
	if r.Bridge != "" {
		names = append(names, r.Bridge)
	}
	if len(names) != 1 {
		return fmt.Errorf("%d of --pid, --netns and --bridge are given; expected one", len(names))
	}
	if r.PID < 0 {
		return fmt.Errorf("--pid %d; expected the number of a process", r.PID)
	}
	if r.Bridge != "" && !deviceName(r.Bridge) {
		return fmt.Errorf("--bridge %q; expected the name of a Linux bridge", r.Bridge)
	}
	if r.Name == "" {
		r.Name = names[0]
	}
	return nil
}

func newDetach() *cobra.Command {
	var q question
	var network string
	c := &cobra.Command{
		Use:   "detach NAME...",
		Short: "Detach containers of this node from their networks",
		Long: `Detach containers of this node, by name, from all their networks or from one: their interfaces vanish, and their addresses
become free. The containers themselves go on running.`,
		Example:           "  weft detach c1\n  weft detach c1 --network web",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: ask(&q.socket, containerNames),
		RunE: func(c *cobra.Command, args []string) error {
			return eachName(c, args, func(name string) error { return q.client().DetachFrom(c.Context(), name, network) })
		},
	}
	socketFlag(c, &q.socket)
	c.Flags().StringVar(&network, "network", "", "only from this `network`")
	complete(c, "network", ask(&q.socket, networkNames))
	return c
}
