package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// VXLANOptions describes a VXLAN device of the kernel. VNI and Local are required.
type VXLANOptions struct {
	VNI      uint32
	Local    netip.Addr // outer source address
	Port     uint16     // 0 is 4789
	MTU      int        // 0 is what a 1500-byte underlay leaves
	Bridge   string     // becomes a port of this bridge
	Learning bool       // learn from received frames; off as in Docker
	Proxy    bool       // answer ARP and ND from the entries; on in Docker
	Entries  []Entry
}

// Entry tells the device where something is. With a MAC it is a forwarding entry, and a neighbor too if Addr is set;
// without it, a VTEP to which broadcasts go.
type Entry struct {
	MAC  frame.MAC
	Addr netip.Addr
	VTEP netip.Addr
}

// VXLAN makes a VXLAN device that is up, with outer checksums as the kernel has them by default: on.
func (h *Host) VXLAN(name string, opt VXLANOptions) error {
	if opt.Port == 0 {
		opt.Port = 4789
	}
	if opt.MTU == 0 {
		opt.MTU = 1500 - 50
		if opt.Local.Is6() {
			opt.MTU = 1500 - 70
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, opt.MTU
	err := h.nl.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: int(opt.VNI), SrcAddr: opt.Local.AsSlice(), Port: int(opt.Port),
		Learning: opt.Learning, Proxy: opt.Proxy,
	})
	if err != nil {
		return fmt.Errorf("lab: host %s: vxlan %s: %w", h.name, name, err)
	}
	if err := h.dress(name, opt.Bridge, nil); err != nil {
		return err
	}
	for _, e := range opt.Entries {
		if err := h.Entry(name, e); err != nil {
			return err
		}
	}
	return nil
}

// Entry adds an entry to a VXLAN device.
func (h *Host) Entry(vxlan string, e Entry) error {
	link, err := h.nl.LinkByName(vxlan)
	if err != nil {
		return fmt.Errorf("lab: host %s: vxlan %s: %w", h.name, vxlan, err)
	}
	fdb := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
		IP: e.VTEP.AsSlice(), HardwareAddr: hardware(e.MAC),
	}
	add := h.nl.NeighSet
	if e.MAC == 0 {
		fdb.HardwareAddr = make(net.HardwareAddr, 6) // all zero: the VTEPs of what has no entry, of which there may be many
		add = h.nl.NeighAppend
	}
	if err := add(fdb); err != nil {
		return fmt.Errorf("lab: host %s: %s: %s at VTEP %s: %w", h.name, vxlan, fdb.HardwareAddr, e.VTEP, err)
	}
	if e.MAC == 0 || !e.Addr.IsValid() {
		return nil
	}
	err = h.nl.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: e.Addr.AsSlice(), HardwareAddr: hardware(e.MAC),
	})
	if err != nil {
		return fmt.Errorf("lab: host %s: %s: neighbor %s is %s: %w", h.name, vxlan, e.Addr, e.MAC, err)
	}
	return nil
}
