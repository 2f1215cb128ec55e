package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/agent/gateway"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/loop"
	"github.com/weftnet/weft/stack/router"
	"github.com/weftnet/weft/vxlan"
)

// gcPercent lets the heap grow to five times its live size between collections: the data path does not allocate, so they are rare.
const gcPercent = 400

// node is the state of a running agent.
type node struct {
	log      *slog.Logger
	version  string
	started  time.Time
	tunnel   *vxlan.Tunnel
	capture  *capture.Tap
	threads  []thread
	networks bridge.Networks
	gateways *gateway.Set
	problems func() []string  // of whoever plans; called without the lock
	gone     chan *attachment // devices that turned out to be gone
	failed   chan error       // threads that ended though nobody asked them to
	stop     context.CancelFunc
	running  sync.WaitGroup // threads
	watching sync.WaitGroup // goroutines that wait for a container's end

	mu          sync.Mutex // guards what follows
	cfg         *plan.Config
	attached    map[string]*attachment // by key
	turn        int                    // queues given to threads so far
	unreachable []error                // peers that could not be connected
}

// thread is one thread of the data path.
type thread struct {
	*loop.Loop
	lane *bridge.Lane
}

func newNode(cfg *plan.Config, o Options) (*node, error) {
	count := cfg.Threads
	if count == 0 {
		count = defaultThreads()
	}
	tunnel, err := vxlan.Listen(vxlan.Config{
		Local: cfg.Underlay.Address, Port: cfg.Underlay.Port, Checksum: cfg.Underlay.Checksum, Receivers: receivers(count),
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &node{
		log: o.Log, version: o.Version, started: time.Now(), tunnel: tunnel, capture: capture.New(), cfg: cfg, attached: make(map[string]*attachment),
		problems: func() []string { return nil }, gone: make(chan *attachment), failed: make(chan error, count), stop: stop,
	}
	n.networks.Store(&map[vxlan.VNI]*bridge.Network{})
	debug.SetGCPercent(gcPercent)
	// A thread keeps its P while it waits. What the scheduler runs gets the other cores: with more Ps than those, each goroutine that is
	// woken would wake another idle thread to look for more.
	runtime.GOMAXPROCS(count + max(1, runtime.NumCPU()-count))
	if err = n.start(ctx, count); err == nil {
		n.gateways, err = gateway.New(gateway.Config{
			Dir: o.Dir, Servers: o.DNS, TTL: o.DNSTTL, Flows: o.EgressFlows, Closed: sockets(cfg, o),
			Host: func() []netip.Addr { return hostAddresses(cfg.Underlay.Address) }, Loop: n.threads[count-1].Loop, Log: o.Log,
		})
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// defaultThreads is how many forwarding threads a machine of this size gets: the containers need the rest of the cores.
func defaultThreads() int { return max(1, runtime.NumCPU()/2) }

// receivers is how many sockets share the tunnel's port among that many threads.
func receivers(threads int) int { return threads }

// start makes and runs the threads.
func (n *node) start(ctx context.Context, count int) error {
	for i := range count {
		lane := bridge.NewLane(&n.networks, n.tunnel)
		l, err := loop.New(lane.Flush)
		if err != nil {
			return err
		}
		n.threads = append(n.threads, thread{l, lane})
		n.running.Go(func() {
			if err := l.Run(ctx); err != nil {
				n.failed <- err
			}
		})
		if i < n.tunnel.Receivers() {
			if err := l.Add(n.tunnel.Receiver(i, lane)); err != nil {
				return err
			}
		}
	}
	return nil
}

// barrier returns when no thread holds anything any more that it read from tables before.
func (n *node) barrier() {
	for _, t := range n.threads {
		// A loop that has ended holds nothing.
		_ = t.Do(func() {})
	}
}

// apply makes the node what cfg says, leaving alone what is the same in both. On a fault that concerns the whole node it changes
// nothing; endpoints that cannot be attached are reported, and tried again with the next apply.
func (n *node) apply(cfg *plan.Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := sameUnderlay(n.cfg, cfg); err != nil {
		return err
	}
	if err := resolve(cfg); err != nil {
		return err
	}
	wanted := n.wanted(cfg)
	n.cfg = cfg
	n.networks.Store(n.named(cfg))
	var old []*attachment
	for key, a := range n.attached {
		if _, keep := wanted[key]; !keep || !a.up() {
			old = append(old, a)
			delete(n.attached, key)
		}
	}
	n.gateways.Plan(cfg, n.link)
	n.publish()
	for _, a := range old {
		a.end(true)
	}
	return n.attachAll(wanted)
}

// link is the way of a network's router to the containers.
func (n *node) link(v vxlan.VNI) router.Link { return (*n.networks.Load())[v] }

// reroute makes routers that failed anew.
func (n *node) reroute() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gateways.Plan(n.cfg, n.link)
	n.publish()
}

// attachAll opens the wanted ports that are not attached, and puts those that could be in force. Failures are kept, and returned.
func (n *node) attachAll(wanted map[string]want) error {
	var fresh []*attachment
	var errs []error
	for key, w := range wanted {
		if n.attached[key] != nil {
			continue
		}
		a := n.attach(w)
		n.attached[key] = a
		if a.up() {
			fresh = append(fresh, a)
		} else {
			errs = append(errs, a.err)
		}
	}
	n.publish()
	for _, a := range fresh {
		errs = append(errs, n.serve(a))
	}
	return errors.Join(errs...)
}

// named returns the networks of cfg by VNI, those that exist already as they are.
func (n *node) named(cfg *plan.Config) *map[vxlan.VNI]*bridge.Network {
	old, next := *n.networks.Load(), make(map[vxlan.VNI]*bridge.Network, len(cfg.Networks))
	for _, net := range cfg.Networks {
		v := net.VNI
		if next[v] = old[v]; next[v] == nil || next[v].Name != net.Name {
			next[v] = bridge.NewNetwork(net.Name, v, n.capture)
		}
	}
	return &next
}

// publish compiles the tables and swaps them in. When it returns, no thread uses an older one.
func (n *node) publish() {
	used := make(map[*vxlan.Peer]bool)
	n.unreachable = nil
	for i := range n.cfg.Networks {
		net := &n.cfg.Networks[i]
		table, err := n.compile(net, used)
		if err != nil {
			n.unreachable = append(n.unreachable, fmt.Errorf("network %s: %w", net.Name, err))
			n.log.Warn("a peer cannot be reached; trying again", "network", net.Name, "error", err, "every", refresh)
		}
		(*n.networks.Load())[net.VNI].SetTable(table)
	}
	var unused []*vxlan.Peer
	for _, p := range n.tunnel.Peers() {
		if !used[p] {
			unused = append(unused, p)
		}
	}
	n.tunnel.Remove(unused...)
	n.barrier()
	n.gateways.Sweep()
	for _, p := range unused {
		p.Close()
	}
}

// refresh asks again what the kernel knows about paths to peers.
func (n *node) refresh() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.tunnel.Peers() {
		p.RefreshMTU()
	}
	stale := n.gateways.Stale()
	if stale {
		n.gateways.Plan(n.cfg, n.link)
	}
	if stale || n.unreachable != nil {
		n.publish()
	}
	n.retry()
}

// retry attaches what could not be attached before: a container that was started late, or again at the same place.
func (n *node) retry() {
	again := make(map[string]want)
	old := make(map[string]*attachment)
	for key, a := range n.attached {
		if !a.up() {
			again[key], old[key] = a.want, a
			delete(n.attached, key)
		}
	}
	if len(again) == 0 {
		return
	}
	_ = n.attachAll(again) // each failure is kept where the API shows it; it was logged the first time
	for key, a := range old {
		if now := n.attached[key]; now.up() {
			n.log.Info("port is attached at last", "network", now.network, "port", now.name)
		} else if a.err == errGone {
			n.attached[key] = a // its counters, until it comes back
		}
	}
}

// drop takes a device that is gone out of the tables.
func (n *node) drop(a *attachment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.attached[a.key] != a || !a.up() {
		return
	}
	n.log.Info("port is gone: its container has ended", "network", a.network, "port", a.name)
	a.err = errGone
	n.publish()
	a.end(false)
}

// close ends the gateways, then the threads, then closes all devices and sockets. Persistent devices stay with their containers.
func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gateways != nil {
		n.gateways.Close() // what the threads still bring them they refuse
	}
	n.stop()
	n.running.Wait()
	for _, a := range n.attached {
		a.end(false)
	}
	n.watching.Wait()
	n.tunnel.Close()
}

// sorted returns the attachments by network and name.
func (n *node) sorted() []*attachment {
	var all []*attachment
	for _, a := range n.attached {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *attachment) int {
		return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.name, b.name))
	})
	return all
}
