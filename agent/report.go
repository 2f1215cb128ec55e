package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/capture"
)

// Status describes the node as a whole (api.Node).
func (n *node) Status() api.Status {
	problems := n.problems()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := api.Status{
		Node: n.cfg.Node, Version: n.version, PID: os.Getpid(), Started: n.started,
		Underlay: n.tunnel.Local(), Threads: len(n.threads), Networks: len(n.cfg.Networks), Problems: []string{},
	}
	for _, a := range n.sorted() {
		if a.up() {
			s.Ports.Up++
			continue
		}
		s.Ports.Gone++
		s.Problems = append(s.Problems, fmt.Sprintf("port %s of network %s: %v", a.name, a.network, a.err))
	}
	for _, err := range n.unreachable {
		s.Problems = append(s.Problems, err.Error())
	}
	s.Problems = append(s.Problems, n.gateways.Problems()...)
	s.Problems = append(s.Problems, problems...)
	return s
}

// Networks lists the networks (api.Node).
func (n *node) Networks() []api.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []api.Network
	for _, net := range n.cfg.Networks {
		spoof := "deny"
		if net.AllowSpoof {
			spoof = "allow"
		}
		ports := 0
		for _, a := range n.attached {
			if a.vni == net.VNI {
				ports++
			}
		}
		all = append(all, api.Network{
			Name: net.Name, VNI: net.VNI, Subnets: net.Subnets, Gateways: net.Gateways, MTU: net.MTU, Spoof: spoof,
			Ports: ports, Endpoints: len(net.Endpoints), Remotes: len(net.Remotes), VTEPs: append([]netip.Addr{}, net.VTEPs...),
		})
	}
	return all
}

// FDB lists the tables in force, not what they were compiled from (api.Node).
func (n *node) FDB() []api.FDBEntry {
	var all []api.FDBEntry
	for _, net := range n.byVNI() {
		t := net.Table()
		for _, e := range t.Endpoints() {
			entry := api.FDBEntry{Network: net.Name, VNI: net.VNI, MAC: &e.MAC, Addresses: e.Addresses, Name: e.Name}
			if e.Port != nil {
				entry.Where, entry.Port = api.Local, e.Port.Name
			} else {
				entry.Where, entry.VTEP = api.Remote, &e.Peer.Addr
			}
			all = append(all, entry)
		}
		for _, p := range t.Peers() {
			if t.Static(p) {
				all = append(all, api.FDBEntry{Network: net.Name, VNI: net.VNI, Where: api.Static, VTEP: &p.Addr})
			}
		}
	}
	return all
}

func (n *node) byVNI() []*bridge.Network {
	var all []*bridge.Network
	for _, net := range *n.networks.Load() {
		all = append(all, net)
	}
	slices.SortFunc(all, func(a, b *bridge.Network) int { return cmp.Compare(a.VNI, b.VNI) })
	return all
}

// Ports lists the ports, with those that could not be attached (api.Node).
func (n *node) Ports() []api.PortStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []api.PortStatus
	for _, a := range n.sorted() {
		s := api.PortStatus{
			Network: a.network, Name: a.name, Kind: api.KindTAP, Interface: a.device.Name, Namespace: a.where, Bridge: a.device.Bridge,
			State: api.StateUp, MTU: a.device.MTU, Queues: max(a.device.Queues, 1), Offloads: []string{}, Drops: map[string]uint64{},
			Owners: n.owners(a),
		}
		if a.device.Bridge != "" {
			s.Kind = api.KindBridge
		}
		if !a.up() {
			s.State, s.Error = api.StateGone, a.err.Error()
		}
		if a.port != nil {
			a.count(&s)
		}
		all = append(all, s)
	}
	return all
}

// count fills in what an attachment that is or was up has counted.
func (a *attachment) count(s *api.PortStatus) {
	s.Mode = a.dev.Mode().String()
	if caps := a.dev.Caps().String(); caps != "" {
		s.Offloads = strings.Split(caps, ",")
	}
	p := a.port
	s.RxFrames, s.RxBytes, s.RxReads = p.RxFrames.Load(), p.RxBytes.Load(), p.RxReads.Load()
	s.TxFrames, s.TxBytes, s.TxWrites = p.TxFrames.Load(), p.TxBytes.Load(), p.TxWrites.Load()
	s.Drops = p.Drops.Snapshot()
	if device, err := a.dev.Statistics(); err == nil { // else it is gone, and its counters with it
		s.TxDropped = device.TxDropped
	}
}

// owners returns the endpoints that a port is for.
func (n *node) owners(a *attachment) []api.Owner {
	all := []api.Owner{}
	for i := range n.cfg.Networks {
		net := &n.cfg.Networks[i]
		if net.VNI != a.vni {
			continue
		}
		for j := range net.Endpoints {
			if e := &net.Endpoints[j]; wantOf(net, e).key == a.key {
				all = append(all, api.Owner{Name: e.Name, MAC: e.MAC, Addresses: e.Addresses})
			}
		}
	}
	return all
}

// Stats sums up what the node has counted (api.Node).
func (n *node) Stats() api.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := api.Stats{Names: n.gateways.Names(), Networks: []api.NetworkStats{}, Threads: []api.ThreadStats{}, Tunnel: api.TunnelStats{Local: n.tunnel.Local(), Drops: n.tunnel.Drops.Snapshot(), Peers: []api.PeerStats{}}}
	for _, net := range n.byVNI() {
		s.Networks = append(s.Networks, n.countNetwork(net))
	}
	for _, p := range n.tunnel.Peers() {
		s.Tunnel.Peers = append(s.Tunnel.Peers, api.PeerStats{
			VTEP: p.Addr, GSO: p.Segments(), MTU: p.MTU(),
			TxFrames: p.TxFrames.Load(), TxBytes: p.TxBytes.Load(), TxMessages: p.TxMessages.Load(),
			RxFrames: p.RxFrames.Load(), RxBytes: p.RxBytes.Load(), RxMessages: p.RxMessages.Load(),
		})
	}
	slices.SortFunc(s.Tunnel.Peers, func(a, b api.PeerStats) int { return a.VTEP.Compare(b.VTEP) })
	for i, t := range n.threads {
		s.Threads = append(s.Threads, api.ThreadStats{
			Thread: i, Rounds: t.Rounds.Load(), Frames: t.Frames.Load(), Yields: t.Yields.Load(), Waits: t.Waits.Load(),
		})
	}
	return s
}

func (n *node) countNetwork(net *bridge.Network) api.NetworkStats {
	s := api.NetworkStats{Network: net.Name, VNI: net.VNI, Drops: net.Drops.Snapshot(), Outside: n.gateways.Outside(net.VNI)}
	for _, a := range n.attached {
		if p := a.port; p != nil && a.vni == net.VNI {
			s.RxFrames += p.RxFrames.Load()
			s.RxBytes += p.RxBytes.Load()
			s.TxFrames += p.TxFrames.Load()
			s.TxBytes += p.TxBytes.Load()
		}
	}
	return s
}

// Tap is where captures listen (api.Node).
func (n *node) Tap() *capture.Tap { return n.capture }

// where names the namespace of an endpoint's device.
func where(e *plan.Endpoint) string {
	switch {
	case e.Bridge != nil:
		return e.Bridge.NetNS
	case e.NetNS != "":
		return e.NetNS
	}
	return fmt.Sprintf("pid %d", e.PID)
}
