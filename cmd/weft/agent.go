package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent"
	"github.com/weftnet/weft/dns/upstream"
	"github.com/weftnet/weft/engine/userns"
)

func newAgent() *cobra.Command {
	var o agentOptions
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run this node: its part of the cluster, its switch, its tunnel and its containers' interfaces",
		Long: `Run this node in the foreground, until SIGINT or SIGTERM.

A node keeps its identity, and what it knows of its cluster, in --data-dir; one that has no cluster yet waits for weft init
or weft join. When the agent ends, or is killed, its containers keep their interfaces, and the next agent takes them up again:
only weft detach and weft leave remove them. Other nodes reach this one at --advertise, by three ports, which firewalls
between the nodes must let through.

As an ordinary user it runs itself in a user namespace, which takes /dev/net/tun with its usual mode 0666; weft doctor says
what is missing.

With --static FILE the node belongs to no cluster and does what FILE says (docs/static.md). SIGHUP makes it read FILE again; a
file with faults changes nothing: they are logged, all of them, each with its line. That takes root, or a user namespace whose
containers it may enter (podman unshare weft agent ...).`,
		Example: `  weft agent
  weft agent --advertise 192.0.2.1 --data-dir /srv/weft
  weft agent --profile wan --log-level debug
  weft agent --dns 192.0.2.53 --dns 192.0.2.54 --dns-ttl 5s
  weft agent --static /etc/weft/node-a.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	o.flags(c)
	return c
}

// agentOptions are the flags of weft agent.
type agentOptions struct {
	agent.Options
	level     string
	advertise string
	servers   []string
}

// ofCluster are the flags that a node with --static has no use for.
var ofCluster = []string{"data-dir", "advertise", "listen-port", "gossip-port", "vxlan-port", "profile"}

func (o *agentOptions) flags(c *cobra.Command) {
	f := c.Flags()
	dataDirFlag(c, &o.Dir)
	f.StringVar(&o.advertise, "advertise", "", "the `address` at which other nodes reach this one (default: that of the default route's interface)")
	f.Uint16Var(&o.Ports.API, "listen-port", 7373, "the node API and Raft, TCP")
	f.Uint16Var(&o.Ports.Gossip, "gossip-port", 7946, "gossip, TCP and UDP")
	f.Uint16Var(&o.Ports.VXLAN, "vxlan-port", 4789, "the containers' traffic, UDP")
	f.StringVar(&o.Profile, "profile", "lan", "how patient gossip is with other nodes: lan or wan")
	f.StringArrayVar(&o.servers, "dns", nil, "ask this `server`, IP or IP:PORT, for names that are not the cluster's (default: those of the host's resolv.conf, as it changes); may be repeated")
	f.DurationVar(&o.DNSTTL, "dns-ttl", time.Second, "how long containers may keep the address of a name: whole seconds up to 1h")
	f.IntVar(&o.EgressFlows, "egress-flows", 16384, "how many connections and datagram flows a container may have beyond its networks")
	f.StringVar(&o.Static, "static", "", "belong to no cluster, and do what this `file` says")
	f.StringVar(&o.level, "log-level", "info", "what is logged: debug, info, warn or error")
	socketFlag(c, &o.Socket)
	complete(c, "profile", words("lan", "wan"))
	for _, name := range []string{"dns", "dns-ttl", "egress-flows"} {
		complete(c, name, cobra.NoFileCompletions)
	}
	complete(c, "log-level", words("debug", "info", "warn", "error"))
}

// check reads what the flags say.
func (o *agentOptions) check(c *cobra.Command) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(o.level)); err != nil {
		return fmt.Errorf("--log-level %q; expected debug, info, warn or error", o.level)
	}
	if err := o.outward(); err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: l}))
	if c.Flags().Changed("static") {
		for _, name := range ofCluster {
			if c.Flags().Changed(name) {
				return fmt.Errorf("--%s beside --static; expected one of them: a node with a file belongs to no cluster", name)
			}
		}
		if o.Static == "" {
			return errors.New("--static is empty; name the file that describes this node (docs/static.md)")
		}
		return nil
	}
	if o.Profile != "lan" && o.Profile != "wan" {
		return fmt.Errorf("--profile %q; expected lan or wan", o.Profile)
	}
	if o.Dir == "" {
		return errors.New("--data-dir is empty; name the directory in which this node keeps what it must not forget")
	}
	if o.Ports.API == 0 || o.Ports.Gossip == 0 || o.Ports.VXLAN == 0 {
		return errors.New("port 0; expected --listen-port, --gossip-port and --vxlan-port from 1 to 65535")
	}
	if o.Ports.API == o.Ports.Gossip || o.Ports.Gossip == o.Ports.VXLAN {
		return fmt.Errorf("--listen-port %d, --gossip-port %d, --vxlan-port %d; expected gossip's to be another", o.Ports.API, o.Ports.Gossip, o.Ports.VXLAN)
	}
	if o.advertise == "" {
		return nil
	}
	var err error
	if o.Advertise, err = netip.ParseAddr(o.advertise); err != nil || o.Advertise.Zone() != "" || o.Advertise.IsUnspecified() || o.Advertise.IsMulticast() {
		return fmt.Errorf("--advertise %q; expected an address of this host, such as 192.0.2.1", strings.TrimSpace(o.advertise))
	}
	o.Advertise = o.Advertise.Unmap()
	return nil
}

// outward reads the flags about what is beyond the networks.
func (o *agentOptions) outward() error {
	o.DNS = nil
	for _, s := range o.servers {
		server, err := upstream.ParseServer(s)
		if err != nil {
			return fmt.Errorf("--dns %q; expected the address of a name server, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53", s)
		}
		o.DNS = append(o.DNS, server)
	}
	if o.DNSTTL < time.Second || o.DNSTTL > time.Hour || o.DNSTTL%time.Second != 0 {
		return fmt.Errorf("--dns-ttl %s; expected whole seconds from 1s to 1h", o.DNSTTL)
	}
	const most = 1 << 20
	if o.EgressFlows < 1 || o.EgressFlows > most {
		return fmt.Errorf("--egress-flows %d; expected 1 to %d", o.EgressFlows, most)
	}
	return nil
}

func (o *agentOptions) run(c *cobra.Command) error {
	if err := o.check(c); err != nil {
		return usageError{err}
	}
	if o.Socket == systemSocket && os.Geteuid() != 0 {
		return fmt.Errorf("an ordinary user's agent cannot have the socket %s, and there is no $XDG_RUNTIME_DIR (as under su and cron); name one with --socket, or for all commands in $WEFT_SOCKET", systemSocket)
	}
	if o.Static == "" {
		if err := userns.Enter(o.Dir); err != nil {
			return err
		}
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	o.Reload, o.Version = reload, version
	return agent.Run(c.Context(), o.Options)
}
