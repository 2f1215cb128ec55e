package ipam

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func addrs(texts ...string) (list []netip.Addr) {
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

func TestSubnetIsTheLowestFreeOne(t *testing.T) {
	for _, c := range []struct {
		name  string
		pools []Pool
		avoid []netip.Prefix
		want  string // empty: none
	}{
		{"the first of an untouched pool", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, nil, "10.0.0.0/24"},
		{"the gap between two", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, prefixes("10.0.2.0/24", "10.0.0.0/24"), "10.0.1.0/24"},
		{"past a route that is larger than it", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, prefixes("10.0.0.0/12"), "10.16.0.0/24"},
		{"past a host route inside it", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, prefixes("10.0.0.77/32"), "10.0.1.0/24"},
		{"past nested and repeated ones", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, prefixes("10.0.0.0/16", "10.0.3.0/24", "10.0.0.0/16"), "10.1.0.0/24"},
		{"not a gap that is too small", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 23}}, prefixes("10.0.0.0/24"), "10.0.2.0/23"},
		{"the next pool when the first is full", []Pool{{netip.MustParsePrefix("10.0.0.0/24"), 24}, {netip.MustParsePrefix("172.16.0.0/12"), 20}}, prefixes("10.0.0.0/24"), "172.16.0.0/20"},
		{"none when a route covers the pool", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, prefixes("0.0.0.0/1"), ""},
		{"none when the end of all addresses is taken", []Pool{{netip.MustParsePrefix("255.255.254.0/23"), 24}}, prefixes("255.255.254.0/24", "255.255.255.255/32"), ""},
		{"routes of the other family do not matter", []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, prefixes("::/0"), "10.0.0.0/24"},
		{"IPv6 across the 64th bit", []Pool{{netip.MustParsePrefix("fd00::/48"), 80}}, prefixes("fd00::/64"), "fd00:0:0:1::/80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Subnet(c.pools, c.avoid)
			if c.want == "" {
				if ok {
					t.Fatalf("got %s; want none", got)
				}
			} else if !ok || got.String() != c.want {
				t.Fatalf("got %s %t; want %s", got, ok, c.want)
			}
		})
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8":       "",
		"10.0.0.0/30":      "",
		"fd00::/64":        "",
		"fd00::/126":       "",
		"10.0.0.5/24":      "use 10.0.0.0/24",
		"10.0.0.0/31":      "too small; expected /30",
		"fd00::/127":       "too small; expected /126",
		"127.1.0.0/24":     "loopback",
		"224.0.1.0/24":     "multicast",
		"169.254.0.0/16":   "link-local",
		"fe80::/64":        "link-local",
		"ff02::/64":        "multicast",
		"0.0.0.0/0":        "this host",
		"::/0":             "loopback",
		"::ffff:a00:0/120": "IPv4 in IPv6",
	} {
		err := Check(netip.MustParsePrefix(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
	if Check(netip.Prefix{}) == nil {
		t.Error("the zero prefix passed")
	}
	for _, p := range []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 7}, {netip.MustParsePrefix("10.0.0.0/8"), 31}, {netip.MustParsePrefix("10.0.0.1/8"), 24}, {}} {
		if p.Check() == nil {
			t.Errorf("pool %s passed", p)
		}
	}
	if err := (Pool{netip.MustParsePrefix("10.0.0.0/8"), 24}).Check(); err != nil {
		t.Error(err)
	}
}

func TestRangeLeavesOutWhatIsNoHosts(t *testing.T) {
	r := RangeOf(netip.MustParsePrefix("10.0.0.0/29"), netip.Prefix{}, addrs("10.0.0.1", "10.0.0.5", "10.9.9.9", "10.0.0.1")...)
	if got, want := r.Free(9), addrs("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"); !slices.Equal(got, want) {
		t.Fatalf("free: %s; want %s", got, want)
	}
	if r.Size() != 4 {
		t.Fatalf("size %d; want 4", r.Size())
	}
	if got, want := r.Usage(addrs("10.0.0.3", "10.0.0.4")), (Usage{Size: 4, Leased: 2, Free: 2, Reserved: 4}); got != want {
		t.Fatalf("usage %+v; want %+v", got, want)
	}
	six := RangeOf(netip.MustParsePrefix("fd00::/126"), netip.Prefix{})
	if got, want := six.Free(9), addrs("fd00::1", "fd00::2", "fd00::3"); !slices.Equal(got, want) {
		t.Fatalf("IPv6: %s; want %s: no broadcast, but a routers' anycast address", got, want)
	}
}

func TestRangeInsideItsSubnet(t *testing.T) {
	subnet, within := netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.0.252/30")
	r := RangeOf(subnet, within)
	if got, want := r.Free(9, addrs("10.0.0.7", "10.0.0.253")), addrs("10.0.0.252", "10.0.0.254"); !slices.Equal(got, want) {
		t.Fatalf("free: %s; want %s", got, want)
	}
	if got, want := r.Usage(addrs("10.0.0.7", "10.0.0.253")), (Usage{Size: 3, Leased: 2, Free: 2, Reserved: 1}); got != want {
		t.Fatalf("usage %+v; want %+v: an address outside of the range is leased, but takes none of it", got, want)
	}
	if n := RangeOf(subnet, netip.MustParsePrefix("10.0.0.0/32")); n.Size() != 0 || n.Free(1) != nil || n.Usage() != (Usage{Reserved: 1}) {
		t.Fatalf("the network address alone: size %d, free %s, usage %+v", n.Size(), n.Free(1), n.Usage())
	}
	if n := RangeOf(subnet, netip.MustParsePrefix("10.9.0.0/24")); n.Size() != 0 || n.Contains(netip.MustParseAddr("10.9.0.1")) {
		t.Fatal("a part outside of the subnet has addresses")
	}
}

func TestHugeRanges(t *testing.T) {
	r := RangeOf(netip.MustParsePrefix("fd00::/8"), netip.Prefix{}, addrs("fd00::1")...)
	if r.Size() != math.MaxUint64 {
		t.Errorf("size %d; want the largest", r.Size())
	}
	if got := r.Free(1, addrs("fd00::2", "fdff::1")); !slices.Equal(got, addrs("fd00::3")) {
		t.Errorf("free: %s", got)
	}
	if r := RangeOf(netip.MustParsePrefix("fd00::/64"), netip.Prefix{}, addrs("fd00::1")...); r.Size() != math.MaxUint64-1 {
		t.Errorf("a /64 without its first two: %d", r.Size())
	}
	if r := RangeOf(netip.MustParsePrefix("10.0.0.0/8"), netip.Prefix{}); r.Size() != 1<<24-2 {
		t.Errorf("a /8: %d", r.Size())
	}
}

func TestULA(t *testing.T) {
	p := ULA([]byte("a cluster"), 0x1001)
	if !netip.MustParsePrefix("fd00::/8").Overlaps(p) || p.Bits() != 64 || p != p.Masked() {
		t.Fatalf("%s is no unique local /64", p)
	}
	if b := p.Addr().As16(); b[6] != 0x10 || b[7] != 0x01 {
		t.Fatalf("%s does not have the subnet ID 1001", p)
	}
	if p == ULA([]byte("another"), 0x1001) || p != ULA([]byte("a cluster"), 0x1001) {
		t.Fatal("the seed does not decide the prefix")
	}
}

// drawPrefix returns a prefix inside base, up to the longest length.
func drawPrefix(t *rapid.T, base netip.Prefix, longest int, label string) netip.Prefix {
	offset := rapid.Uint64Range(0, spanOf(base).size().minus(one).saturated()).Draw(t, label)
	a := numberOf(base.Addr()).plus(number{lo: offset}).addr(base.Addr().Is4())
	p, _ := a.Prefix(rapid.IntRange(base.Bits(), longest).Draw(t, label+" length"))
	return p
}

// drawBase returns a small prefix of either family, so that an oracle can walk over it.
func drawBase(t *rapid.T) netip.Prefix {
	return rapid.SampledFrom(prefixes("10.0.0.0/22", "255.255.252.0/22", "fd00::/118", "fd00:0:0:0:ffff:ffff:ffff:fc00/118", "fd00::ffff:ffff:ffff:0/118")).Draw(t, "base").Masked()
}

func TestSubnetAgreesWithAWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		pool := Pool{base, rapid.IntRange(base.Bits(), base.Addr().BitLen()-2).Draw(t, "size")}
		var avoid []netip.Prefix
		for range rapid.IntRange(0, 12).Draw(t, "avoided") {
			avoid = append(avoid, drawPrefix(t, base, base.Addr().BitLen(), "avoid"))
		}
		var want netip.Prefix
		for i := uint64(0); i < pool.Count() && !want.IsValid(); i++ {
			at := numberOf(base.Addr()).plus(number{lo: i << (base.Addr().BitLen() - pool.Size)})
			p := netip.PrefixFrom(at.addr(base.Addr().Is4()), pool.Size)
			if !slices.ContainsFunc(avoid, p.Overlaps) {
				want = p
			}
		}
		if got, ok := Subnet([]Pool{pool}, avoid); ok != want.IsValid() || got != want {
			t.Fatalf("got %s %t; a walk finds %s", got, ok, want)
		}
	})
}

func TestRangeAgreesWithAWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		subnet := drawBase(t)
		within := drawPrefix(t, subnet, subnet.Addr().BitLen(), "within")
		one := func(label string) netip.Addr { return drawPrefix(t, subnet, subnet.Addr().BitLen(), label).Addr() }
		var reserved []netip.Addr
		for range rapid.IntRange(0, 4).Draw(t, "reserved") {
			reserved = append(reserved, one("reserved"))
		}
		taken, lists := map[netip.Addr]bool{}, make([][]netip.Addr, 3)
		for range rapid.IntRange(0, 60).Draw(t, "taken") {
			a := one("taken")
			if !taken[a] && !slices.Contains(reserved, a) && !Unusable(subnet, a) {
				taken[a] = true
				i := rapid.IntRange(0, 2).Draw(t, "list")
				lists[i] = append(lists[i], a)
			}
		}
		for _, l := range lists {
			slices.SortFunc(l, netip.Addr.Compare)
		}

		r := RangeOf(subnet, within, reserved...)
		var free []netip.Addr
		var size, total uint64
		for a := within.Addr(); within.Contains(a); a = a.Next() {
			total++
			ok := !Unusable(subnet, a) && !slices.Contains(reserved, a)
			if ok != r.Contains(a) {
				t.Fatalf("Contains(%s) is %t", a, !ok)
			}
			if ok {
				size++
				if !taken[a] {
					free = append(free, a)
				}
			}
		}
		n := rapid.IntRange(0, 300).Draw(t, "n")
		if got, want := r.Free(n, lists...), free[:min(n, len(free))]; !slices.Equal(got, want) {
			t.Fatalf("Free(%d) = %s; a walk finds %s", n, got, want)
		}
		want := Usage{Size: size, Leased: uint64(len(taken)), Free: uint64(len(free)), Reserved: total - size}
		if got := r.Usage(lists...); got != want || r.Size() != size {
			t.Fatalf("usage %+v; a walk finds %+v", got, want)
		}
	})
}

func BenchmarkFreeOfASlash8(b *testing.B) {
	r := RangeOf(netip.MustParsePrefix("10.0.0.0/8"), netip.Prefix{}, addrs("10.0.0.1")...)
	var taken [][]netip.Addr
	all := r.Free(300 * 32)
	for i := range 300 {
		taken = append(taken, all[i*32:(i+1)*32])
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Free(32, taken...)
	}
}
