package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
	"pgregory.net/rapid"
)

// The model answers by going through all records of all networks that the asker is on. Its words are few, so that names clash.
var (
	words    = []string{"a", "b", "c", "dev", "a.b", "b.c", "Web", "tasks", "gateway"}
	netNames = []string{"a", "b", "dev", "n1", "x.b"}
)

// drawZone draws networks n with subnets 10.n.0.0/16, and containers of this node that are on some of them.
func drawZone(t *rapid.T) Config {
	word := rapid.SampledFrom(words)
	c := Config{Host: addresses("192.0.2.1")}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(netNames), 1, 4, rapid.ID).Draw(t, "networks")
	for i, name := range names {
		n := Network{Name: name, Subnets: prefixList(fmt.Sprintf("10.%d.0.0/16", i)), Gateways: addresses(fmt.Sprintf("10.%d.0.1", i))}
		for k := range rapid.IntRange(0, 6).Draw(t, "records") {
			r := Record{Name: word.Draw(t, "name"), Addresses: addresses(fmt.Sprintf("10.%d.1.%d", i, k)), Hidden: rapid.Bool().Draw(t, "hidden")}
			if rapid.Bool().Draw(t, "dual") {
				r.Addresses = append(r.Addresses, netip.MustParseAddr(fmt.Sprintf("fd%02x::%x", i, k+2)))
			}
			r.Hostname = rapid.SampledFrom(append(words, "")).Draw(t, "hostname")
			r.Aliases = rapid.SliceOfN(word, 0, 2).Draw(t, "aliases")
			r.Service = rapid.SampledFrom([]string{"", "", "c", "svc", "vip"}).Draw(t, "service")
			n.Records = append(n.Records, r)
		}
		if rapid.Bool().Draw(t, "vip") {
			n.Services = append(n.Services, Service{Name: "vip", VIPs: addresses(fmt.Sprintf("10.%d.2.1", i))})
		}
		c.Networks = append(c.Networks, n)
	}
	for k := range 3 {
		m := Container{Name: fmt.Sprintf("asker%d", k)}
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(names)-1), 1, len(names), rapid.ID).Draw(t, "on") {
			m.Networks = append(m.Networks, Membership{names[i], addresses(fmt.Sprintf("10.%d.1.%d", i, 100+k))})
		}
		c.Containers = append(c.Containers, m)
	}
	return c
}

// modelled returns whether a network has a name, and the addresses behind it.
func modelled(n *Network, name string, qualified bool) (found bool, all []netip.Addr) {
	vip := false
	for _, s := range n.Services {
		vip = vip || s.Name == "vip"
		if name == s.Name {
			found, all = true, append(all, s.VIPs...)
		}
		found = found || name == "tasks."+s.Name
	}
	for _, r := range n.Records {
		names := append([]string{r.Name, r.Hostname}, r.Aliases...)
		if r.Service != "" {
			names = append(names, "tasks."+r.Service)
			if r.Service != "vip" || !vip {
				names = append(names, r.Service)
			}
		}
		if slices.ContainsFunc(names, func(s string) bool { return s != "" && strings.EqualFold(s, name) }) {
			found = true
			if !r.Hidden {
				all = append(all, r.Addresses...)
			}
		}
	}
	if !found && qualified && name == "gateway" {
		return true, n.Gateways
	}
	return found, all
}

// model returns what an asker with networks, in order of search, finds.
func model(networks []*Network, name string) (found bool, all []netip.Addr) {
	longest := 0
	for _, n := range networks {
		if rest, ok := strings.CutSuffix(name, "."+n.Name); ok && len(n.Name) > longest {
			if f, a := modelled(n, rest, true); f {
				found, all, longest = true, a, len(n.Name)
			}
		}
	}
	for _, n := range networks {
		if found {
			break
		}
		found, all = modelled(n, name, false)
	}
	return found, all
}

func TestAnswersAreThoseOfASlowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawZone(t)
		world := &outside{}
		s := New(ServerConfig{Forwarder: world})
		s.SetZone(Compile(c))
		for range 20 {
			asker := rapid.SampledFrom(c.Containers).Draw(t, "asker")
			by := rapid.IntRange(0, len(asker.Networks)-1).Draw(t, "by")
			order := slices.Concat([]Membership{asker.Networks[by]}, asker.Networks[:by], asker.Networks[by+1:])
			var networks []*Network
			for _, m := range order {
				i := slices.IndexFunc(c.Networks, func(n Network) bool { return n.Name == m.Network })
				networks = append(networks, &c.Networks[i])
			}
			name := rapid.SampledFrom(append(words, "svc", "vip", "tasks.c", "tasks.vip")).Draw(t, "word")
			if rapid.Bool().Draw(t, "qualified") {
				name += "." + rapid.SampledFrom(netNames).Draw(t, "network")
			}
			name = strings.ToLower(name)
			ours := slices.ContainsFunc(c.Networks, func(n Network) bool { return n.Name != "dev" && strings.HasSuffix(name, "."+n.Name) })
			domain := rapid.SampledFrom([]string{"", ".weft.internal"}).Draw(t, "domain")
			compare(t, s, world, asker.Networks[by], networks, name, domain, ours)
		}
	})
}

// compare asks for both families, and checks that the answer is the model's, and that others only hear of what may be theirs.
func compare(t *rapid.T, s *Server, world *outside, by Membership, networks []*Network, name, domain string, ours bool) {
	found, all := model(networks, name)
	for _, qtype := range []uint16{typeA, typeAAAA} {
		var want []string
		for _, a := range all {
			if a.Is4() == (qtype == typeA) {
				want = append(want, a.String())
			}
		}
		slices.Sort(want)
		before := len(world.names())
		wire, err := new(mdns.Msg).SetQuestion(name+domain+".", qtype).Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := new(mdns.Msg)
		if err := m.Unpack(exchange(s, by.Network, by.Addresses[0], wire, true)); err != nil {
			t.Fatal(err)
		}
		if len(world.names()) > before {
			if found || ours || domain != "" || !strings.Contains(name, ".") {
				t.Fatalf("others were asked for %s%s", name, domain)
			}
			continue
		}
		if got := data(m.Answer); got != strings.Join(slices.Compact(want), " ") {
			t.Fatalf("%s%s %s by %s: %q, want %q", name, domain, mdns.Type(qtype), by.Network, got, want)
		}
		if found && m.Rcode != mdns.RcodeSuccess {
			t.Fatalf("%s%s exists, but the answer is %s", name, domain, mdns.RcodeToString[m.Rcode])
		}
	}
}

func TestNoAnswerIsOfANetworkThatTheAskerIsNotOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawZone(t)
		s := New(ServerConfig{})
		s.SetZone(Compile(c))
		for _, asker := range c.Containers {
			var own []netip.Prefix
			for _, m := range asker.Networks {
				i := slices.IndexFunc(c.Networks, func(n Network) bool { return n.Name == m.Network })
				own = append(own, c.Networks[i].Subnets[0], netip.MustParsePrefix(fmt.Sprintf("fd%02x::/16", i)))
			}
			inside := func(a netip.Addr) bool {
				return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(a) })
			}
			name := rapid.StringMatching(`(_[a-z0-9]{1,3}\._tcp\.)?[abc]{1,2}(\.(a|b|c|dev|n1|x\.b)){0,2}(\.weft\.internal)?`).Draw(t, "name")
			reverse := fmt.Sprintf("%d.1.%d.10.in-addr.arpa", rapid.IntRange(0, 6).Draw(t, "host"), rapid.IntRange(0, 4).Draw(t, "subnet"))
			for _, q := range []mdns.Question{{Name: name, Qtype: typeA}, {Name: name, Qtype: typeAAAA}, {Name: name, Qtype: mdns.TypeSRV}, {Name: reverse, Qtype: mdns.TypePTR}} {
				m, _, err := s.Query(t.Context(), asker.Name, q.Name, q.Qtype)
				if err != nil {
					t.Fatal(err)
				}
				for _, rr := range append(m.Answer, m.Extra...) {
					switch rr := rr.(type) {
					case *mdns.A:
						a, _ := netip.AddrFromSlice(rr.A.To4())
						if !inside(a) {
							t.Fatalf("%s, on %v, learned %v", asker.Name, asker.Networks, rr)
						}
					case *mdns.AAAA:
						a, _ := netip.AddrFromSlice(rr.AAAA)
						if !inside(a) {
							t.Fatalf("%s, on %v, learned %v", asker.Name, asker.Networks, rr)
						}
					case *mdns.PTR:
						if !slices.ContainsFunc(asker.Networks, func(m Membership) bool { return strings.HasSuffix(rr.Ptr, "."+m.Network+".") }) {
							t.Fatalf("%s, on %v, learned %v", asker.Name, asker.Networks, rr)
						}
					}
				}
			}
		}
	})
}
