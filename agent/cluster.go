package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/gateway"
	"github.com/weftnet/weft/agent/member"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/vxlan"
)

// runMember runs a node that is a member of a cluster, or waits to become one.
func runMember(ctx context.Context, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	n, err := newNode(&plan.Config{Underlay: plan.Underlay{Address: o.Advertise, Port: o.Ports.VXLAN}}, o)
	if err != nil {
		return err
	}
	defer n.close()
	m, err := member.Open(member.Config{
		Dir: o.Dir, Advertise: o.Advertise, API: o.Ports.API, Gossip: o.Ports.Gossip, VXLAN: o.Ports.VXLAN, Profile: profiles[o.Profile], Timing: o.Timing,
		Version: o.Version, Log: o.Log, Plane: plane{n},
	})
	if err != nil {
		return err
	}
	if err := gateway.KeepCrashes(o.Dir); err != nil {
		return err
	}
	n.problems = m.Problems
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cancel(m.Run(ctx))
	}()
	err = n.run(ctx, o, api.Options{Node: n, Control: m, Doctor: m, Resolver: n.gateways, Outside: n.gateways}, events{
		reload: func() { o.Log.Info("nothing to read again: this node follows its cluster") }, lost: m.Wake,
	})
	cancel(nil)
	<-ended
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

var profiles = map[string]gossip.Profile{"": gossip.LAN, "lan": gossip.LAN, "wan": gossip.WAN}

// complete fills the defaults of a node for a cluster in.
func (o *Options) complete() error {
	if _, ok := profiles[o.Profile]; !ok {
		return fmt.Errorf("profile %q; expected lan or wan", o.Profile)
	}
	for _, p := range []struct {
		port  *uint16
		usual uint16
	}{{&o.Ports.API, 7373}, {&o.Ports.Gossip, 7946}, {&o.Ports.VXLAN, vxlan.Port}} {
		if *p.port == 0 {
			*p.port = p.usual
		}
	}
	if o.Dir == "" {
		return errors.New("no data directory is named; choose one with --data-dir")
	}
	if !o.Advertise.IsValid() {
		var err error
		if o.Advertise, err = usualAddress(); err != nil {
			return err
		}
	}
	if _, err := deviceMTU(o.Advertise); err != nil {
		return fmt.Errorf("%w (--advertise)", err)
	}
	return nil
}

// usualAddress returns the address by which this host is reached as far as one can tell: that of the default route's interface, or the
// only one there is.
func usualAddress() (netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list interfaces: %w; name this node's address with --advertise", err)
	}
	var all []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			continue // a host without that family
		}
		for _, link := range links {
			addrs := addressesOf(link, family)
			if len(addrs) > 0 && slices.ContainsFunc(routes, func(r netlink.Route) bool { return isDefault(r) && r.LinkIndex == link.Attrs().Index }) {
				return addrs[0], nil
			}
			all = append(all, addrs...)
		}
	}
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return netip.Addr{}, errors.New("this host has no address but loopback; give it one, or name one with --advertise")
	}
	return netip.Addr{}, fmt.Errorf("this host has no default route and several addresses: %v; name the one that other nodes reach with --advertise", all)
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// addressesOf returns the global addresses of an interface.
func addressesOf(link netlink.Link, family int) (all []netip.Addr) {
	addrs, err := netlink.AddrList(link, family)
	if err != nil {
		return nil // it went away meanwhile
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap().IsGlobalUnicast() {
			all = append(all, ip.Unmap())
		}
	}
	return all
}

// plane is a node as the data plane of a member.
type plane struct{ *node }

// Apply makes the plan true as far as that is possible at once (member.Plane).
func (p plane) Apply(cfg *plan.Config) error {
	cfg.Underlay, cfg.Threads = p.fixed()
	return p.apply(cfg)
}

// Fault says why the port of an endpoint is not up (member.Plane).
func (p plane) Fault(network vxlan.VNI, endpoint string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.cfg.Networks {
		net := &p.cfg.Networks[i]
		for j := range net.Endpoints {
			if e := &net.Endpoints[j]; net.VNI == network && e.Name == endpoint {
				switch a := p.attached[wantOf(net, e).key]; {
				case a == nil:
					return fmt.Errorf("endpoint %s is not attached", e.Name)
				case a.err == nil && e.Muted:
					return fmt.Errorf("endpoint %s is cut off: its address is leased by this node no longer; it is asked for again and again", e.Name)
				default:
					return a.err
				}
			}
		}
	}
	return fmt.Errorf("endpoint %s is not in this node's plan", endpoint)
}

// Verify compiles the tables anew and tells where those in force differ (member.Plane).
func (p plane) Verify() (faults []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.cfg.Networks {
		net := &p.cfg.Networks[i]
		now := (*p.networks.Load())[net.VNI].Table()
		want, err := p.compile(net, make(map[*vxlan.Peer]bool))
		if err != nil {
			faults = append(faults, fmt.Sprintf("network %s: %v", net.Name, err))
			continue
		}
		if got, want := described(now), described(want); got != want {
			faults = append(faults, fmt.Sprintf("network %s: the table in force has %s; expected %s", net.Name, got, want))
		}
	}
	return faults
}

// described tells what a table says of its endpoints.
func described(t *bridge.Table) string {
	var b strings.Builder
	for _, e := range t.Endpoints() {
		fmt.Fprintf(&b, "%s %s %v ", e.Name, e.MAC, e.Addresses)
		if e.Port != nil {
			fmt.Fprintf(&b, "at port %s; ", e.Port.Name)
		} else {
			fmt.Fprintf(&b, "behind %s; ", e.Peer.Addr)
		}
	}
	return b.String()
}

// MTU is that of the underlay's device (member.Plane).
func (p plane) MTU() (int, error) {
	underlay, _ := p.fixed()
	return deviceMTU(underlay.Address)
}

// fixed returns what stays as it was when the node was made.
func (p plane) fixed() (plan.Underlay, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Underlay, p.cfg.Threads
}
