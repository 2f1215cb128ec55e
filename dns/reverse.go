package dns

import (
	"bytes"
	"net/netip"
	"strconv"
)

// prefixes is a set of subnets, asked in as many steps as they have lengths.
type prefixes struct {
	bits [2][]int // IPv4's, IPv6's
	set  map[netip.Prefix]struct{}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (s *prefixes) add(p netip.Prefix) {
	p = p.Masked()
	if !p.IsValid() {
		return
	}
	if s.set == nil {
		s.set = make(map[netip.Prefix]struct{})
	}
	s.set[p] = struct{}{}
	f := family(p.Addr())
	for _, b := range s.bits[f] {
		if b == p.Bits() {
			return
		}
	}
	s.bits[f] = append(s.bits[f], p.Bits())
}

// contains reports whether all of p is in one of the subnets.
func (s *prefixes) contains(p netip.Prefix) bool {
	for _, b := range s.bits[family(p.Addr())] {
		if b > p.Bits() {
			continue
		}
		wide, _ := p.Addr().Prefix(b)
		if _, ok := s.set[wide]; ok {
			return true
		}
	}
	return false
}

var (
	inAddr    = []byte(".in-addr.arpa")
	ip6       = []byte(".ip6.arpa")
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

// parseReverse reads a name of the trees of addresses (RFC 1035 §3.5, RFC 3596 §2.5): a whole address, or the prefix that its labels
// make. more says that labels stand before it that belong to no address, as in RFC 6763 §11.
func parseReverse(key []byte) (p netip.Prefix, more, ok bool) {
	if rest, found := bytes.CutSuffix(key, inAddr); found {
		return reverse4(rest)
	}
	if rest, found := bytes.CutSuffix(key, ip6); found {
		return reverse6(rest)
	}
	return p, false, false
}

// cutLast splits a name before its last label.
func cutLast(name []byte) (before, label []byte) {
	i := bytes.LastIndexByte(name, '.')
	return name[:max(i, 0)], name[i+1:]
}

func reverse4(rest []byte) (p netip.Prefix, more, ok bool) {
	var a [4]byte
	n := 0
	for n < len(a) && len(rest) > 0 {
		before, label := cutLast(rest)
		v, err := strconv.ParseUint(string(label), 10, 8)
		if err != nil || len(label) > 1 && label[0] == '0' {
			break
		}
		a[n] = byte(v)
		n++
		rest = before
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 8*n), len(rest) > 0, n > 0
}

func reverse6(rest []byte) (p netip.Prefix, more, ok bool) {
	var a [16]byte
	n := 0
	for n < 2*len(a) && len(rest) > 0 {
		before, label := cutLast(rest)
		v, err := strconv.ParseUint(string(label), 16, 4)
		if err != nil || len(label) != 1 {
			break
		}
		a[n/2] |= byte(v) << (4 * (1 - n%2))
		n++
		rest = before
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 4*n), len(rest) > 0, n > 0
}

// reverse decides on the name of an address.
func (z *Zone) reverse(a *asker, key []byte) (r result, ok bool) {
	p, more, ok := parseReverse(key)
	if !ok {
		return r, false
	}
	r.zone = parent(key)
	if loopback4.Contains(p.Addr()) && p.Bits() >= loopback4.Bits() || p == loopback6 {
		return loopbackName(r, p, more), true
	}
	if p.IsSingleIP() && !more {
		for _, n := range a.networks {
			if m := n.reverse[p.Addr()]; m != nil {
				r.rule, r.network, r.member = ruleReverse, n, m
				return r, true
			}
		}
	}
	for _, n := range a.networks {
		if n.subnets.contains(p) {
			r.network = n
			return within(r, ruleReverse, p, more), true
		}
	}
	if z.subnets.contains(p) {
		return within(r, ruleForeign, p, more), true
	}
	return r, false
}

// within decides on a name in our subnets that no record has: there is nothing, save above other names.
func within(r result, by rule, p netip.Prefix, more bool) result {
	r.rule = by
	if more || p.IsSingleIP() {
		r.rcode = rcodeNXDomain
	}
	return r
}

func loopbackName(r result, p netip.Prefix, more bool) result {
	r.rule = ruleLocalhost
	switch {
	case !more && (p.Addr() == loopbackV4 || p == loopback6) && p.IsSingleIP():
		r.member = localhostMember
	case more || p.IsSingleIP():
		r.rcode = rcodeNXDomain
	}
	return r
}
