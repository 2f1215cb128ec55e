package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/engine/run"
	"github.com/weftnet/weft/engine/run/etc"
	"github.com/weftnet/weft/engine/run/inside"
	"github.com/weftnet/weft/engine/userns"
)

// withOwnStatus marks a command whose status is that of another program: as with Docker, 125 means that weft itself failed.
var withOwnStatus = map[string]string{failureStatus: fmt.Sprint(run.StatusFailed)}

// runFlags are those of weft run.
type runFlags struct {
	socket   string
	data     string
	networks []string
	volumes  []string
	env      []string
	expose   []string
	servers  []string
	hosts    []string
	ports    []dns.Port // of expose
	detach   bool
	o        run.Options
}

func newRun() *cobra.Command {
	var r runFlags
	c := &cobra.Command{
		Use:   "run --network NET[:ip=ADDRESS,alias=NAME,...]... [flags] -- COMMAND [ARG]...",
		Short: "Run a command as a container: in namespaces of its own, attached to networks",
		Long: `Run a command in network, mount and UTS namespaces of its own, attached to one or more networks before it starts.

There is no image: the container has the host's file system, with its own /etc/hosts, /etc/hostname and /etc/resolv.conf, and
volumes over it. It is no boundary against a hostile program. Streams, terminal, signals and exit status are the command's;
125 means that weft failed, 126 that the command cannot be run, 127 that there is no such command. When the command ends,
whatever else runs in the container is killed.

With -d the container runs in the background, under a supervisor that outlives the agent; weft logs shows its output. A
container that has ended stays known (weft ps -a) until weft rm, or with --rm only until its end.

An ordinary user is root in the container; further users take newuidmap and ranges in /etc/subuid and /etc/subgid.

Names are those of the networks: the containers', their aliases and services, host.weft.internal for this node, and through it
whatever the node can look up. /etc/resolv.conf names the first network's gateway for that, which answers for all of them. With
--dns it names those servers instead, and then names of containers are not known.

--network may come several times; the interfaces are eth0, eth1, ... in that order. After its name and a colon come, joined by
commas: ip=ADDRESS (once for each family), ip6=ADDRESS, alias=NAME (any number), mac=MAC, ifname=NAME.`,
		Example: `  weft run --network web --name c1 -- sleep 1h
  weft run --network web:ip=10.0.1.9,alias=db --network backup -d --rm -- postgres -D /srv/db
  weft run --network web -v ./site:/srv/www:ro -e PORT=80 -w /srv/www -u www-data -- ./serve
  weft run --network web --expose http=8080 --add-host build:host-gateway --name c2 -- ./serve`,
		Args:        cobra.ArbitraryArgs,
		Annotations: withOwnStatus,
		RunE: func(c *cobra.Command, args []string) error {
			r.o.Command = args
			return r.run(c)
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the command is the command's
	f.StringArrayVar(&r.networks, "network", nil, "attach it to this `network`; see above")
	f.StringVar(&r.o.Name, "name", "", "the container's `name`, unique on this node (default: weft- and 8 digits)")
	f.StringVar(&r.o.Hostname, "hostname", "", "its host `name` (default: its name)")
	f.StringVar(&r.o.Service, "service", "", "the `service` that it is a part of")
	f.StringArrayVarP(&r.volumes, "volume", "v", nil, "bind `SRC:DST[:ro]`: SRC, of the host, over DST, which must exist")
	f.StringArrayVarP(&r.env, "env", "e", nil, "set `NAME=VALUE` in its environment, which otherwise is this one")
	f.StringVarP(&r.o.Workdir, "workdir", "w", "", "its working `directory` (default: this one)")
	f.StringVarP(&r.o.User, "user", "u", "", "run it as `USER[:GROUP]`, names or numbers (default: root, or whoever runs weft)")
	exposeFlag(c, &r.expose)
	f.StringArrayVar(&r.servers, "dns", nil, "ask this `server` instead of the gateway: names of containers are then not known; up to 3 times")
	f.StringArrayVar(&r.o.Resolv.Search, "dns-search", nil, "search this `domain`, and not the host's; . for none; may be repeated")
	f.StringArrayVar(&r.o.Resolv.Options, "dns-option", nil, "an `option` of resolv.conf(5), besides ndots:0; may be repeated")
	f.StringArrayVar(&r.hosts, "add-host", nil, "a line in its /etc/hosts, as `NAME:ADDRESS`; host-gateway is this node's address; may be repeated")
	f.BoolVarP(&r.detach, "detach", "d", false, "run it in the background, and print its name")
	f.BoolVar(&r.o.Remove, "rm", false, "remove it when it ends")
	socketFlag(c, &r.socket)
	dataDirFlag(c, &r.data)
	complete(c, "network", ask(&r.socket, networkNames))
	for _, name := range []string{"dns", "dns-search", "add-host"} {
		complete(c, name, cobra.NoFileCompletions)
	}
	complete(c, "dns-option", words("ndots:", "timeout:", "attempts:", "rotate", "use-vc", "edns0", "trust-ad", "single-request"))
	return c
}

// exposeFlag adds --expose to a command.
func exposeFlag(c *cobra.Command, expose *[]string) {
	c.Flags().StringArrayVar(expose, "expose", nil, "say that it listens there, as `[NAME=]PORT[-PORT][/tcp|udp|sctp]`: SRV leads to it, nothing is opened; may be repeated")
	complete(c, "expose", cobra.NoFileCompletions)
}

// run is the command. With -d it comes here twice: in the process that waits for the start, and in the supervisor, which
// tells that one how it went.
func (r *runFlags) run(c *cobra.Command) error {
	r.o.Ready = run.Detached()
	r.o.Warn = func(w string) { fmt.Fprintf(c.ErrOrStderr(), "weft: warning: %s\n", w) }
	status, err := r.walk(c)
	if r.o.Ready != nil && err != nil {
		r.o.Ready.Fail(status, err)
	}
	if err == nil && status == 0 {
		return nil
	}
	return exitStatus{err, status}
}

func (r *runFlags) walk(c *cobra.Command) (status int, err error) {
	networks, err := r.complete()
	if err != nil {
		return run.StatusFailed, usageError{err}
	}
	store, err := enter(r.data)
	if err != nil {
		return run.StatusFailed, err
	}
	if r.detach && r.o.Ready == nil {
		name, status, err := run.Detach(c.Context(), r.o.Warn)
		if err == nil {
			fmt.Fprintln(c.OutOrStdout(), name)
		}
		return status, err
	}
	client := api.NewClient(r.socket)
	if r.o.Hosts, err = addedHosts(c.Context(), client, r.hosts); err != nil {
		return run.StatusFailed, err
	}
	r.o.Attacher = attacher{client, networks, r.ports}
	return run.Run(c.Context(), store, r.o)
}

// complete reads what the flags say.
func (r *runFlags) complete() (networks []api.Attachment, err error) {
	if len(r.o.Command) == 0 {
		return nil, errors.New("no command; name one after --")
	}
	if len(r.networks) == 0 {
		return nil, errors.New("no network; name one with --network (weft network ls lists them)")
	}
	for _, s := range r.networks {
		a, err := parseAttachment(s)
		if err != nil {
			return nil, fmt.Errorf("--network: %w", err)
		}
		networks = append(networks, a)
	}
	if err := r.names(); err != nil {
		return nil, err
	}
	for _, s := range r.volumes {
		v, err := inside.ParseVolume(s)
		if err != nil {
			return nil, fmt.Errorf("--volume: %w", err)
		}
		r.o.Volumes = append(r.o.Volumes, v)
	}
	if r.o.Env, err = run.Setting(r.env, os.LookupEnv); err != nil {
		return nil, fmt.Errorf("--env: %w", err)
	}
	r.o.Env = run.Environment(os.Environ(), r.o.Env)
	if r.o.Name != "" {
		if err := run.CheckName(r.o.Name); err != nil {
			return nil, fmt.Errorf("--name: %w", err)
		}
	}
	if r.o.Workdir == "" {
		if r.o.Workdir, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("the working directory: %w; name one with --workdir", err)
		}
	}
	return networks, nil
}

// names reads the flags about what the container is called, and what it asks.
func (r *runFlags) names() (err error) {
	if r.ports, err = endpoint.ParsePorts(r.expose); err != nil {
		return fmt.Errorf("--expose: %w", err)
	}
	for _, s := range r.servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("--dns %q; expected the address of a server, such as 192.0.2.53", s)
		}
		r.o.Resolv.Servers = append(r.o.Resolv.Servers, a)
	}
	if err := r.o.Resolv.Check(); err != nil {
		return fmt.Errorf("--dns, --dns-search, --dns-option: %w", err)
	}
	for _, s := range r.hosts {
		if _, _, err := etc.ParseHost(s); err != nil {
			return fmt.Errorf("--add-host: %w", err)
		}
	}
	return nil
}

// addedHosts reads what --add-host says, and asks the agent for this node's address if that is meant.
func addedHosts(ctx context.Context, client *api.Client, specs []string) (hosts []etc.Host, err error) {
	var node netip.Addr
	for _, s := range specs {
		h, gateway, err := etc.ParseHost(s)
		if err != nil {
			return nil, err
		}
		if gateway && !node.IsValid() {
			status, err := client.Status(ctx)
			if err != nil {
				return nil, err
			}
			if node = status.Underlay.Addr(); !node.IsValid() || node.IsUnspecified() {
				return nil, fmt.Errorf("--add-host %s: the agent knows no address of this node; name one instead of %s", s, etc.Gateway)
			}
		}
		if gateway {
			h.Address = node
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// stored returns the containers in a data directory.
func stored(data string) (run.Store, error) {
	if data == "" {
		return run.Store{}, usageError{errors.New("no data directory: this user has no home; name one with --data-dir, or in $WEFT_DATA_DIR")}
	}
	return run.NewStore(data), nil
}

// enter returns the containers in a data directory once this process may enter them, as root or in a user namespace.
func enter(data string) (run.Store, error) {
	store, err := stored(data)
	if err == nil {
		err = userns.Enter(data)
	}
	return store, err
}

// attacher has the agent attach a container to its networks.
type attacher struct {
	client   *api.Client
	networks []api.Attachment
	ports    []dns.Port
}

func (a attacher) Attach(ctx context.Context, r run.Request) ([]run.Endpoint, error) {
	ends, err := a.client.Attach(ctx, api.AttachRequest{
		Name: r.Name, Hostname: r.Hostname, Service: r.Service, Networks: a.networks, PID: r.PID, Supervisor: r.Supervisor,
		Ports: a.ports,
	})
	if err != nil {
		return nil, err
	}
	list := make([]run.Endpoint, len(ends))
	for i, e := range ends {
		list[i] = run.Endpoint{Network: e.Network, Interface: e.Interface, Addresses: e.Addresses, Gateways: e.Gateways, Warning: e.Warning}
	}
	return list, nil
}

func (a attacher) Detach(ctx context.Context, name string) error { return a.client.Detach(ctx, name) }
