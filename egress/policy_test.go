package egress

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/stack/frame"
)

// own is a Host with fixed addresses.
type own map[netip.Addr]bool

func (o own) Has(a netip.Addr) bool { return o[a] }

func prefixes(s ...string) (all []netip.Prefix) {
	for _, p := range s {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

// sample is the policy of a network beside others.
func sample(m Mode) *Policy {
	return &Policy{
		Mode:    m,
		Foreign: prefixes("10.5.0.0/24", "10.6.0.0/16", "fd55::/64"),
		Host:    own{netip.MustParseAddr("192.168.1.10"): true, netip.MustParseAddr("2001:db8::10"): true},
		Closed: []Socket{
			{Protocol: frame.ProtoTCP, Port: 7946}, {Protocol: frame.ProtoUDP, Port: 7946}, {Protocol: frame.ProtoTCP, Port: 2377},
			{Protocol: frame.ProtoUDP, Port: 4789, Everywhere: true},
		},
	}
}

func TestAPolicyAdmitsWhatTheHostReachesAndNothingOfTheCluster(t *testing.T) {
	for name, c := range map[string]struct {
		dst            string
		internet, full Verdict
	}{
		"the outside":                               {"93.184.216.34", Allowed, Allowed},
		"the outside, IPv6":                         {"2606:2800:220:1::1", Allowed, Allowed},
		"a private address":                         {"192.168.1.1", Allowed, Allowed},
		"a unique local address":                    {"fd00::1", Allowed, Allowed},
		"the host":                                  {"192.168.1.10", Allowed, Allowed},
		"shared address space":                      {"100.64.0.1", Allowed, Allowed},
		"benchmarking addresses":                    {"198.18.0.1", Allowed, Allowed},
		"unspecified":                               {"0.0.0.0", Unspecified, Unspecified},
		"unspecified, IPv6":                         {"::", Unspecified, Unspecified},
		"this network":                              {"0.1.2.3", Reserved, Reserved},
		"loopback":                                  {"127.0.0.1", Loopback, Loopback},
		"loopback, the last":                        {"127.255.255.254", Loopback, Loopback},
		"loopback, IPv6":                            {"::1", Loopback, Loopback},
		"multicast":                                 {"224.0.0.1", Multicast, Multicast},
		"multicast, the last":                       {"239.255.255.255", Multicast, Multicast},
		"multicast, IPv6":                           {"ff02::1", Multicast, Multicast},
		"global multicast, IPv6":                    {"ff0e::1", Multicast, Multicast},
		"broadcast":                                 {"255.255.255.255", Broadcast, Broadcast},
		"class E":                                   {"240.0.0.1", Reserved, Reserved},
		"IPv4-compatible":                           {"::8.8.8.8", Reserved, Reserved},
		"another network":                           {"10.5.0.7", OtherNetwork, OtherNetwork},
		"another network's gateway":                 {"10.6.0.1", OtherNetwork, OtherNetwork},
		"another network, IPv6":                     {"fd55::7", OtherNetwork, OtherNetwork},
		"beside another network":                    {"10.5.1.7", Allowed, Allowed},
		"beside another network, IPv6":              {"fd55:0:0:1::7", Allowed, Allowed},
		"a cloud's metadata":                        {"169.254.169.254", LinkLocal, Allowed},
		"credentials of an ECS task":                {"169.254.170.2", LinkLocal, Allowed},
		"link-local, IPv6":                          {"fe80::1", LinkLocal, Allowed},
		"link-local, IPv6, the last":                {"febf::1", LinkLocal, Allowed},
		"metadata of AWS, IPv6":                     {"fd00:ec2::254", Metadata, Allowed},
		"the DNS of AWS, IPv6":                      {"fd00:ec2::253", Metadata, Allowed},
		"metadata of Alibaba Cloud":                 {"100.100.100.200", Metadata, Allowed},
		"metadata of Alibaba Cloud, IPv6":           {"fd00:100::100:200", Metadata, Allowed},
		"the wire server of Azure":                  {"168.63.129.16", Metadata, Allowed},
		"metadata of Google Cloud, IPv6":            {"fd20:ce::254", Metadata, Allowed},
		"metadata of Oracle Cloud, IPv6":            {"fd00:c1::a9fe:a9fe", Metadata, Allowed},
		"metadata of Oracle Cloud, the older":       {"192.0.0.192", Metadata, Allowed},
		"metadata of Scaleway, IPv6":                {"fd00:42::42", Metadata, Allowed},
		"metadata of Akamai, IPv6":                  {"fd00:a9fe:a9fe::1", Metadata, Allowed},
		"beside metadata":                           {"100.100.100.201", Allowed, Allowed},
		"IPv4-mapped, of the outside":               {"::ffff:8.8.8.8", Reserved, Reserved},
		"IPv4-mapped, of loopback":                  {"::ffff:127.0.0.1", Loopback, Loopback},
		"IPv4-mapped, of another network":           {"::ffff:10.5.0.7", OtherNetwork, OtherNetwork},
		"IPv4-mapped, of metadata":                  {"::ffff:169.254.169.254", LinkLocal, Reserved},
		"NAT64, of the outside":                     {"64:ff9b::8.8.8.8", Allowed, Allowed},
		"NAT64, of another network":                 {"64:ff9b::10.5.0.7", OtherNetwork, OtherNetwork},
		"NAT64, of loopback":                        {"64:ff9b::127.0.0.1", Loopback, Loopback},
		"NAT64, of metadata":                        {"64:ff9b::169.254.169.254", LinkLocal, Allowed},
		"NAT64, of Azure's wire server":             {"64:ff9b::168.63.129.16", Metadata, Allowed},
		"local NAT64 of 96 bits, of the outside":    {"64:ff9b:1::8.8.8.8", Allowed, Allowed},
		"local NAT64 of 96 bits, another one":       {"64:ff9b:1:fffe::8.8.8.8", Allowed, Allowed},
		"local NAT64 of 96 bits, another network":   {"64:ff9b:1:fffe::10.5.0.7", OtherNetwork, OtherNetwork},
		"local NAT64 of 48 bits, of the outside":    {"64:ff9b:1:808:8:800::", Allowed, Allowed},
		"local NAT64 of 48 bits, another network":   {"64:ff9b:1:a05:0:700::", OtherNetwork, OtherNetwork},
		"local NAT64 of 48 bits, loopback":          {"64:ff9b:1:7f00:0:100::", Loopback, Loopback},
		"local NAT64 of 56 bits, another network":   {"64:ff9b:1:220a:5:7::", OtherNetwork, OtherNetwork},
		"local NAT64 of 64 bits, another network":   {"64:ff9b:1:2222:a:500:700:0", OtherNetwork, OtherNetwork},
		"local NAT64 of 64 bits, metadata":          {"64:ff9b:1:2222:a9:fea9:fe00:0", LinkLocal, Allowed},
		"IPv4-translatable, of another network":     {"::ffff:0:10.5.0.7", OtherNetwork, OtherNetwork},
		"6to4, of the outside":                      {"2002:808:808::1", Allowed, Allowed},
		"6to4, of another network":                  {"2002:a05:7::1", OtherNetwork, OtherNetwork},
		"6to4, of metadata":                         {"2002:a9fe:a9fe::1", LinkLocal, Allowed},
		"Teredo, of the outside":                    {"2001:0:808:808:0:1234:f7f7:f7f7", Allowed, Allowed},
		"Teredo, with a server of another network":  {"2001:0:a05:7:0:1234:f7f7:f7f7", OtherNetwork, OtherNetwork},
		"Teredo, with a client on another network":  {"2001:0:808:808:0:1234:f5fa:fff8", OtherNetwork, OtherNetwork},
		"Teredo, with loopback behind it":           {"2001:0:808:808:0:1234:80ff:fffe", Loopback, Loopback},
		"IETF assignments that are no Teredo":       {"2001:1::1", Allowed, Allowed},
		"link-local with a zone, which frames lack": {"fe80::1%eth0", LinkLocal, Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			dst := netip.AddrPortFrom(netip.MustParseAddr(c.dst), 443)
			for _, proto := range []uint8{frame.ProtoTCP, frame.ProtoUDP, frame.ProtoICMP, frame.ProtoICMPv6} {
				if v := sample(Internet).Admit(proto, dst); v != c.internet {
					t.Errorf("internet: %s is %s, expected %s", dst, v, c.internet)
				}
				if v := sample("").Admit(proto, dst); v != c.internet {
					t.Errorf("the default: %s is %s, expected %s", dst, v, c.internet)
				}
				if v := sample(Full).Admit(proto, dst); v != c.full {
					t.Errorf("full: %s is %s, expected %s", dst, v, c.full)
				}
				if v := sample(None).Admit(proto, dst); v != NoEgress {
					t.Errorf("none: %s is %s", dst, v)
				}
			}
		})
	}
}

func TestTheAgentsOwnSocketsAreClosedOnThisHostAndItsTunnelsPortOnAll(t *testing.T) {
	for name, c := range map[string]struct {
		proto uint8
		dst   string
		want  Verdict
	}{
		"its socket on this host":         {frame.ProtoTCP, "192.168.1.10:7946", Agent},
		"its socket on this host, UDP":    {frame.ProtoUDP, "192.168.1.10:7946", Agent},
		"its socket on this host, IPv6":   {frame.ProtoTCP, "[2001:db8::10]:2377", Agent},
		"the same port, another protocol": {frame.ProtoUDP, "192.168.1.10:2377", Allowed},
		"a service of this host":          {frame.ProtoTCP, "192.168.1.10:5432", Allowed},
		"the same port of another host":   {frame.ProtoTCP, "192.168.1.11:7946", Allowed},
		"the tunnel of this host":         {frame.ProtoUDP, "192.168.1.10:4789", Agent},
		"the tunnel of another node":      {frame.ProtoUDP, "192.168.1.11:4789", Agent},
		"its other address, IPv6":         {frame.ProtoUDP, "[2001:db8::11]:4789", Agent},
		"the tunnel's port by TCP":        {frame.ProtoTCP, "192.168.1.11:4789", Allowed},
		"an echo request to this host":    {frame.ProtoICMP, "192.168.1.10:0", Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			for _, m := range []Mode{Internet, Full} {
				if v := sample(m).Admit(c.proto, netip.MustParseAddrPort(c.dst)); v != c.want {
					t.Errorf("%s: %s is %s, expected %s", m, c.dst, v, c.want)
				}
			}
		})
	}
	t.Run("without knowing this host's addresses, on all", func(t *testing.T) {
		p := sample(Internet)
		p.Host = nil
		if v := p.Admit(frame.ProtoTCP, netip.MustParseAddrPort("192.168.1.11:7946")); v != Agent {
			t.Errorf("it is %s", v)
		}
	})
}

// wrap puts an IPv4 address into all forms of IPv6 that lead to it.
func wrap(a [4]byte, rest [16]byte) (all []netip.Addr) {
	at := func(prefix string, places ...int) {
		p := netip.MustParsePrefix(prefix)
		b, head := rest, p.Addr().As16()
		copy(b[:p.Bits()/8], head[:])
		for i, place := range places {
			b[place] = a[i]
		}
		all = append(all, netip.AddrFrom16(b))
	}
	at("::ffff:0:0/96", 12, 13, 14, 15)
	at("::ffff:0:0:0/96", 12, 13, 14, 15)
	at("64:ff9b::/96", 12, 13, 14, 15)
	at("64:ff9b:1::/48", 6, 7, 9, 10)
	at("64:ff9b:1::/48", 7, 9, 10, 11)
	at("64:ff9b:1::/48", 9, 10, 11, 12)
	at("64:ff9b:1::/48", 12, 13, 14, 15)
	at("2002::/16", 2, 3, 4, 5)
	at("2001::/32", 4, 5, 6, 7)
	for i := range a {
		a[i] = ^a[i]
	}
	at("2001::/32", 12, 13, 14, 15)
	return all
}

func FuzzWhatIsForbiddenIsNotReachedThroughAnythingElse(f *testing.F) {
	for _, s := range []string{"10.5.0.7", "127.0.0.1", "169.254.169.254", "168.63.129.16", "8.8.8.8", "fd55::1", "::1", "2002:a05:7::1", "::"} {
		f.Add(netip.MustParseAddr(s).AsSlice(), make([]byte, 16), uint16(443), uint8(6))
	}
	f.Fuzz(func(t *testing.T, b, rest []byte, port uint16, proto uint8) {
		a, ok := netip.AddrFromSlice(b)
		for _, m := range []Mode{Internet, Full, None} {
			p := sample(m)
			v := p.Admit(proto, netip.AddrPortFrom(a, port))
			switch {
			case int(v) >= verdicts:
				t.Fatalf("%s: %d is no verdict", a, v)
			case !ok && v == Allowed:
				t.Fatalf("what is no address is allowed")
			case m == None && v != NoEgress:
				t.Fatalf("without egress %s is %s", a, v)
			}
			if v == Allowed && (a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6()) {
				t.Fatalf("%s is allowed", a)
			}
			if !a.Is4() || len(rest) < 16 {
				continue
			}
			// Only what leads nowhere may be told apart from what it is itself: see local64.
			if v == Loopback || v == OtherNetwork || v == LinkLocal || v == Metadata {
				for _, w := range wrap(a.As4(), [16]byte(rest)) {
					if p.Admit(proto, netip.AddrPortFrom(w, port)) == Allowed {
						t.Fatalf("%s is %s, and %s leads there", a, v, w)
					}
				}
			}
		}
	})
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	p := sample(Internet)
	for _, s := range []string{"93.184.216.34:443", "[64:ff9b:1::a05:7]:443", "192.168.1.10:7946"} {
		dst := netip.MustParseAddrPort(s)
		if n := testing.AllocsPerRun(100, func() { p.Admit(frame.ProtoTCP, dst) }); n != 0 {
			t.Errorf("%s: %v allocations", s, n)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	p := sample(Internet)
	for i := range 256 {
		p.Foreign = append(p.Foreign, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24))
	}
	dst := netip.MustParseAddrPort("93.184.216.34:443")
	b.ReportAllocs()
	for b.Loop() {
		p.Admit(frame.ProtoTCP, dst)
	}
}

func TestEveryVerdictAndOutcomeHasAWord(t *testing.T) {
	seen := make(map[string]bool)
	for v := range verdicts {
		if w := Verdict(v).String(); w == "" || seen[w] {
			t.Errorf("verdict %d is %q", v, w)
		} else {
			seen[w] = true
		}
	}
	if w := Verdict(verdicts).String(); w != "invalid" {
		t.Errorf("what is no verdict is %q", w)
	}
	for o, w := range outcomeWords {
		if w == "" {
			t.Errorf("outcome %d has no word", o)
		}
	}
}

func TestTheHostsAddressesAreReadAtMostOnceASecondAndFailClosed(t *testing.T) {
	now := time.Unix(1000, 0)
	var all []netip.Prefix
	var fault error
	reads := 0
	l := &Local{now: func() time.Time { return now }, list: func() ([]netip.Prefix, error) { reads++; return all, fault }}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

	fault = errors.New("netlink is busy")
	if !l.Has(a) {
		t.Error("before anything is known, an address is held not to be the host's")
	}
	fault, all, now = nil, prefixes("192.0.2.1/32", "198.51.100.0/24", "2001:db8::1/128"), now.Add(lifetime)
	if !l.Has(a) || l.Has(b) || !l.Has(netip.MustParseAddr("198.51.100.9")) || !l.Has(netip.MustParseAddr("2001:db8::1")) {
		t.Error("the host's addresses are not told")
	}
	all = prefixes("192.0.2.2/32")
	if l.Has(b) || reads != 2 {
		t.Errorf("addresses were read %d times within a second, expected one failure and one success", reads)
	}
	now = now.Add(lifetime)
	if !l.Has(b) || l.Has(a) {
		t.Error("what changed is not seen after a second")
	}
	fault, now = errors.New("netlink is busy"), now.Add(lifetime)
	if !l.Has(b) || l.Has(a) {
		t.Error("what was known is forgotten when it cannot be read again")
	}
}

func TestTheKernelTellsTheHostsAddresses(t *testing.T) {
	l := NewLocal()
	for _, s := range []string{"127.0.0.1", "127.1.2.3"} { // of a prefix, in the local table
		if !l.Has(netip.MustParseAddr(s)) {
			t.Errorf("%s is not this host's", s)
		}
	}
	if l.Has(netip.MustParseAddr("192.0.2.1")) {
		t.Error("192.0.2.1 is this host's")
	}
}
