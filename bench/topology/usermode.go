package topology

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/internal/lab"
)

// The ways out through programs in user space that are not weft's data path.
var (
	// goProxy is what a Go program that only copies between kernel sockets can do; weft has the container's TCP to do
	// besides.
	goProxy = Path{
		Name:    "go-proxy",
		About:   "a veth pair to a plain Go proxy that splices between kernel sockets: what a proxy in user space can do at best",
		Group:   Egress,
		Missing: func() error { return probe(func(*lab.Host) error { return nil }) },
		build: func(ctx context.Context, n *Net) error {
			if err := n.outside(); err != nil {
				return err
			}
			if err := n.wire("veth1", ""); err != nil {
				return err
			}
			at, to := netip.AddrPortFrom(gateway, load.Port), netip.AddrPortFrom(n.Server.Addr, load.Port)
			n.Server.Addr = at.Addr()
			d, err := n.start("go-proxy", n.a.Command("/proc/self/exe", "bench", "proxy", at.String(), to.String()))
			if err != nil {
				return err
			}
			return d.await(ctx, d.spoken)
		},
	}

	// slirp4netns is what rootless container engines used first.
	slirp4netns = Path{
		Name:    "slirp4netns",
		About:   "slirp4netns (libslirp) at an MTU of 1500, as rootless container engines start it",
		Group:   Egress,
		Missing: missing("slirp4netns", "slirp4netns"),
		build: func(ctx context.Context, n *Net) error {
			if err := n.outside(); err != nil {
				return err
			}
			n.Client.Addr = netip.MustParseAddr("10.0.2.100") // its choice
			file, err := program("slirp4netns", "slirp4netns")
			if err != nil {
				return err
			}
			d, err := n.start("slirp4netns", n.a.Command(file, "--configure", "--mtu="+strconv.Itoa(UnderlayMTU), "--disable-host-loopback",
				"--netns-type=path", n.Client.Host.Path(), "eth0"))
			if err != nil {
				return err
			}
			return d.await(ctx, n.routed)
		},
	}

	// pasta is what they use now.
	pasta = Path{
		Name:    "pasta",
		About:   "pasta (passt) at an MTU of 1500, as rootless container engines start it",
		Group:   Egress,
		Missing: missing("pasta", "passt"),
		build: func(ctx context.Context, n *Net) error {
			if err := n.outside(); err != nil {
				return err
			}
			file, err := program("pasta", "passt")
			if err != nil {
				return err
			}
			// It takes the interface to work through from the default route.
			if err := n.a.Default(vtepB); err != nil {
				return err
			}
			// It gives up the right to look at other processes' descriptors before it opens the namespace.
			fd, err := unix.FcntlInt(uintptr(n.Client.Host.FD()), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
			}
			ns := os.NewFile(uintptr(fd), "namespace")
			defer ns.Close()
			// As another user, which is its default, it would outlive a harness that is killed.
			cmd := n.a.Command(file, "--foreground", "--runas", "0", "--config-net", "--netns", "/proc/self/fd/3", "--ns-ifname", "eth0",
				"--mtu", strconv.Itoa(UnderlayMTU), "--interface", "eth0", "--address", client.addr.String(), "--netmask", strconv.Itoa(subnet.Bits()),
				"--gateway", gateway.String(), "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none")
			cmd.ExtraFiles = []*os.File{ns}
			d, err := n.start("pasta", cmd)
			if err != nil {
				return err
			}
			return d.await(ctx, n.routed)
		},
	}
)

// spoken reports whether the program has said something, which for some means that it is ready.
func (d *daemon) spoken(context.Context) bool { return len(d.said()) > 0 }

// routed reports whether the client has a route to the server.
func (n *Net) routed(context.Context) bool {
	routes, err := n.Client.Host.Netlink().RouteGet(n.Server.Addr.AsSlice())
	return err == nil && len(routes) > 0
}

// missing returns a Missing for a path that takes a program, which makes a TAP.
func missing(name, pkg string) func() error {
	return func() error {
		_, err := program(name, pkg)
		return errors.Join(err, taps())
	}
}
