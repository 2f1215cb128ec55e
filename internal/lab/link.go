package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// LinkOptions describes a veth pair; index 0 is a's side. The zero value is an eth0 on both sides with an MTU of 1500.
type LinkOptions struct {
	Names     [2]string         // "" is eth0
	MACs      [2]frame.MAC      // 0 is a random one
	Addresses [2][]netip.Prefix // usable at once: without duplicate address detection
	Masters   [2]string         // bridges that the sides become ports of
	MTU       int               // 0 is 1500
	NoOffload bool              // both sides as a NIC without offloads; see Offload
}

// Link joins two hosts, or two interfaces of one, by a veth pair that is up.
func Link(a, b *Host, opt LinkOptions) error {
	for i := range opt.Names {
		if opt.Names[i] == "" {
			opt.Names[i] = "eth0"
		}
	}
	if opt.MTU == 0 {
		opt.MTU = 1500
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = opt.Names[0], opt.MTU, hardware(opt.MACs[0])
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU, veth.PeerHardwareAddr = opt.Names[1], uint32(opt.MTU), hardware(opt.MACs[1])
	veth.PeerNamespace = netlink.NsFd(b.FD())
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: link %s/%s to %s/%s: %w", a.name, opt.Names[0], b.name, opt.Names[1], err)
	}
	for i, h := range [2]*Host{a, b} {
		if err := h.dress(opt.Names[i], opt.Masters[i], opt.Addresses[i]); err != nil {
			return err
		}
		if opt.NoOffload {
			if err := h.Offload(opt.Names[i], false); err != nil {
				return err
			}
		}
	}
	return nil
}

// dress gives an interface its bridge and addresses, and sets it up.
func (h *Host) dress(name, master string, addrs []netip.Prefix) error {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("lab: host %s: %s: %w", h.name, name, err)
	}
	if master != "" {
		br, err := h.nl.LinkByName(master)
		if err != nil {
			return fmt.Errorf("lab: host %s: bridge %s of %s: %w", h.name, master, name, err)
		}
		if err := h.nl.LinkSetMaster(link, br); err != nil {
			return fmt.Errorf("lab: host %s: %s to bridge %s: %w", h.name, name, master, err)
		}
	}
	for _, p := range addrs {
		if err := h.Address(name, p); err != nil {
			return err
		}
	}
	return h.up(name)
}

func (h *Host) up(name string) error {
	link, err := h.nl.LinkByName(name)
	if err == nil {
		err = h.nl.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("lab: host %s: set %s up: %w", h.name, name, err)
	}
	return nil
}

// Address adds an address to an interface.
func (h *Host) Address(name string, p netip.Prefix) error {
	link, err := h.nl.LinkByName(name)
	if err == nil {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		err = h.nl.AddrReplace(link, a)
	}
	if err != nil {
		return fmt.Errorf("lab: host %s: address %s on %s: %w", h.name, p, name, err)
	}
	return nil
}

// Route adds a route through a gateway.
func (h *Host) Route(dst netip.Prefix, via netip.Addr) error {
	err := h.nl.RouteReplace(&netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()})
	if err != nil {
		return fmt.Errorf("lab: host %s: route to %s via %s: %w", h.name, dst, via, err)
	}
	return nil
}

// Default adds a default route through a gateway.
func (h *Host) Default(via netip.Addr) error {
	return h.Route(netip.PrefixFrom(via, 0).Masked(), via)
}

// Bridge makes a Linux bridge, as container engines do: no spanning tree, no multicast snooping.
func (h *Host) Bridge(name string, addrs ...netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	off := false
	if err := h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
		return fmt.Errorf("lab: host %s: bridge %s: %w", h.name, name, err)
	}
	return h.dress(name, "", addrs)
}

// MAC returns an interface's address.
func (h *Host) MAC(name string) (frame.MAC, error) {
	link, err := h.nl.LinkByName(name)
	if err != nil || len(link.Attrs().HardwareAddr) != 6 {
		return 0, fmt.Errorf("lab: host %s: MAC of %s: %w", h.name, name, err)
	}
	return frame.MACFrom(link.Attrs().HardwareAddr), nil
}

// hardware converts m; 0 is no address.
func hardware(m frame.MAC) net.HardwareAddr {
	if m == 0 {
		return nil
	}
	b := make(net.HardwareAddr, 6)
	m.Put(b)
	return b
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
