package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
	"github.com/weftnet/weft/vxlan"
)

var errGone = errors.New("the container's namespace or its interface is gone")

// want is a port as the file describes it.
type want struct {
	vni     vxlan.VNI
	network string
	name    string // of the endpoint, or of the bridge
	where   string // the namespace of its device, for people
	device  tap.Config
	key     string // the same for two wants that the same attachment fulfils
}

// attachment is a port that was opened, or could not be: then err says why.
type attachment struct {
	want
	dev     *tap.Device
	port    *bridge.Port
	sources []source
	err     error
	lost    chan struct{} // closed when a thread finds the device gone
	ended   chan struct{}
	over    atomic.Bool
}

// source is a queue of the port, and the thread that serves it.
type source struct {
	thread thread
	queue  *bridge.Queue
}

func (a *attachment) up() bool { return a.err == nil }

// wanted returns the ports of cfg by key.
func (n *node) wanted(cfg *plan.Config) map[string]want {
	all := make(map[string]want)
	for i := range cfg.Networks {
		net := &cfg.Networks[i]
		for j := range net.Endpoints {
			w := wantOf(net, &net.Endpoints[j])
			all[w.key] = w
		}
	}
	return all
}

func wantOf(net *plan.Network, e *plan.Endpoint) want {
	w := want{vni: net.VNI, network: net.Name, name: e.Name, where: where(e)}
	w.device = tap.Config{Name: e.Interface, MTU: net.MTU, Queues: e.Queues, Persistent: e.Persistent}
	switch {
	case e.Bridge != nil:
		// One port for all endpoints behind the bridge: nothing of a single one may be part of it.
		w.name = e.Bridge.Name
		w.device.Bridge = e.Bridge.Name
		w.device.Namespace = tap.Own()
		if e.Bridge.NetNS != "" {
			w.device.Namespace = tap.ByPath(e.Bridge.NetNS)
		}
	case e.NetNS != "":
		w.device.Namespace = tap.ByPath(e.NetNS)
	default:
		w.device.Namespace = tap.ByPID(e.PID)
	}
	if e.Bridge == nil {
		// Not behind a bridge: its containers send what their own interfaces take, and the kernel would cut a longer superframe for
		// the TAP, packet by packet.
		w.device.GSOMaxSize = superframe(net.MTU)
		w.device.MAC = e.MAC
		for _, a := range e.Addresses {
			w.device.Addresses = append(w.device.Addresses, net.Prefix(a))
		}
		for _, r := range e.Routes {
			w.device.Routes = append(w.device.Routes, tap.Route{Dst: r.To, Via: r.Via, Metric: r.Metric})
		}
	}
	w.key = fmt.Sprint(w.vni, w.network, w.name, w.device)
	return w
}

// superframe returns the largest superframe, in bytes, whose segments fit one segmented send of the tunnel: a longer one costs a second
// system call. TCP keeps 321 bytes of the device's limit in reserve (MAX_TCP_HEADER in net/ipv4/tcp.c).
func superframe(mtu int) int {
	const headers, options, reserve = 14 + vxlan.HeaderLen, 52, 400
	segments := min(65507/(mtu+headers), 64)
	return min(segments*(mtu-options)+reserve, 65536)
}

// resolve fills in the MTU of networks whose file leaves it out: the underlay device's less the encapsulation.
func resolve(cfg *plan.Config) error {
	for i := range cfg.Networks {
		net := &cfg.Networks[i]
		if net.MTU != 0 {
			continue
		}
		device, err := deviceMTU(cfg.Underlay.Address)
		if err != nil {
			return err
		}
		net.MTU = min(device-vxlan.Overhead(cfg.Underlay.Address), 65521)
		if net.MTU < 576 {
			return fmt.Errorf("network %s: the underlay's MTU of %d leaves %d bytes for packets; raise it, or set the network's mtu", net.Name, device, net.MTU)
		}
	}
	return nil
}

// deviceMTU returns the MTU of the interface that has addr.
func deviceMTU(addr netip.Addr) (int, error) {
	all, err := net.Interfaces()
	if err != nil {
		return 0, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr {
				return i.MTU, nil
			}
		}
	}
	return 0, fmt.Errorf("no interface has the underlay address %s; set underlay.address to one of this host's", addr)
}

// attach opens the port that w describes. It forwards nothing before serve.
func (n *node) attach(w want) *attachment {
	a := &attachment{want: w, lost: make(chan struct{}), ended: make(chan struct{})}
	if a.dev, a.err = tap.Open(w.device); a.err != nil {
		a.err = fmt.Errorf("network %s, port %s: %w", w.network, w.name, a.err)
		close(a.ended)
		a.over.Store(true)
		return a
	}
	c := bridge.PortConfig{
		Name: w.name, Joins: joins(a.dev.Caps()), Plain: a.dev.Mode() == tap.Plain, Gone: func(*bridge.Port) { close(a.lost) },
	}
	for _, q := range a.dev.Queues() {
		c.Queues = append(c.Queues, q)
	}
	a.port = (*n.networks.Load())[w.vni].NewPort(c)
	return a
}

// serve gives the port's queues to threads. Its network's table names the port already: what the container sent meanwhile waits in the
// device, and is not refused as a stranger's.
func (n *node) serve(a *attachment) error {
	for i := range a.dev.Queues() {
		// Away from the first threads, which serve the tunnel's sockets, as far as there are others.
		t := n.threads[len(n.threads)-1-n.turn%len(n.threads)]
		n.turn++
		s := source{t, a.port.Queue(i, t.lane)}
		if err := t.Add(s.queue); err != nil {
			return fmt.Errorf("network %s, port %s: %w", a.network, a.name, err)
		}
		a.sources = append(a.sources, s)
	}
	n.watching.Go(func() { a.watch(n.gone) })
	return nil
}

// watch reports the end of the container, unless the attachment ends first.
func (a *attachment) watch(gone chan<- *attachment) {
	select {
	case <-a.dev.Gone():
	case <-a.lost:
	case <-a.ended:
		return
	}
	select {
	case gone <- a:
	case <-a.ended:
	}
}

// end closes the port. No table names it any more. A persistent device goes too if remove says so.
func (a *attachment) end(remove bool) {
	if a.over.Swap(true) {
		return
	}
	close(a.ended)
	for _, s := range a.sources {
		s.thread.Remove(s.queue)
	}
	if remove {
		_ = a.dev.Remove() // it may have gone with its container
	} else {
		_ = a.dev.Close()
	}
}

func joins(c tap.Caps) (j frame.Joins) {
	if c.TSO4 {
		j |= frame.JoinTCP4
	}
	if c.TSO6 {
		j |= frame.JoinTCP6
	}
	if c.USO {
		j |= frame.JoinUDP
	}
	return j
}
