package egress

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lifetime is how long Local goes by what it has read. An address that the host got meanwhile can be one that a container is not kept
// from for as long.
const lifetime = time.Second

// Local knows this host's own addresses: all that the kernel keeps to itself, which its local routing table says, and not only those of
// interfaces. They are read when somebody asks, at most once a second. Make it with NewLocal.
type Local struct {
	list func() ([]netip.Prefix, error)
	now  func() time.Time

	mu    sync.Mutex
	read  time.Time
	known bool
	addrs map[netip.Addr]struct{}
	wide  []netip.Prefix // of more than one address
}

// NewLocal returns the addresses of the calling process's network namespace.
func NewLocal() *Local { return &Local{list: localRoutes, now: time.Now} }

// Has reports whether a is one of the host's own addresses. Where they cannot be read, every address might be.
func (l *Local) Has(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); l.read.IsZero() || now.Sub(l.read) >= lifetime {
		l.refresh()
		l.read = now
	}
	if !l.known {
		return true
	}
	if _, ok := l.addrs[a]; ok {
		return true
	}
	for _, p := range l.wide {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// refresh reads the addresses; if that fails, those of before hold.
func (l *Local) refresh() {
	all, err := l.list()
	if err != nil {
		return
	}
	l.known, l.addrs, l.wide = true, make(map[netip.Addr]struct{}, len(all)), nil
	for _, p := range all {
		if p.IsSingleIP() {
			l.addrs[p.Addr()] = struct{}{}
		} else {
			l.wide = append(l.wide, p)
		}
	}
}

// localRoutes reads what the kernel delivers to itself.
func localRoutes() (all []netip.Prefix, err error) {
	for _, kind := range []int{unix.RTN_LOCAL, unix.RTN_ANYCAST} {
		filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: kind}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue
			}
			if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
				ones, _ := r.Dst.Mask.Size()
				all = append(all, netip.PrefixFrom(a.Unmap(), ones))
			}
		}
	}
	return all, nil
}
