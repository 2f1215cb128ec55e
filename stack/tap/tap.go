// Package tap holds TAP devices: the interfaces through which containers reach the switch (Linux
// Documentation/networking/tuntap.rst, linux/if_tun.h, linux/virtio_net.h).
//
// A descriptor of /dev/net/tun holds the network namespace in which it was opened. Opened inside the container's, it would
// keep that namespace alive for ever; opened in the host's, it needs the host's CAP_NET_ADMIN and a free name there. So each
// device is born in the nursery, an empty network namespace of the process's own, and moved from there:
//
//	 agent's threads            nursery (anonymous)              container's namespace
//	┌──────────────┐   open    ┌─────────────────────┐   move   ┌──────────────────────────────┐
//	│ Queue 0..n-1 ├──────────►│ wf1f2e3d4c          ├─────────►│ eth0  MAC, MTU, addresses,   │
//	│ Read, Write  │ TUNSETIFF │ offloads, queues    │ RTM_     │       routes, up             │
//	└──────────────┘           └─────────────────────┘ SETLINK  └──────────────────────────────┘
//	       ▲                                                                   │
//	       └──────── EBADFD, POLLERR, Gone: the namespace or the device is gone ┘
//
// This is the same for root and for an ordinary user inside a user namespace. What a Queue reads and writes is one
// virtio_net_hdr and one frame or superframe:
//
//	 0               1               2 3             4 5             6 7             8 9             10
//	┌───────────────┬───────────────┬───────────────┬───────────────┬───────────────┬───────────────┬───────────────┐
//	│ flags         │ gso_type      │ hdr_len       │ gso_size      │ csum_start    │ csum_offset   │ frame ...     │
//	└───────────────┴───────────────┴───────────────┴───────────────┴───────────────┴───────────────┴───────────────┘
package tap

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// What callers test for. Each is wrapped with the name, what was found, and the remedy.
var (
	ErrNamespace    = errors.New("no such network namespace")
	ErrNameTaken    = errors.New("interface name is taken")
	ErrBusy         = errors.New("another process holds the device")
	ErrNotPermitted = errors.New("not permitted")
	ErrNoTUN        = errors.New("no TUN/TAP driver")
	ErrBridge       = errors.New("no such bridge")
	ErrClosed       = errors.New("device is closed")
	ErrGone         = errors.New("device is gone")
)

// Mode is how frames cross the boundary to the kernel.
type Mode uint8

// The two modes. What a Queue reads and writes has the same form in both.
const (
	Offloaded Mode = iota // with virtio_net_hdr: superframes and partial checksums
	Plain                 // one wire frame per call, checksums complete
)

// String returns the mode's name as `weft ports` prints it.
func (m Mode) String() string {
	if m == Plain {
		return "plain"
	}
	return "offloaded"
}

// Route is an entry of the container's routing table through the device. Without Via the destination is on the link.
// Of two to the same destination the kernel takes the one with the lower metric; 0 is the lowest for IPv4, and 1024 for IPv6.
type Route struct {
	Dst    netip.Prefix
	Via    netip.Addr
	Metric int
}

// Config says what Open makes. Only Name is required.
type Config struct {
	Namespace  Namespace      // where the device goes; the zero value is the process's own
	Name       string         // its name there, 1 to 15 bytes
	MAC        frame.MAC      // 0 leaves the kernel's random one
	MTU        int            // 0 leaves the kernel's 1500
	Addresses  []netip.Prefix // with their on-link prefixes
	Routes     []Route
	Queues     int    // 0 is 1
	Persistent bool   // the device stays when its descriptors are closed
	Bridge     string // port of this Linux bridge, instead of addresses
	TxQueueLen int    // 0 is 1000
	GSOMaxSize int    // largest superframe that the container sends; 0 leaves the kernel's 65536
	Plain      bool   // without offloads even where there are some
}

// Device is an open TAP. Its methods may be called from any goroutine.
type Device struct {
	name       string
	mode       Mode
	caps       Caps
	persistent bool
	queues     []*Queue
	dead       int     // the driver without a device; what the queues' descriptors become in the end
	origin     *origin // set if the descriptors pin the container's namespace

	gone     chan struct{}
	goneOnce sync.Once
	mu       sync.Mutex // serializes Close, Remove and what asks the kernel through a queue
	closed   bool
}

// Open makes the device that cfg describes, or takes up the queues of a persistent one that is there already. On an error
// nothing is left behind, but for a device that was there before.
func Open(cfg Config) (*Device, error) { return open(cfg, system) }

func open(cfg Config, k kernel) (*Device, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	ns, err := cfg.Namespace.open()
	if err != nil {
		return nil, fmt.Errorf("tap: open %s: %w", cfg.Name, err)
	}
	defer unix.Close(ns)
	d := &Device{name: cfg.Name, persistent: cfg.Persistent, gone: make(chan struct{})}
	if err := d.open(cfg, k, ns); err != nil {
		d.release()
		return nil, fmt.Errorf("tap: open %s in %s: %w", cfg.Name, cfg.Namespace, err)
	}
	devices.add(d)
	return d, nil
}

// open attaches the queues and puts the device in place. On an error the caller closes what queues there are, which
// removes a new device because it becomes persistent only in the end.
func (d *Device) open(cfg Config, k kernel, ns int) error {
	old, err := lookup(cfg, ns)
	if err != nil {
		return err
	}
	var cradle int
	if cradle, d.dead, err = k.nursery(); err != nil {
		return err
	}
	if old != nil {
		if d.origin, err = originOf(cfg.Namespace, ns); err != nil {
			return err
		}
		if err := doAt(ns, func() error { return d.attach(k, cfg, cfg.Name) }); err != nil {
			return err
		}
	} else if err := d.bear(k, cfg, cradle, ns); err != nil {
		return err
	}
	if err := doAt(ns, func() error { return place(cfg) }); err != nil {
		return err
	}
	if cfg.Persistent {
		if err := unix.IoctlSetInt(d.queues[0].fd, unix.TUNSETPERSIST, 1); err != nil {
			return fmt.Errorf("make it persistent: %w", err)
		}
	}
	return nil
}

// check validates cfg and fills its defaults in.
func (cfg Config) check() (Config, error) {
	if n := len(cfg.Name); n == 0 || n >= unix.IFNAMSIZ || cfg.Name == "." || cfg.Name == ".." || strings.ContainsAny(cfg.Name, "/: \t\n%") {
		return cfg, fmt.Errorf("tap: %q is not an interface name; expected 1 to %d bytes without spaces, '/', ':' or '%%'; choose another name", cfg.Name, unix.IFNAMSIZ-1)
	}
	if cfg.MAC.IsGroup() {
		return cfg, fmt.Errorf("tap: %s: MAC %s is a group address; expected an individual one: clear the lowest bit of the first byte", cfg.Name, cfg.MAC)
	}
	if cfg.MTU != 0 && (cfg.MTU < 68 || cfg.MTU > 65521) {
		return cfg, fmt.Errorf("tap: %s: MTU %d is out of range; expected 68 to 65521, or 0 for the default", cfg.Name, cfg.MTU)
	}
	if cfg.Queues == 0 {
		cfg.Queues = 1
	}
	if cfg.Queues < 0 || cfg.Queues > 256 {
		return cfg, fmt.Errorf("tap: %s: %d queues; the kernel has 1 to 256 for a device", cfg.Name, cfg.Queues)
	}
	if cfg.GSOMaxSize < 0 || cfg.GSOMaxSize > 65536 {
		return cfg, fmt.Errorf("tap: %s: superframes of %d bytes; expected up to 65536, or 0 for the kernel's default", cfg.Name, cfg.GSOMaxSize)
	}
	if cfg.TxQueueLen == 0 {
		cfg.TxQueueLen = 1000
	}
	if cfg.Bridge != "" && len(cfg.Addresses)+len(cfg.Routes) > 0 {
		return cfg, fmt.Errorf("tap: %s: a port of bridge %s has no addresses or routes of its own; give them to the bridge or to the containers behind it", cfg.Name, cfg.Bridge)
	}
	for _, p := range cfg.Addresses {
		if !p.IsValid() {
			return cfg, fmt.Errorf("tap: %s: invalid address; expected one with its prefix length, such as 10.0.0.2/24", cfg.Name)
		}
		if p.Addr().Is6() && cfg.MTU != 0 && cfg.MTU < 1280 {
			return cfg, fmt.Errorf("tap: %s: IPv6 address %s with an MTU of %d; IPv6 needs 1280: raise the MTU or leave the address out", cfg.Name, p, cfg.MTU)
		}
	}
	for _, r := range cfg.Routes {
		if !r.Dst.IsValid() || r.Via.IsValid() && r.Via.Is4() != r.Dst.Addr().Is4() {
			return cfg, fmt.Errorf("tap: %s: route to %s via %s; expected a prefix and a gateway of the same family", cfg.Name, r.Dst, r.Via)
		}
	}
	return cfg, nil
}

// Name returns the name that the device was opened with.
func (d *Device) Name() string { return d.name }

// Mode reports whether frames carry offloads.
func (d *Device) Mode() Mode { return d.mode }

// Caps returns what the kernel agreed to exchange through the device.
func (d *Device) Caps() Caps { return d.caps }

// Queues returns the device's queues. The kernel spreads the container's flows over them; any may be written to.
func (d *Device) Queues() []*Queue { return d.queues }

// Gone is closed when the container's namespace or the device is gone. Every Read and Write fails with EBADFD then. Who
// does neither learns it within a quarter of a second.
func (d *Device) Gone() <-chan struct{} { return d.gone }

func (d *Device) markGone() { d.goneOnce.Do(func() { close(d.gone) }) }

// Close gives the queues up, and removes the device unless it is persistent. Reads and writes that are under way, or come
// later, fail with EBADFD: threads that still run do no harm. It is idempotent, and waits for what other callers of Close
// do.
func (d *Device) Close() error { return d.end(!d.persistent) }

// Remove is Close for good: a persistent device is removed too.
func (d *Device) Remove() error { return d.end(true) }

func (d *Device) end(remove bool) error {
	devices.remove(d)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		if remove && d.persistent {
			return fmt.Errorf("tap: remove %s: %w; it is persistent, so open it again and remove it then", d.name, ErrClosed)
		}
		return nil
	}
	d.closed = true
	var err error
	if remove {
		d.persistent = false
		// Explicitly, so that it is gone on return even while another thread polls a queue; already gone is as good.
		if err = d.delete(); errors.Is(err, ErrGone) {
			err = nil
		}
	}
	d.release()
	return err
}

// release closes the queues.
func (d *Device) release() {
	for _, q := range d.queues {
		q.retire()
	}
}
