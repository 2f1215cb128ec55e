package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lookup finds a persistent TAP of the name in the namespace ns that nobody holds. It returns nil if the name is free, and
// an error if something else has it.
func lookup(cfg Config, ns int) (old *netlink.Tuntap, err error) {
	err = doAt(ns, func() error {
		link, err := netlink.LinkByName(cfg.Name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		if err != nil {
			return err
		}
		var ok bool
		switch old, ok = link.(*netlink.Tuntap); {
		case !ok || old.Mode != netlink.TUNTAP_MODE_TAP:
			return fmt.Errorf("%w by a %s device; choose another name or remove it (`ip link del %s`)", ErrNameTaken, link.Type(), cfg.Name)
		case old.Queues > 0:
			return fmt.Errorf("%w; end it (`fuser -v /dev/net/tun` shows it), or choose another name", ErrBusy)
		case !cfg.Persistent:
			return fmt.Errorf("%w by a persistent TAP; ask for a persistent one to take it up, or remove it (`ip link del %s`)", ErrNameTaken, cfg.Name)
		case (old.Flags&netlink.TUNTAP_MULTI_QUEUE != 0) != (cfg.Queues > 1):
			return fmt.Errorf("%w by a persistent TAP with another number of queues than %d; ask for as many as it was made with, or remove it (`ip link del %s`)", ErrNameTaken, cfg.Queues, cfg.Name)
		}
		return nil
	})
	return old, err
}

// place gives the device, which is in the thread's namespace under its name, all that cfg asks for. A device that has some
// of it already keeps it untouched, so that the connections of a running container survive.
func place(cfg Config) error {
	link, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return err
	}
	if err := shape(cfg, link); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		unqueue(link)
	}
	if cfg.Bridge != "" {
		if err := enslave(link, cfg.Bridge); err != nil {
			return err
		}
	}
	// Fails where the kernel has no IPv6, which is no obstacle to IPv4; an IPv6 address that was asked for tells below.
	_ = netlink.LinkSetIP6AddrGenMode(link, eui64)
	for _, p := range cfg.Addresses {
		if err := address(link, p); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	for _, r := range cfg.Routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.Dst.Masked()), Priority: r.Metric}
		if r.Via.IsValid() {
			route.Gw = r.Via.AsSlice()
		} else {
			route.Scope = netlink.SCOPE_LINK
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s via %s: %w; the gateway must lie within one of the addresses' prefixes", r.Dst, r.Via, err)
		}
	}
	return nil
}

// eui64 makes the link-local address from the MAC (IN6_ADDR_GEN_MODE_EUI64), so that it is known beforehand.
const eui64 = 0

// shape sets MAC, MTU, queue length and superframe size where they differ.
func shape(cfg Config, link netlink.Link) error {
	a := link.Attrs()
	if cfg.MAC != 0 {
		mac := make(net.HardwareAddr, 6)
		cfg.MAC.Put(mac)
		if a.HardwareAddr.String() != mac.String() {
			if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
				return fmt.Errorf("set MAC %s: %w", mac, err)
			}
		}
	}
	if cfg.MTU != 0 && a.MTU != cfg.MTU {
		if err := netlink.LinkSetMTU(link, cfg.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", cfg.MTU, err)
		}
	}
	if a.TxQLen != cfg.TxQueueLen {
		if err := netlink.LinkSetTxQLen(link, cfg.TxQueueLen); err != nil {
			return fmt.Errorf("set queue length %d: %w", cfg.TxQueueLen, err)
		}
	}
	if cfg.GSOMaxSize != 0 {
		// Up to 64 KiB this is IPv4's limit as well: that of its own, which it has since Linux 6.3, follows.
		if err := netlink.LinkSetGSOMaxSize(link, cfg.GSOMaxSize); err != nil {
			return fmt.Errorf("set largest superframe %d: %w", cfg.GSOMaxSize, err)
		}
	}
	return nil
}

// unqueue takes the queueing discipline of a new device away, as veths have none: the driver's own ring is the queue, and a second one
// in front of it only costs a lock. Where the kernel will not, the default one does no harm.
func unqueue(link netlink.Link) {
	_ = netlink.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
}

func enslave(link netlink.Link, name string) error {
	bridge, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return fmt.Errorf("%w: there is no %s in this namespace; make it with `ip link add %s type bridge`", ErrBridge, name, name)
	}
	if err != nil {
		return err
	}
	if bridge.Type() != "bridge" {
		return fmt.Errorf("%w: %s is a %s device; expected a Linux bridge", ErrBridge, name, bridge.Type())
	}
	if link.Attrs().MasterIndex == bridge.Attrs().Index {
		return nil
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("make it a port of %s: %w", name, err)
	}
	return nil
}

// address adds p, for use at once: the cluster has made sure that nobody else has it, so that duplicate address detection
// would only cost a second.
func address(link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	remedy := ""
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
		if err := enableIPv6(link.Attrs().Name); err != nil {
			remedy = "; " + err.Error()
		}
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return fmt.Errorf("add address %s: %w%s", p, err, remedy)
	}
	return nil
}

// enableIPv6 switches IPv6 on for the interface, since container engines switch it off for a whole namespace in which none
// of their own networks has it. The returned error is for an address that cannot be added.
func enableIPv6(name string) error {
	file := filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("this kernel has no IPv6: leave IPv6 addresses out, or boot without ipv6.disable=1")
	}
	if err != nil || strings.TrimSpace(string(b)) == "0" {
		return err
	}
	return os.WriteFile(file, []byte("0"), 0)
}

// ipNet converts p, of which only the network part is set.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
