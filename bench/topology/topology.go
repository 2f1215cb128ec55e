// Package topology builds the ways that the bench compares. Each is made of the same two hosts, network namespaces joined by
// a veth pair. In the group overlay a path is what carries frames between containers on both:
//
//	          host a                                             host b
//	┌──────────────────────────┐                      ┌──────────────────────────┐
//	│ neighbor      client    │                      │                 server   │
//	│  10.77.0.4    10.77.0.2  │                      │               10.77.0.3  │
//	│      └──── path ────┘    │   veth, MTU 1500     │      path ─────────┘     │
//	│              └────── eth0├──────────────────────┤eth0 ──┘                  │
//	│                 192.0.2.1│                      │192.0.2.2                 │
//	└──────────────────────────┘                      └──────────────────────────┘
//
// In the group egress host b is the outside, which knows nothing of containers, and a path is how one on a gets there. In
// the group names a path is what answers that container's queries for names, at its gateway:
//
//	          host a                                           the outside, b
//	┌──────────────────────────┐                      ┌──────────────────────────┐
//	│  client                  │   veth, MTU 1500     │                          │
//	│ 10.77.0.2 ── path ── eth0├──────────────────────┤eth0  server              │
//	│           10.77.0.1      │                      │      192.0.2.2           │
//	└──────────────────────────┘                      └──────────────────────────┘
//
// A path is one small file here and one line in Paths.
package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
)

// Paths returns all there are. The bench takes them in this order.
func Paths() []Path {
	return []Path{
		direct, kernelVXLAN, weft,
		kernelMasquerade, goProxy, slirp4netns, pasta, weftEgress,
		dnsmasq, weftDNS,
	}
}

// Group is what paths share that can be compared with each other.
type Group string

// The groups.
const (
	Overlay Group = "overlay" // between containers of two hosts
	Egress  Group = "egress"  // from a container to the outside
	Names   Group = "names"   // from a container to its resolver
)

// Groups returns all there are.
func Groups() []Group { return []Group{Overlay, Egress, Names} }

// Reference names the path of the group that ratios are taken against.
func (g Group) Reference() string {
	switch g {
	case Egress:
		return kernelMasquerade.Name
	case Names:
		return dnsmasq.Name
	}
	return kernelVXLAN.Name
}

// Path is a way from a container to what it talks to.
type Path struct {
	Name  string
	About string
	Group Group

	// Missing says what this host lacks for the path, with the remedy; nil if nothing.
	Missing func() error

	// build adds to a Net that has its two hosts. What it starts it hands to the Net's close list.
	build func(context.Context, *Net) error
}

// Options are what all paths have in common.
type Options struct {
	Offload bool // whether the underlay's devices segment and checksum, as a NIC with tunnel offload does
	Pin     bool // whether each host, with its containers, has one processor for itself: a on 0, b on 1
}

// The MTUs of all paths: the overlay's packets leave room for VXLAN over IPv4.
const (
	UnderlayMTU = 1500
	OverlayMTU  = UnderlayMTU - 50
)

// Container is an end of a path.
type Container struct {
	Host *lab.Host
	Addr netip.Addr // where the others reach it
}

// Net is a path that stands.
type Net struct {
	Client, Server Container
	Neighbor       Container // on the client's host; its Host is nil on a path without local traffic
	Names          []string  // what the resolver at the server's address knows; none where there is no resolver

	a, b  *lab.Host // where the containers are
	pin   bool
	dir   string // for what programs read and say; made when the first one wants it
	close []func() error
}

// Build makes the path's hosts and containers. The caller closes the Net; when ctx ends Build gives up.
func (p Path) Build(ctx context.Context, opt Options) (*Net, error) {
	n := &Net{pin: opt.Pin}
	err := n.hosts(opt)
	if err == nil {
		err = p.build(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("topology: build %s: %w", p.Name, err), n.Close())
	}
	return n, nil
}

// Close takes everything down, the latest first. It is idempotent.
func (n *Net) Close() error {
	var errs []error
	for len(n.close) > 0 {
		last := len(n.close) - 1
		errs = append(errs, n.close[last]())
		n.close = n.close[:last]
	}
	return errors.Join(errs...)
}

// Features returns which features of the underlay's devices are on.
func (n *Net) Features() (map[string]bool, error) { return n.a.Features("eth0") }

// host makes a namespace that lives as long as the Net. Programs in it run on the given processor, if the options pin.
func (n *Net) host(name string, cpu int) (*lab.Host, error) {
	h, err := lab.New(name)
	if err != nil {
		return nil, err
	}
	n.close = append(n.close, h.Close)
	if n.pin {
		err = h.Pin(cpu)
	}
	return h, err
}

// The processors of the two hosts, if they are pinned.
const cpuA, cpuB = 0, 1

// The addresses of the hosts and of the containers.
var (
	vtepA, vtepB = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

	subnet   = netip.MustParsePrefix("10.77.0.0/24")
	gateway  = netip.MustParseAddr("10.77.0.1")
	client   = station{"client", netip.MustParseAddr("10.77.0.2"), 0x0242_0a4d_0002, cpuA}
	server   = station{"server", netip.MustParseAddr("10.77.0.3"), 0x0242_0a4d_0003, cpuB}
	neighbor = station{"neighbor", netip.MustParseAddr("10.77.0.4"), 0x0242_0a4d_0004, cpuA}
)

// station is a container as the overlay knows it.
type station struct {
	name string
	addr netip.Addr
	mac  frame.MAC
	cpu  int
}

func (s station) prefix() netip.Prefix { return netip.PrefixFrom(s.addr, subnet.Bits()) }

// hosts makes the two hosts and the underlay between them.
func (n *Net) hosts(opt Options) (err error) {
	if n.a, err = n.host("a", cpuA); err != nil {
		return err
	}
	if n.b, err = n.host("b", cpuB); err != nil {
		return err
	}
	return lab.Link(n.a, n.b, lab.LinkOptions{
		MTU:       UnderlayMTU,
		Addresses: [2][]netip.Prefix{{netip.PrefixFrom(vtepA, 24)}, {netip.PrefixFrom(vtepB, 24)}},
		NoOffload: !opt.Offload,
	})
}

// containers makes the namespaces of the three containers, without interfaces.
func (n *Net) containers() error {
	for _, c := range []struct {
		to *Container
		station
	}{{&n.Client, client}, {&n.Server, server}, {&n.Neighbor, neighbor}} {
		h, err := n.host(c.name, c.cpu)
		if err != nil {
			return err
		}
		*c.to = Container{h, c.addr}
	}
	return nil
}

// probe makes a host for trying something out.
func probe(try func(*lab.Host) error) error {
	h, err := lab.New("probe")
	if err != nil {
		return err
	}
	return errors.Join(try(h), h.Close())
}
