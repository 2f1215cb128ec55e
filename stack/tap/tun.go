package tap

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// Caps is what the kernel hands over, and takes, unfinished. Checksum is the condition of all others.
type Caps struct {
	Checksum bool // partial checksums
	TSO4     bool // TCP superframes over IPv4
	TSO6     bool // TCP superframes over IPv6
	ECN      bool // TCP superframes with CWR
	USO      bool // UDP superframes, over both
}

// String lists the capabilities as `ethtool -k` abbreviates them.
func (c Caps) String() string {
	var names []string
	for _, f := range []struct {
		on   bool
		name string
	}{{c.Checksum, "csum"}, {c.TSO4, "tso4"}, {c.TSO6, "tso6"}, {c.ECN, "ecn"}, {c.USO, "uso"}} {
		if f.on {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

// offers are the sets of offloads to try, best first. A kernel refuses a set for one unknown bit; USO came with Linux 6.2
// and takes both of its bits or none.
var offers = []int{
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6,
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN,
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6,
	unix.TUN_F_CSUM | unix.TUN_F_TSO4,
	unix.TUN_F_CSUM,
}

// kernel is the way to the driver. Tests put an older one, or none, in its place.
type kernel struct {
	path         string
	setInterface func(fd int, ifr *unix.Ifreq) error
	setHeader    func(fd, n int) error
	setOffload   func(fd, flags int) error
}

var system = kernel{
	path:         "/dev/net/tun",
	setInterface: func(fd int, ifr *unix.Ifreq) error { return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr) },
	setHeader:    func(fd, n int) error { return unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, n) },
	setOffload:   func(fd, flags int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags) },
}

// open returns a descriptor of the driver that is no device yet.
func (k kernel) open() (int, error) {
	fd, err := unix.Open(k.path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("%w: %s: %w; load it with `modprobe tun`, or hand the device to this container (--device %s)", ErrNoTUN, k.path, err, k.path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("%w: %s: %w; every user needs to read and write it: `chmod 0666 %s`", ErrNotPermitted, k.path, err, k.path)
	default:
		return -1, fmt.Errorf("%s: %w", k.path, err)
	}
}

// errPlain says that the driver has no virtio_net_hdr.
var errPlain = errors.New("no virtio_net_hdr")

// attach opens cfg.Queues queues of the device that is, or becomes, name in the thread's namespace.
func (d *Device) attach(k kernel, cfg Config, name string) error {
	if !cfg.Plain {
		err := d.attachOffloaded(k, name, cfg.Queues)
		if !errors.Is(err, errPlain) {
			return err
		}
		d.release()
		d.queues = nil
	}
	return d.attachPlain(k, name, cfg.Queues, cfg.Persistent)
}

func (d *Device) attachOffloaded(k kernel, name string, queues int) error {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	for range queues {
		fd, err := k.open()
		if err != nil {
			return err
		}
		q := newQueue(d, fd, Offloaded)
		d.queues = append(d.queues, q)
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(flags)
		if err := k.setInterface(fd, ifr); err != nil {
			return refused(err, errPlain)
		}
		if err := k.setHeader(fd, frame.OffloadLen); err != nil {
			return errPlain
		}
	}
	d.mode = Offloaded
	d.caps = k.negotiate(d.queues[0].fd)
	return nil
}

// negotiate settles on the best set of offloads that the kernel takes.
func (k kernel) negotiate(fd int) Caps {
	for _, f := range offers {
		if k.setOffload(fd, f) == nil {
			return Caps{
				Checksum: true,
				TSO4:     f&unix.TUN_F_TSO4 != 0,
				TSO6:     f&unix.TUN_F_TSO6 != 0,
				ECN:      f&unix.TUN_F_TSO_ECN != 0,
				USO:      f&unix.TUN_F_USO4 != 0,
			}
		}
	}
	return Caps{}
}

// attachPlain opens the queues by songgao/water, for drivers without virtio_net_hdr (gVisor's, very old ones).
func (d *Device) attachPlain(k kernel, name string, queues int, persist bool) error {
	for range queues {
		ifce, err := water.New(water.Config{
			DeviceType: water.TAP,
			// Persist clears the flag too, which would strip a device that is being taken up again.
			PlatformSpecificParams: water.PlatformSpecificParams{Name: name, MultiQueue: queues > 1, Persist: persist},
		})
		if err != nil {
			return refused(err, err)
		}
		fd, err := duplicate(ifce)
		if err != nil {
			return err
		}
		d.queues = append(d.queues, newQueue(d, fd, Plain))
	}
	// A device that is taken up again may have been offloaded before; a driver without offloads refuses, rightly.
	_ = k.setOffload(d.queues[0].fd, 0)
	d.mode, d.caps = Plain, Caps{}
	return nil
}

// duplicate takes the descriptor out of water's file, which the Go runtime's poller would otherwise watch for ever.
func duplicate(ifce *water.Interface) (int, error) {
	defer ifce.Close()
	f, ok := ifce.ReadWriteCloser.(*os.File)
	if !ok {
		return -1, fmt.Errorf("water handed out a %T; expected a file", ifce.ReadWriteCloser)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dup := -1, error(nil)
	if err := raw.Control(func(p uintptr) { fd, dup = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if dup != nil {
		return -1, dup
	}
	return fd, unix.SetNonblock(fd, true)
}

// refused explains why TUNSETIFF failed; unknown is returned for flags that the driver does not know.
func refused(err, unknown error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w; end the other process (`fuser -v /dev/net/tun` shows it)", ErrBusy, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: TUNSETIFF: %w; it takes CAP_NET_ADMIN: run as root, or inside the container engine's user namespace (podman unshare weft ...)", ErrNotPermitted, err)
	case errors.Is(err, unix.EINVAL):
		return unknown
	default:
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
}

// bear makes a new device in the nursery and moves it to the namespace ns under its name.
func (d *Device) bear(k kernel, cfg Config, nursery, ns int) error {
	infant := "wf" + strings.ToLower(rand.Text()[:10])
	err := doAt(nursery, func() error {
		// Persistent comes last, when nothing can fail any more.
		temporary := cfg
		temporary.Persistent = false
		if err := d.attach(k, temporary, infant); err != nil {
			return err
		}
		link, err := netlink.LinkByName(infant)
		if err != nil {
			return fmt.Errorf("find the new device: %w", err)
		}
		if err := netlink.LinkSetNsFd(link, ns); err != nil {
			return fmt.Errorf("move it into %s: %w", cfg.Namespace, hint(err))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return doAt(ns, func() error {
		link, err := netlink.LinkByName(infant)
		if err != nil {
			return fmt.Errorf("find the moved device: %w", err)
		}
		if err := netlink.LinkSetName(link, cfg.Name); err != nil {
			return fmt.Errorf("name it: %w", err)
		}
		return nil
	})
}
