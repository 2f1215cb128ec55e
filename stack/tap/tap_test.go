package tap_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
)

func TestDeviceIsAsItWasAskedFor(t *testing.T) {
	h := lab.T(t, "c")
	lab.Must(t, h.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1")) // none
	cfg := config(h, 2)
	cfg.Routes = []tap.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.0.1")},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fd00::1")},
		{Dst: netip.MustParsePrefix("192.0.2.0/24")},
	}
	cfg.GSOMaxSize = 40000
	d := open(t, cfg)
	if d.Name() != "eth0" || d.Mode() != tap.Offloaded || !d.Caps().TSO4 || !d.Caps().Checksum || len(d.Queues()) != 1 {
		t.Errorf("got %s, %s, %s, %d queues", d.Name(), d.Mode(), d.Caps(), len(d.Queues()))
	}
	l := link(t, h, "eth0")
	a := l.Attrs()
	if a.HardwareAddr.String() != "02:42:0a:00:00:02" || a.MTU != 1450 || a.TxQLen != 1000 || a.Flags&net.FlagRunning == 0 ||
		a.GSOMaxSize != 40000 || a.GSOIPv4MaxSize != 40000 {
		t.Errorf("the interface is %+v", a)
	}
	if queues, err := h.Command("tc", "qdisc", "show", "dev", "eth0").Output(); err != nil || !strings.HasPrefix(string(queues), "qdisc noqueue") {
		t.Errorf("the queueing discipline is %q (%v), expected noqueue as a veth has", queues, err)
	}
	addrs, err := h.Netlink().AddrList(l, netlink.FAMILY_ALL)
	lab.Must(t, err)
	var have []string
	for _, a := range addrs {
		have = append(have, a.IPNet.String())
		if a.Scope == int(netlink.SCOPE_UNIVERSE) && a.Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%s is tentative; expected it to be usable at once", a.IPNet)
		}
	}
	slices.Sort(have)
	// fe80:: from the MAC shows that addr_gen_mode is eui64.
	if want := []string{"10.0.0.2/24", "fd00::2/64", "fe80::42:aff:fe00:2/64"}; !slices.Equal(have, want) {
		t.Errorf("the addresses are %v, expected %v", have, want)
	}
	for dst, want := range map[string]string{"203.0.113.1": "via 10.0.0.1", "2001:db8::1": "via fd00::1", "192.0.2.7": "192.0.2.7 dev eth0"} {
		out, err := h.Command("ip", "route", "get", dst).Output()
		lab.Must(t, err)
		if !strings.Contains(string(out), want) {
			t.Errorf("the way to %s is %s, expected %q", dst, out, want)
		}
	}
	noNewborns(t)
}

func noNewborns(t *testing.T) {
	t.Helper()
	if left, err := tap.Newborns(); err != nil || len(left) > 0 {
		t.Errorf("the nursery still has %v (%v)", left, err)
	}
}

func TestOffloadsFallBackToWhatTheKernelKnows(t *testing.T) {
	all := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6
	for _, c := range []struct {
		name  string
		knows int
		want  string
	}{
		{"everything", all, "csum,tso4,tso6,ecn,uso"},
		{"no USO before Linux 6.2", all &^ (unix.TUN_F_USO4 | unix.TUN_F_USO6), "csum,tso4,tso6,ecn"},
		{"one half of USO is none", all &^ unix.TUN_F_USO6, "csum,tso4,tso6,ecn"},
		{"no ECN", unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, "csum,tso4,tso6"},
		{"IPv4 only", unix.TUN_F_CSUM | unix.TUN_F_TSO4, "csum,tso4"},
		{"checksums only", unix.TUN_F_CSUM, "csum"},
		{"nothing", unix.TUN_F_UFO, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := lab.T(t, "c")
			d, err := tap.OpenWith(config(h, 2), tap.Driver{Offloads: c.knows})
			lab.Must(t, err)
			defer d.Close()
			if d.Caps().String() != c.want || d.Mode() != tap.Offloaded {
				t.Errorf("got %q in %s mode, expected %q", d.Caps(), d.Mode(), c.want)
			}
		})
	}
}

func TestDriversWithoutHeaderGivePlainMode(t *testing.T) {
	for name, drv := range map[string]tap.Driver{"IFF_VNET_HDR refused": {NoHeader: true}, "TUNSETVNETHDRSZ refused": {OldHeader: true}} {
		t.Run(name, func(t *testing.T) {
			h := lab.T(t, "c")
			cfg := config(h, 2)
			cfg.Queues = 2
			d, err := tap.OpenWith(cfg, drv)
			lab.Must(t, err)
			defer d.Close()
			if d.Mode() != tap.Plain || d.Mode().String() != "plain" || d.Caps() != (tap.Caps{}) || len(d.Queues()) != 2 {
				t.Errorf("got %s mode with %q and %d queues", d.Mode(), d.Caps(), len(d.Queues()))
			}
			noNewborns(t)
		})
	}
}

func TestPortOfALinuxBridge(t *testing.T) {
	host, c := lab.T(t, "host"), lab.T(t, "c")
	lab.Must(t, host.Bridge("br0", netip.MustParsePrefix("10.0.0.1/24")))
	lab.Must(t, lab.Link(host, c, lab.LinkOptions{
		Names: [2]string{"veth1", "eth0"}, Masters: [2]string{"br0", ""}, MTU: 1450,
		Addresses: [2][]netip.Prefix{nil, {netip.MustParsePrefix("10.0.0.2/24")}},
	}))
	d := open(t, tap.Config{Namespace: host.Namespace(), Name: "weft1", Bridge: "br0", MTU: 1450})
	if got, want := link(t, host, "weft1").Attrs().MasterIndex, link(t, host, "br0").Attrs().Index; got != want {
		t.Errorf("its master is interface %d, expected %d", got, want)
	}
	other := lab.T(t, "other")
	startPump(t, d, open(t, config(other, 3)))
	transfer(t, other, c, "10.0.0.2", 1<<20)
}

func TestIPv6SwitchedOffIsNoObstacle(t *testing.T) {
	h := lab.T(t, "c")
	lab.Must(t, h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1"))
	lab.Must(t, h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	four := config(h, 2)
	four.Addresses = four.Addresses[:1]
	d := open(t, four)
	lab.Must(t, d.Close())
	open(t, config(h, 2)) // and IPv6 is switched on where it is asked for
	addrs, err := h.Netlink().AddrList(link(t, h, "eth0"), netlink.FAMILY_V6)
	lab.Must(t, err)
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == "fd00::2/64" }) {
		t.Errorf("the addresses are %v", addrs)
	}
}

func TestOpenRefuses(t *testing.T) {
	h := lab.T(t, "c")
	lab.Must(t, h.Bridge("br0"))
	file := filepath.Join(t.TempDir(), "ns")
	lab.Must(t, os.WriteFile(file, nil, 0o644))
	held := open(t, tap.Config{Namespace: h.Namespace(), Name: "held", Persistent: true})
	left, err := tap.Open(tap.Config{Namespace: h.Namespace(), Name: "left", Persistent: true})
	lab.Must(t, err)
	lab.Must(t, left.Close())
	in := h.Namespace()
	addr := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for _, c := range []struct {
		name string
		cfg  tap.Config
		drv  tap.Driver
		is   error  // sentinel, if there is one
		says string // what a person needs to know
	}{
		{"a namespace that is not there", tap.Config{Namespace: tap.ByPath("/run/netns/nowhere"), Name: "eth0"}, tap.Driver{}, tap.ErrNamespace, "/run/netns/nowhere"},
		{"a process that is not there", tap.Config{Namespace: tap.ByPID(1 << 30), Name: "eth0"}, tap.Driver{}, tap.ErrNamespace, "process 1073741824"},
		{"a file that is no namespace", tap.Config{Namespace: tap.ByPath(file), Name: "eth0"}, tap.Driver{}, tap.ErrNamespace, "ordinary file"},
		{"a namespace of another kind", tap.Config{Namespace: tap.ByPath("/proc/self/ns/uts"), Name: "eth0"}, tap.Driver{}, tap.ErrNamespace, "not a network namespace"},
		{"a name that another kind of device has", tap.Config{Namespace: in, Name: "br0"}, tap.Driver{}, tap.ErrNameTaken, "bridge"},
		{"a name that a persistent TAP has", tap.Config{Namespace: in, Name: "left"}, tap.Driver{}, tap.ErrNameTaken, "ask for a persistent one"},
		{"a persistent TAP with fewer queues", tap.Config{Namespace: in, Name: "left", Persistent: true, Queues: 2}, tap.Driver{}, tap.ErrNameTaken, "queues"},
		{"a device that is held", tap.Config{Namespace: in, Name: "held", Persistent: true}, tap.Driver{}, tap.ErrBusy, "fuser"},
		{"a bridge that is not there", tap.Config{Namespace: in, Name: "t0", Bridge: "br7"}, tap.Driver{}, tap.ErrBridge, "no br7"},
		{"a bridge that is none", tap.Config{Namespace: in, Name: "t0", Bridge: "held"}, tap.Driver{}, tap.ErrBridge, "held is a"},
		{"no driver", tap.Config{Namespace: in, Name: "t0"}, tap.Driver{Path: "/dev/net/none"}, tap.ErrNoTUN, "modprobe tun"},
		{"a driver that is a directory", tap.Config{Namespace: in, Name: "t0"}, tap.Driver{Path: "/dev"}, nil, "directory"},
		{"no name", tap.Config{Namespace: in}, tap.Driver{}, nil, `""`},
		{"a long name", tap.Config{Namespace: in, Name: "sixteen-letters-"}, tap.Driver{}, nil, "1 to 15 bytes"},
		{"a name with a slash", tap.Config{Namespace: in, Name: "a/b"}, tap.Driver{}, nil, `"a/b"`},
		{"a name that is a pattern", tap.Config{Namespace: in, Name: "tap%d"}, tap.Driver{}, nil, `"tap%d"`},
		{"a group MAC", tap.Config{Namespace: in, Name: "t0", MAC: frame.Broadcast}, tap.Driver{}, nil, "ff:ff:ff:ff:ff:ff"},
		{"an MTU that is too small", tap.Config{Namespace: in, Name: "t0", MTU: 60}, tap.Driver{}, nil, "MTU 60"},
		{"an MTU too small for IPv6", tap.Config{Namespace: in, Name: "t0", MTU: 1000, Addresses: addr("fd00::1/64")}, tap.Driver{}, nil, "1280"},
		{"too many queues", tap.Config{Namespace: in, Name: "t0", Queues: 257}, tap.Driver{}, nil, "257"},
		{"addresses on a bridge port", tap.Config{Namespace: in, Name: "t0", Bridge: "br0", Addresses: addr("10.0.0.1/24")}, tap.Driver{}, nil, "br0"},
		{"an invalid address", tap.Config{Namespace: in, Name: "t0", Addresses: []netip.Prefix{{}}}, tap.Driver{}, nil, "10.0.0.2/24"},
		{"a route of two families", tap.Config{Namespace: in, Name: "t0", Routes: []tap.Route{{netip.MustParsePrefix("::/0"), netip.MustParseAddr("10.0.0.1"), 0}}}, tap.Driver{}, nil, "same family"},
		{"a gateway off the link", tap.Config{Namespace: in, Name: "t0", Addresses: addr("10.0.0.2/24"), Routes: []tap.Route{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.9.9.9"), 0}}}, tap.Driver{}, nil, "gateway must lie within"},
		{"a superframe that is too large", tap.Config{Namespace: in, Name: "t0", GSOMaxSize: 1 << 24}, tap.Driver{}, nil, "16777216"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := tap.OpenWith(c.cfg, c.drv)
			if err == nil {
				d.Close()
				t.Fatal("there was no error")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %q; expected one that wraps %v and says %q", err, c.is, c.says)
			}
			if !absent(h, "t0") {
				t.Error("a half-open device was left behind")
			}
			noNewborns(t)
		})
	}
	select {
	case <-held.Gone():
		t.Error("the held device is gone")
	default:
	}
}

func TestOpenInTheProcessesOwnNamespace(t *testing.T) {
	const name = "weft-tap-test"
	if os.Getenv(unprivileged) == hostNetwork {
		if _, err := tap.Open(tap.Config{Name: name}); !errors.Is(err, tap.ErrNotPermitted) || !strings.Contains(err.Error(), "run as root") {
			t.Errorf("opening a device in the host's network gave %v", err)
		}
		return
	}
	d := open(t, tap.Config{Namespace: tap.Own(), Name: name})
	if _, err := netlink.LinkByName(name); err != nil {
		t.Error(err)
	}
	lab.Must(t, d.Close())
	if _, err := netlink.LinkByName(name); err == nil {
		t.Error("it is still there")
	}
}

func TestDoLeavesTheProcessWhereItIs(t *testing.T) {
	h := lab.T(t, "c")
	where := func() string {
		to, err := os.Readlink("/proc/thread-self/ns/net")
		lab.Must(t, err)
		return to
	}
	before := where()
	for range 200 { // enough to meet the main thread too
		var inside string
		lab.Must(t, h.Namespace().Do(func() error { inside = where(); return nil }))
		if inside == before {
			t.Fatal("Do stayed where it was")
		}
	}
	if after := where(); after != before {
		t.Errorf("this goroutine is in %s, was in %s", after, before)
	}
	if main, err := os.Readlink("/proc/self/ns/net"); err != nil || main != before {
		t.Errorf("the main thread is in %s, expected %s (%v)", main, before, err)
	}
	var own string
	lab.Must(t, tap.Own().Do(func() error { own = where(); return nil }))
	if own != before {
		t.Errorf("Own is %s, expected %s", own, before)
	}
}

func TestDoReturnsEvenIfItsGoroutineEnds(t *testing.T) {
	h := lab.T(t, "c")
	inner := make(chan error, 1)
	go func() { inner <- h.Do(func() error { runtime.Goexit(); return nil }) }()
	select {
	case err := <-inner:
		if err == nil {
			t.Error("expected an error")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Do hangs")
	}
}
