// Package agent is a node: it opens the parts, compiles state into the tables that the data path reads, and serves the local API.
//
//	static file ─► plan.Config ─► node.apply ─┬─ tap.Open ────► bridge.Port ── loop.Loop (a thread with its bridge.Lane)
//	    (SIGHUP)                                ├─ Tunnel.Peer ─► vxlan.Peer       ▲
//	                                            └─ compile ─────► bridge.Table ────┘ one atomic pointer per network
//
// One goroutine changes a node; the API reads it under the same lock. The data path never takes that lock.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/agent/static"
	"github.com/weftnet/weft/cluster"
)

// Options say how a node is run.
type Options struct {
	Static    string     // the file that describes the node and its networks; empty: the node is for a cluster
	Dir       string     // data directory of a node for a cluster
	Advertise netip.Addr // where other nodes reach this one; the zero Addr: the address of the default route's interface
	Ports     Ports
	Profile   string         // how patient gossip is: lan (default) or wan
	Timing    cluster.Timing // how patient the cluster is; zero fields: as on a LAN

	DNS         []netip.AddrPort // servers that are asked for names that are not the cluster's; none: the host's
	DNSTTL      time.Duration    // how long others may keep answers on the cluster's names; 0: 1 s
	EgressFlows int              // how many flows a container may have beyond its network; 0: 16384

	Socket  string           // path of the API's unix socket
	Log     *slog.Logger     // nil discards
	Version string           // as the API reports it
	Reload  <-chan os.Signal // a value makes the node read its file again; nil never does
}

// Ports are where a node for a cluster listens; 0 is the default.
type Ports struct {
	API    uint16 // TCP, default 7373
	Gossip uint16 // TCP and UDP, default 7946
	VXLAN  uint16 // UDP, default 4789
}

// refresh is how often what the kernel knows better is asked again: path MTUs, and peers that could not be reached.
const refresh = 10 * time.Second

// Run runs a node until ctx ends, by a static file or for a cluster. It returns an error if the node cannot start: a faulty file, a port
// in use, a socket that cannot be made. An endpoint that cannot be attached is logged and reported by the API; the others work.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Static == "" {
		return runMember(ctx, o)
	}
	cfg, err := static.Load(o.Static)
	if err != nil {
		return err
	}
	n, err := newNode(cfg, o)
	if err != nil {
		return err
	}
	defer n.close()
	if err := resolve(cfg); err != nil {
		return err
	}
	if err := n.apply(cfg); err != nil {
		o.Log.Error("not everything could be attached", "error", err)
	}
	return n.run(ctx, o, api.Options{Node: n, Resolver: n.gateways, Outside: n.gateways}, events{reload: func() { n.reload(o.Static) }, lost: func() {}})
}

// events are what a running node tells whoever planned it.
type events struct {
	reload func() // the user asks for it
	lost   func() // a port's device is gone
}

// run serves the API and answers to events until ctx ends.
func (n *node) run(ctx context.Context, o Options, shown api.Options, tell events) error {
	server, err := api.Open(o.Socket, shown)
	if err != nil {
		return err
	}
	o.Log.Info("node is up", "underlay", n.tunnel.Local(), "threads", len(n.threads), "socket", o.Socket)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Run(ctx); err != nil {
			cancel(err)
		}
	}()
	notify(o.Log, daemon.SdNotifyReady)
	n.react(ctx, o, tell)
	notify(o.Log, daemon.SdNotifyStopping)
	cancel(nil)
	<-served
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// notify tells the service manager, if one has started this process (sd_notify(3)).
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// react answers to what happens to a running node, until ctx ends.
func (n *node) react(ctx context.Context, o Options, tell events) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-n.failed:
			n.log.Error("a forwarding thread ended; the node stops", "error", err)
			return
		case <-o.Reload:
			tell.reload()
		case a := <-n.gone:
			n.drop(a)
			tell.lost()
		case <-n.gateways.Changed():
			n.reroute()
		case <-tick.C:
			n.refresh()
		}
	}
}

func (n *node) reload(path string) {
	cfg, err := static.Load(path)
	if err == nil {
		err = n.apply(cfg)
	}
	if err != nil {
		n.log.Error("reload", "file", path, "error", err)
		return
	}
	n.log.Info("reloaded", "file", path)
}

// sameUnderlay refuses changes that the running tunnel cannot take in.
func sameUnderlay(old, cfg *plan.Config) error {
	if old.Underlay != cfg.Underlay {
		return fmt.Errorf("underlay changed from %s:%d to %s:%d; restart the agent for that (nothing was changed)",
			old.Underlay.Address, old.Underlay.Port, cfg.Underlay.Address, cfg.Underlay.Port)
	}
	if old.Threads != cfg.Threads {
		return fmt.Errorf("threads changed from %d to %d; restart the agent for that (nothing was changed)", old.Threads, cfg.Threads)
	}
	return nil
}
