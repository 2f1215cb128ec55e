package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/engine/run"
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

--network may come several times; the interfaces are eth0, eth1, ... in that order. After its name and a colon come, joined by
commas: ip=ADDRESS (once for each family), ip6=ADDRESS, alias=NAME (any number), mac=MAC, ifname=NAME.`,
		Example: `  weft run --network web --name c1 -- sleep 1h
  weft run --network web:ip=10.0.1.9,alias=db --network backup -d --rm -- postgres -D /srv/db
  weft run --network web -v ./site:/srv/www:ro -e PORT=80 -w /srv/www -u www-data -- ./serve`,
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
	f.BoolVarP(&r.detach, "detach", "d", false, "run it in the background, and print its name")
	f.BoolVar(&r.o.Remove, "rm", false, "remove it when it ends")
	socketFlag(c, &r.socket)
	dataDirFlag(c, &r.data)
	complete(c, "network", ask(&r.socket, networkNames))
	return c
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
	r.o.Attacher = attacher{api.NewClient(r.socket), networks}
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
}

func (a attacher) Attach(ctx context.Context, r run.Request) ([]run.Endpoint, error) {
	ends, err := a.client.Attach(ctx, api.AttachRequest{
		Name: r.Name, Hostname: r.Hostname, Service: r.Service, Networks: a.networks, PID: r.PID, Supervisor: r.Supervisor,
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
