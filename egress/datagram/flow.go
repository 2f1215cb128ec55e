package datagram

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Flow is what one container sends from one port, or with one echo id, to one remote.
type Flow struct {
	Network            string
	Proto              uint8          // frame.ProtoUDP, ProtoICMP or ProtoICMPv6
	Container          netip.AddrPort // with its source port or echo id
	Remote             netip.AddrPort // as the container knows it; port 0 for echo requests
	Local              netip.AddrPort // the socket on this host, which is on all its addresses
	TxPackets, TxBytes uint64         // from the container
	RxPackets, RxBytes uint64         // to it
	Age, Idle, Timeout time.Duration
}

// Flows lists the flows that there are now.
func (t *Table) Flows() (all []Flow) {
	now := t.clock()
	for i := range t.shards {
		for _, m := range t.shards[i].list() {
			local := m.local()
			m.mu.Lock()
			for _, r := range m.remotes {
				f := r.flow(now)
				f.Local = local
				all = append(all, f)
			}
			m.mu.Unlock()
		}
	}
	return all
}

func (r *remote) flow(now int64) Flow {
	return Flow{
		Network: r.m.key.net.name, Proto: r.m.key.proto, Container: r.m.container(), Remote: r.dst,
		TxPackets: r.txPackets.Load(), TxBytes: r.txBytes.Load(), RxPackets: r.rxPackets.Load(), RxBytes: r.rxBytes.Load(),
		Age: time.Duration(now - r.born), Idle: time.Duration(max(now-max(r.sent.Load(), r.got.Load()), 0)), Timeout: r.timeout(),
	}
}

// local returns where the mapping's socket is on this host, the zero AddrPort if it is closed.
func (m *mapping) local() netip.AddrPort {
	m.out.Lock()
	defer m.out.Unlock()
	if m.closed {
		return netip.AddrPort{}
	}
	name, err := unix.Getsockname(m.sock)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// container returns the container's address with the port or echo id.
func (m *mapping) container() netip.AddrPort { return netip.AddrPortFrom(m.key.addr, m.key.port) }

// Stats is how much of what is bounded is in use, and what is refused on the host's account.
type Stats struct {
	Sockets, MaxSockets int
	PingRefused         uint64 // echo requests that net.ipv4.ping_group_range did not let out
}

// Stats returns how things stand.
func (t *Table) Stats() Stats {
	t.sockets.mu.Lock()
	defer t.sockets.mu.Unlock()
	return Stats{Sockets: t.sockets.sum, MaxSockets: t.sockets.all, PingRefused: t.noPing.Load()}
}
