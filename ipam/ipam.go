// Package ipam is the arithmetic of addresses: which subnet of a pool is free, which addresses of a subnet can be handed out,
// which of those are free, and how many there are. It keeps no state and follows RFC 4632 (prefixes), RFC 4291 section 2.6.1
// (a subnet's first IPv6 address is every router's) and RFC 4193 (unique local prefixes).
//
//	pool    |-------- 10.0.0.0/8 ---------------------------------------------|   cut into subnets of one size
//	avoid   |--|      |-----|          networks, and routes of any node
//	subnet  .. |--| ..                 the lowest that overlaps none of them
//	            |
//	subnet  10.0.1.0/24    0 |1 ........ 127|128 ............. 254| 255
//	                       |  |              '-- range 10.0.1.128/25
//	                network   gateway (reserved, as auxiliary ones)    broadcast
//
// Nothing here walks over addresses one by one: a range is a first and a last, and a search for n free addresses among m taken
// ones looks at the m + n lowest only, for one of them must be free. So a /8 costs what a /24 does.
package ipam

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// number is an address as a number of 128 bits; an IPv4 address uses the lowest 32.
type number struct{ hi, lo uint64 }

var one = number{lo: 1}

// numberOf returns an address as a number.
func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return number{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

// addr is the inverse of numberOf.
func (n number) addr(v4 bool) netip.Addr {
	if v4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

func (n number) compare(m number) int {
	if c := cmp.Compare(n.hi, m.hi); c != 0 {
		return c
	}
	return cmp.Compare(n.lo, m.lo)
}

func (n number) plus(m number) number {
	lo, carry := bits.Add64(n.lo, m.lo, 0)
	hi, _ := bits.Add64(n.hi, m.hi, carry)
	return number{hi, lo}
}

func (n number) minus(m number) number {
	lo, borrow := bits.Sub64(n.lo, m.lo, 0)
	hi, _ := bits.Sub64(n.hi, m.hi, borrow)
	return number{hi, lo}
}

func (n number) or(m number) number { return number{n.hi | m.hi, n.lo | m.lo} }

// saturated returns the number, or the largest of 64 bits.
func (n number) saturated() uint64 {
	if n.hi != 0 {
		return math.MaxUint64
	}
	return n.lo
}

// ones returns the number whose lowest bits are set, that many of them.
func ones(count int) number {
	switch {
	case count >= 128:
		return number{math.MaxUint64, math.MaxUint64}
	case count >= 64:
		return number{1<<(count-64) - 1, math.MaxUint64}
	}
	return number{lo: 1<<count - 1}
}

// span is all numbers from first to last, both included.
type span struct{ first, last number }

// spanOf returns the addresses of a prefix.
func spanOf(p netip.Prefix) span {
	first := numberOf(p.Masked().Addr())
	return span{first, first.or(ones(p.Addr().BitLen() - p.Bits()))}
}

// size returns how many numbers a span has. No subnet is all of IPv6's (Check), so that fits.
func (s span) size() number { return s.last.minus(s.first).plus(one) }
