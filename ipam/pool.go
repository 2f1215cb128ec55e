package ipam

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
)

// Pool is a range that subnets of one size are cut from.
type Pool struct {
	Base netip.Prefix
	Size int // prefix length of each subnet
}

// String returns the pool as in "/24 of 10.0.0.0/8".
func (p Pool) String() string { return fmt.Sprintf("/%d of %s", p.Size, p.Base) }

// Check says what is wrong with a pool.
func (p Pool) Check() error {
	if err := Check(p.Base); err != nil {
		return fmt.Errorf("address pool: %w", err)
	}
	if longest := p.Base.Addr().BitLen() - 2; p.Size < p.Base.Bits() || p.Size > longest {
		return fmt.Errorf("address pool %s: subnets of size /%d; expected /%d to /%d", p.Base, p.Size, p.Base.Bits(), longest)
	}
	return nil
}

// Count returns how many subnets a pool has, at most the largest uint64.
func (p Pool) Count() uint64 { return ones(p.Size - p.Base.Bits()).plus(one).saturated() }

// Subnet returns the lowest subnet of the first pool that has one which overlaps none of the prefixes; false if no pool has.
func Subnet(pools []Pool, avoid []netip.Prefix) (netip.Prefix, bool) {
	for _, p := range pools {
		if s, ok := p.subnet(avoid); ok {
			return s, true
		}
	}
	return netip.Prefix{}, false
}

func (p Pool) subnet(avoid []netip.Prefix) (netip.Prefix, bool) {
	var taken []span
	for _, a := range avoid {
		if a.Overlaps(p.Base) {
			taken = append(taken, spanOf(a))
		}
	}
	slices.SortFunc(taken, func(a, b span) int { return a.first.compare(b.first) })

	base, host := spanOf(p.Base), ones(p.Base.Addr().BitLen()-p.Size)
	at := base.first
	for _, t := range taken {
		if t.last.compare(at) < 0 {
			continue
		}
		if t.first.compare(at.or(host)) > 0 {
			break
		}
		end := t.last.or(host) // of the last subnet that this one touches
		if end.compare(base.last) >= 0 {
			return netip.Prefix{}, false
		}
		at = end.plus(one)
	}
	return netip.PrefixFrom(at.addr(p.Base.Addr().Is4()), p.Size), true
}

// ULA returns the /64 that RFC 4193 section 3.1 makes of a global ID, here the seed's hash, and a subnet ID.
func ULA(seed []byte, subnet uint16) netip.Prefix {
	sum := sha256.Sum256(seed)
	b := [16]byte{0: 0xfd, 6: byte(subnet >> 8), 7: byte(subnet)}
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// unfit are ranges that no network can have, with what they are for.
var unfit = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("::/127"), "loopback"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4 in IPv6"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// Check says why a network cannot have a subnet: it has host bits, too few addresses, or is meant for something else.
func Check(p netip.Prefix) error {
	if !p.IsValid() {
		return fmt.Errorf("subnet %q; expected ADDRESS/LENGTH", p)
	}
	if m := p.Masked(); m != p {
		return fmt.Errorf("subnet %s has bits beyond its length; use %s", p, m)
	}
	if longest := p.Addr().BitLen() - 2; p.Bits() > longest {
		return fmt.Errorf("subnet %s is too small; expected /%d or shorter", p, longest)
	}
	for _, u := range unfit {
		if u.prefix.Overlaps(p) {
			return fmt.Errorf("subnet %s overlaps %s, which is for %s addresses; use another", p, u.prefix, u.what)
		}
	}
	return nil
}
