package ipam

import (
	"math/bits"
	"net/netip"
	"slices"
)

// Range is the addresses of a subnet that are handed out. The zero Range has none.
type Range struct {
	subnet   netip.Prefix
	span     span // without the network and the broadcast address
	within   span // with them
	some     bool // the span has a number
	reserved []netip.Addr
}

// RangeOf returns the addresses of a subnet that can be handed out: those of the part within, without the reserved ones and
// those that are no host's (Unusable). The part must lie inside the subnet; the zero Prefix means all of it.
func RangeOf(subnet, within netip.Prefix, reserved ...netip.Addr) Range {
	if !within.IsValid() {
		within = subnet
	}
	if !subnet.Overlaps(within) {
		return Range{}
	}
	r := Range{subnet: subnet.Masked(), within: spanOf(within)}
	r.span = r.within
	all := spanOf(subnet)
	if r.span.first == all.first {
		r.span.first = all.first.plus(one)
	}
	if r.span.last == all.last && subnet.Addr().Is4() {
		r.span.last = all.last.minus(one)
	}
	r.some = r.span.first.compare(r.span.last) <= 0
	for _, a := range reserved {
		if r.inSpan(a) {
			r.reserved = append(r.reserved, a)
		}
	}
	slices.SortFunc(r.reserved, netip.Addr.Compare)
	r.reserved = slices.Compact(r.reserved)
	return r
}

// Unusable reports whether an address of a subnet is no host's: IPv4's network and broadcast address, IPv6's anycast address
// of the routers.
func Unusable(subnet netip.Prefix, a netip.Addr) bool {
	s, n := spanOf(subnet), numberOf(a)
	return n == s.first || a.Is4() && n == s.last
}

func (r Range) inSpan(a netip.Addr) bool {
	if !r.some || a.Zone() != "" || a.BitLen() != r.subnet.Addr().BitLen() {
		return false
	}
	n := numberOf(a)
	return r.span.first.compare(n) <= 0 && n.compare(r.span.last) <= 0
}

// Contains reports whether an address can be handed out.
func (r Range) Contains(a netip.Addr) bool {
	if !r.inSpan(a) {
		return false
	}
	_, reserved := slices.BinarySearchFunc(r.reserved, a, netip.Addr.Compare)
	return !reserved
}

// Size returns how many addresses can be handed out, at most the largest uint64.
func (r Range) Size() uint64 {
	if !r.some {
		return 0
	}
	return r.span.size().minus(number{lo: uint64(len(r.reserved))}).saturated()
}

// part returns those of the ascending addresses that lie in the range.
func (r Range) part(taken []netip.Addr) []netip.Addr {
	if !r.some {
		return nil
	}
	v4 := r.subnet.Addr().Is4()
	first, last := r.span.first.addr(v4), r.span.last.addr(v4)
	if len(taken) == 0 || first.Compare(taken[0]) <= 0 && taken[len(taken)-1].Compare(last) <= 0 {
		return taken // as nearly always
	}
	from, _ := slices.BinarySearchFunc(taken, first, netip.Addr.Compare)
	to, found := slices.BinarySearchFunc(taken[from:], last, netip.Addr.Compare)
	if found {
		to++
	}
	return taken[from : from+to]
}

// Free returns the lowest n addresses that can be handed out and are not taken, or fewer if there are fewer. Each list of
// taken addresses is ascending.
func (r Range) Free(n int, taken ...[]netip.Addr) []netip.Addr {
	if !r.some || n <= 0 {
		return nil
	}
	parts := make([][]netip.Addr, 0, len(taken)+1)
	parts = append(parts, r.reserved)
	window := uint64(n + len(r.reserved))
	for _, t := range taken {
		if p := r.part(t); len(p) > 0 {
			parts = append(parts, p)
			window += uint64(len(p))
		}
	}
	// n of the lowest n+m addresses are free when m are taken, so none beyond them matters.
	if less := r.span.last.minus(r.span.first).saturated(); less < window {
		window = less + 1
	}
	used := make([]uint64, (window+63)/64)
	for _, p := range parts {
		for _, a := range p {
			at := numberOf(a).minus(r.span.first).saturated()
			if at >= window {
				break
			}
			used[at/64] |= 1 << (at % 64)
		}
	}
	return r.unset(used, window, n)
}

// unset returns the addresses of the lowest n bits below the window that are not set.
func (r Range) unset(used []uint64, window uint64, n int) []netip.Addr {
	v4 := r.subnet.Addr().Is4()
	var free []netip.Addr
	for i, word := range used {
		for word = ^word; word != 0; word &= word - 1 {
			at := uint64(i*64 + bits.TrailingZeros64(word))
			if at >= window || len(free) == n {
				return free
			}
			free = append(free, r.span.first.plus(number{lo: at}).addr(v4))
		}
	}
	return free
}

// Usage is how full a range is. Numbers beyond the largest uint64 are that.
type Usage struct {
	Size     uint64 // addresses that can be handed out
	Leased   uint64 // addresses taken, in all of the subnet: who asks for one gets it outside of the range too
	Free     uint64 // addresses that can be handed out and are not taken
	Reserved uint64 // addresses of the range that cannot be handed out
}

// Usage counts. Each list of taken addresses is ascending, has no reserved ones, and shares none with another.
func (r Range) Usage(taken ...[]netip.Addr) Usage {
	u := Usage{Size: r.Size()}
	whole := RangeOf(r.subnet, netip.Prefix{})
	in := uint64(0)
	for _, t := range taken {
		in += uint64(len(r.part(t)))
		u.Leased += uint64(len(whole.part(t)))
	}
	u.Free = u.Size - min(in, u.Size)
	if r.some {
		u.Reserved = r.within.size().minus(r.span.size()).saturated() + uint64(len(r.reserved))
	} else if r.subnet.IsValid() {
		u.Reserved = r.within.size().saturated()
	}
	return u
}
