package tap

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Driver describes a TUN/TAP driver other than this machine's.
type Driver struct {
	Path      string // "" is /dev/net/tun
	NoHeader  bool   // refuses IFF_VNET_HDR
	OldHeader bool   // has no TUNSETVNETHDRSZ
	Offloads  int    // the bits of TUNSETOFFLOAD that it knows; 0 is all
}

// OpenWith is Open on another driver.
func OpenWith(cfg Config, drv Driver) (*Device, error) {
	k := system
	if drv.Path != "" {
		k.path = drv.Path
	}
	if drv.NoHeader {
		k.setInterface = func(int, *unix.Ifreq) error { return unix.EINVAL }
	}
	if drv.OldHeader {
		k.setHeader = func(int, int) error { return unix.ENOTTY }
	}
	if drv.Offloads != 0 {
		k.setOffload = func(fd, flags int) error {
			if flags&^drv.Offloads != 0 {
				return unix.EINVAL
			}
			return system.setOffload(fd, flags)
		}
	}
	return open(cfg, k)
}

// Newborns returns the devices that were left in the nursery.
func Newborns() ([]string, error) {
	ns, _, err := system.nursery()
	if err != nil {
		return nil, err
	}
	var names []string
	err = doAt(ns, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Attrs().Name != "lo" {
				names = append(names, fmt.Sprintf("%s (%s)", l.Attrs().Name, l.Type()))
			}
		}
		return err
	})
	return names, err
}
