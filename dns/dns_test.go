package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func addresses(all ...string) (l []netip.Addr) {
	for _, a := range all {
		l = append(l, netip.MustParseAddr(a))
	}
	return l
}

func prefixList(all ...string) (l []netip.Prefix) {
	for _, p := range all {
		l = append(l, netip.MustParsePrefix(p))
	}
	return l
}

// since is when the test's containers came.
var since = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func record(name, addrs string, names Names) Record {
	names.Since = since
	return Record{Name: name, Names: names, Addresses: addresses(strings.Fields(addrs)...)}
}

func hidden(r Record) Record { r.Hidden = true; return r }

// town is a node on five networks: front and back, which share the container both; dev, called as a top-level domain is; vault,
// which is internal; and other, on which none of the askers is.
func town() Config {
	web := []Port{{Name: "http", Number: 80, Protocol: "tcp"}, {Name: "dns", Number: 53, Protocol: "udp"}}
	return Config{
		Host:    addresses("192.0.2.1", "2001:db8::1"),
		Foreign: prefixList("10.77.0.0/16"),
		Networks: []Network{{
			Name: "front", Subnets: prefixList("10.0.1.0/24", "fd00:1::/64"), Gateways: addresses("10.0.1.1", "fd00:1::1"),
			Records: []Record{
				record("web", "10.0.1.10 fd00:1::10", Names{Hostname: "www", Aliases: []string{"Shop", "shop"}, Ports: web, Node: "n1"}),
				record("both", "10.0.1.20", Names{Node: "n1"}),
				record("db", "10.0.1.30", Names{Node: "n2"}),
				record("a.back", "10.0.1.40", Names{Node: "n1"}),
				record("pair1", "10.0.1.51", Names{Aliases: []string{"pair"}, Ports: web, Node: "n1"}),
				record("pair2", "10.0.1.52", Names{Aliases: []string{"pair"}, Ports: web, Node: "n2"}),
				hidden(record("pair3", "10.0.1.53", Names{Aliases: []string{"pair"}, Ports: web, Node: "n3"})),
				hidden(record("lost", "10.0.1.60 fd00:1::60", Names{Node: "n3", Ports: web})),
			},
		}, {
			Name: "back", Subnets: prefixList("10.0.2.0/24"), Gateways: addresses("10.0.2.1"),
			Records: []Record{
				record("both", "10.0.2.20", Names{Node: "n1"}),
				record("db", "10.0.2.30 fd00:2::30", Names{Node: "n2"}),
				record("a", "10.0.2.40", Names{Node: "n2"}),
				record("api.1", "10.0.2.51", Names{Service: "api", Node: "n1", Ports: web}),
				record("api.2", "10.0.2.52", Names{Service: "api", Node: "n2", Ports: web}),
				record("job.1", "10.0.2.61", Names{Service: "job", Node: "n1", Ports: web}),
				record("lost", "10.0.2.70", Names{Node: "n1"}),
			},
			Services: []Service{{Name: "api", VIPs: addresses("10.0.2.100")}, {Name: "job"}, {Name: "idle"}},
		}, {
			Name: "dev", Subnets: prefixList("10.0.3.0/28"), Gateways: addresses("10.0.3.1"),
			Records: []Record{record("tool", "10.0.3.2", Names{Node: "n1"}), record("devel", "10.0.3.3", Names{Node: "n1"})},
		}, {
			Name: "vault", Internal: true, Subnets: prefixList("10.0.4.0/24"), Gateways: addresses("10.0.4.1"),
			Records: []Record{record("key", "10.0.4.2", Names{Node: "n1"})},
		}, {
			Name: "other", Subnets: prefixList("10.0.5.0/24"), Gateways: addresses("10.0.5.1"),
			Records: []Record{record("secret", "10.0.5.2", Names{Node: "n9", Aliases: []string{"x.corp", "example.com"}})},
		}},
		Containers: []Container{
			{Name: "web", Networks: []Membership{{"front", addresses("10.0.1.10", "fd00:1::10")}}},
			{Name: "both", Networks: []Membership{{"front", addresses("10.0.1.20")}, {"back", addresses("10.0.2.20")}}},
			{Name: "devel", Networks: []Membership{{"dev", addresses("10.0.3.3")}}},
			{Name: "key", Networks: []Membership{{"vault", addresses("10.0.4.2")}}},
			{Name: "mixed", Networks: []Membership{{"vault", addresses("10.0.4.3")}, {"dev", addresses("10.0.3.4")}}},
		},
	}
}

// outside answers for the world, and remembers what it was asked.
type outside struct{ asked atomic.Pointer[[]string] }

func (o *outside) Forward(_ context.Context, q *mdns.Msg, _ bool) (*mdns.Msg, error) {
	name := q.Question[0].Name
	for {
		old := o.asked.Load()
		all := []string{name}
		if old != nil {
			all = append(slices.Clone(*old), name)
		}
		if o.asked.CompareAndSwap(old, &all) {
			break
		}
	}
	if strings.HasPrefix(name, "fail.") {
		return nil, errors.New("no server answers")
	}
	m := new(mdns.Msg).SetReply(q)
	m.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}, A: []byte{203, 0, 113, 1}}}
	return m, nil
}

func (o *outside) names() []string {
	if l := o.asked.Load(); l != nil {
		return *l
	}
	return nil
}

// ask sends m to a server as a container on a network would, and returns the answer; nil: none.
func ask(t testing.TB, s *Server, network, source string, m *mdns.Msg, tcp bool) *mdns.Msg {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	b := exchange(s, network, netip.MustParseAddr(source), wire, tcp)
	if b == nil {
		return nil
	}
	answer := new(mdns.Msg)
	if err := answer.Unpack(b); err != nil {
		t.Fatalf("the answer to %v does not parse: %v\n% x", m.Question, err, b)
	}
	return answer
}

// exchange is what a Serve does with a message.
func exchange(s *Server, network string, source netip.Addr, wire []byte, tcp bool) []byte {
	v := &service{Server: s, network: network, ctx: context.Background()}
	b, f := v.handle(&responder{}, wire, source, tcp)
	if f != nil {
		defer v.finish(f)
		return v.run(v.ctx, f)
	}
	return b
}

// data returns records without owner, class and TTL, sorted.
func data(rrs []mdns.RR) string {
	var l []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != mdns.TypeOPT {
			l = append(l, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	slices.Sort(l)
	return strings.Join(l, " ")
}

func TestAnswersDependOnWhoAsks(t *testing.T) {
	const front, back, dev, vault = "front", "back", "dev", "vault"
	const web, both, devel, key, mixed, nobody = "10.0.1.10", "10.0.1.20", "10.0.3.3", "10.0.4.2", "10.0.4.3", "10.0.1.99"
	const forwarded = "203.0.113.1"
	for _, tt := range []struct {
		why           string
		network, from string
		name          string
		qtype         uint16
		rcode         int
		want          string // the answer's data
	}{
		{"a container's name", front, web, "web.", typeA, 0, "10.0.1.10"},
		{"its IPv6 address", front, web, "web.", typeAAAA, 0, "fd00:1::10"},
		{"case does not matter", front, web, "WeB.", typeA, 0, "10.0.1.10"},
		{"a hostname", front, web, "www.", typeA, 0, "10.0.1.10"},
		{"an alias written in another case, given twice", front, web, "shop.", typeA, 0, "10.0.1.10"},
		{"an alias of three, one of which is hidden", front, web, "pair.", typeA, 0, "10.0.1.51 10.0.1.52"},
		{"asked by IPv6", front, "fd00:1::10", "db.", typeA, 0, "10.0.1.30"},
		{"an address that nobody has sees its network", front, nobody, "db.", typeA, 0, "10.0.1.30"},
		{"and no other", front, nobody, "api.", typeA, mdns.RcodeNameError, ""},
		{"no AAAA is an empty answer", front, web, "db.", typeAAAA, 0, ""},
		{"as is any other type", front, web, "db.", mdns.TypeMX, 0, ""},
		{"a name whose containers are hidden exists", front, web, "lost.", typeA, 0, ""},

		{"the network asked at comes first", front, both, "db.", typeA, 0, "10.0.1.30"},
		{"also if it is the second", back, "10.0.2.20", "db.", typeA, 0, "10.0.2.30"},
		{"one network answers for both families", front, both, "db.", typeAAAA, 0, ""},
		{"a hidden name does not pass to the next network", front, both, "lost.", typeA, 0, ""},
		{"through the other interface", front, both, "api.", typeA, 0, "10.0.2.100"},
		{"another's network is not seen", front, web, "api.", typeA, mdns.RcodeNameError, ""},
		{"the network named", front, both, "db.back.", typeA, 0, "10.0.2.30"},
		{"the network named, asked by name only", front, both, "db.front.", typeA, 0, "10.0.1.30"},
		{"a.back is a on back before a container a.back", front, both, "a.back.", typeA, 0, "10.0.2.40"},
		{"which is found with its network", front, both, "a.back.front.", typeA, 0, "10.0.1.40"},
		{"or by those who do not see back", front, web, "a.back.", typeA, 0, "10.0.1.40"},

		{"a service with a VIP", back, "10.0.2.20", "api.", typeA, 0, "10.0.2.100"},
		{"its tasks", back, "10.0.2.20", "tasks.api.", typeA, 0, "10.0.2.51 10.0.2.52"},
		{"its tasks on a network", back, "10.0.2.20", "tasks.api.back.", typeA, 0, "10.0.2.51 10.0.2.52"},
		{"one task", back, "10.0.2.20", "api.2.", typeA, 0, "10.0.2.52"},
		{"a service without VIPs", back, "10.0.2.20", "job.", typeA, 0, "10.0.2.61"},
		{"a service without tasks", back, "10.0.2.20", "idle.", typeA, 0, ""},

		{"under the domain", front, both, "db.weft.internal.", typeA, 0, "10.0.1.30"},
		{"under network and domain", front, both, "db.back.WEFT.internal.", typeA, 0, "10.0.2.30"},
		{"unknown under the domain", front, both, "nix.weft.internal.", typeA, mdns.RcodeNameError, ""},
		{"unseen under the domain", front, web, "db.back.weft.internal.", typeA, mdns.RcodeNameError, ""},
		{"the domain itself", front, web, "weft.internal.", typeA, 0, ""},
		{"a network stands above names", front, web, "front.weft.internal.", typeA, 0, ""},
		{"another network does not", front, web, "back.weft.internal.", typeA, mdns.RcodeNameError, ""},
		{"the host", front, web, "host.weft.internal.", typeA, 0, "192.0.2.1"},
		{"the host's IPv6", front, web, "host.weft.internal.", typeAAAA, 0, "2001:db8::1"},
		{"the host is nothing else", front, web, "host.", typeA, mdns.RcodeNameError, ""},
		{"the gateway", front, web, "gateway.front.", typeA, 0, "10.0.1.1"},
		{"the gateway under the domain", front, web, "gateway.front.weft.internal.", typeAAAA, 0, "fd00:1::1"},
		{"another's gateway", front, web, "gateway.back.", typeA, mdns.RcodeNameError, ""},

		{"localhost", front, web, "localhost.", typeA, 0, "127.0.0.1"},
		{"below localhost", front, web, "x.localhost.", typeAAAA, 0, "::1"},
		{"localhost backwards", front, web, "1.0.0.127.in-addr.arpa.", mdns.TypePTR, 0, "localhost."},
		{"other loopback backwards", front, web, "2.0.0.127.in-addr.arpa.", mdns.TypePTR, mdns.RcodeNameError, ""},
		{"IPv6 localhost backwards", front, web, reverseName(t, "::1"), mdns.TypePTR, 0, "localhost."},

		{"backwards", front, web, "30.1.0.10.in-addr.arpa.", mdns.TypePTR, 0, "db.front."},
		{"backwards in IPv6", front, web, reverseName(t, "fd00:1::10"), mdns.TypePTR, 0, "web.front."},
		{"backwards through the other interface", front, both, "30.2.0.10.in-addr.arpa.", mdns.TypePTR, 0, "db.back."},
		{"a VIP backwards", front, both, "100.2.0.10.in-addr.arpa.", mdns.TypePTR, 0, "api.back."},
		{"a gateway backwards", front, web, "1.1.0.10.in-addr.arpa.", mdns.TypePTR, 0, "gateway.front."},
		{"hidden backwards", front, web, "60.1.0.10.in-addr.arpa.", mdns.TypePTR, 0, ""},
		{"nobody's address backwards", front, web, "9.1.0.10.in-addr.arpa.", mdns.TypePTR, mdns.RcodeNameError, ""},
		{"unseen backwards", front, web, "30.2.0.10.in-addr.arpa.", mdns.TypePTR, mdns.RcodeNameError, ""},
		{"of a foreign network backwards", front, web, "1.0.77.10.in-addr.arpa.", mdns.TypePTR, mdns.RcodeNameError, ""},
		{"a subnet backwards", front, web, "1.0.10.in-addr.arpa.", mdns.TypeSOA, 0, ""},
		{"above a subnet", front, web, "10.in-addr.arpa.", mdns.TypeA, 0, forwarded},
		{"service discovery in a subnet", front, web, "b._dns-sd._udp.0.1.0.10.in-addr.arpa.", mdns.TypePTR, mdns.RcodeNameError, ""},
		{"outside backwards", front, web, "1.113.0.203.in-addr.arpa.", typeA, 0, forwarded},
		{"beside a small subnet", dev, devel, "17.3.0.10.in-addr.arpa.", typeA, 0, forwarded},
		{"no address backwards", front, web, "x.in-addr.arpa.", typeA, 0, forwarded},

		{"a port by number", front, web, "_80._tcp.web.", mdns.TypeSRV, 0, "0 0 80 web.front."},
		{"a port by name", front, web, "_HTTP._TCP.web.front.weft.internal.", mdns.TypeSRV, 0, "0 0 80 web.front."},
		{"a port of several", front, web, "_http._tcp.pair.", mdns.TypeSRV, 0, "0 0 80 pair1.front. 0 0 80 pair2.front."},
		{"a port of hidden ones", front, web, "_http._tcp.lost.", mdns.TypeSRV, 0, ""},
		{"a service's port", front, both, "_dns._udp.api.", mdns.TypeSRV, 0, "0 0 53 api.back."},
		{"its tasks' ports", front, both, "_dns._udp.tasks.api.", mdns.TypeSRV, 0, "0 0 53 api.1.back. 0 0 53 api.2.back."},
		{"the wrong protocol", front, web, "_80._udp.web.", mdns.TypeSRV, mdns.RcodeNameError, ""},
		{"not exposed", front, web, "_81._tcp.web.", mdns.TypeSRV, mdns.RcodeNameError, ""},
		{"a port has no address", front, web, "_80._tcp.web.", typeA, 0, ""},
		{"above ports", front, web, "_tcp.web.", typeA, 0, ""},
		{"a port of nothing", front, web, "_80._tcp.nix.", mdns.TypeSRV, mdns.RcodeNameError, ""},
		{"a port of the world's", front, web, "_xmpp._tcp.example.org.", typeA, 0, forwarded},

		{"any", front, web, "web.", mdns.TypeANY, 0, `"RFC8482" ""`},
		{"transfers", front, web, "weft.internal.", mdns.TypeAXFR, mdns.RcodeRefused, ""},
		{"transfers of others'", front, web, "example.org.", mdns.TypeIXFR, mdns.RcodeRefused, ""},

		{"outside", front, web, "example.org.", typeA, 0, forwarded},
		{"outside fails", front, web, "fail.example.org.", typeA, mdns.RcodeServerFailure, ""},
		{"the root", front, web, ".", mdns.TypeNS, 0, forwarded},
		{"a top-level domain's key", front, web, "org.", mdns.TypeDNSKEY, 0, forwarded},
		{"its address", front, web, "org.", typeA, mdns.RcodeNameError, ""},
		{"another's name is no such domain", front, web, "secret.", mdns.TypeDS, mdns.RcodeNameError, ""},
		{"nor another network", front, web, "other.", mdns.TypeNS, mdns.RcodeNameError, ""},
		{"without a dot", front, web, "nix.", typeA, mdns.RcodeNameError, ""},
		{"unknown on a network", front, web, "nix.front.", typeA, mdns.RcodeNameError, ""},
		{"unseen on a network", front, web, "secret.other.", typeA, mdns.RcodeNameError, ""},
		{"another's name with a dot", front, web, "x.corp.", typeA, mdns.RcodeNameError, ""},
		{"another's alias takes no public name", front, web, "example.com.", typeA, 0, forwarded},
		{"a network called as a domain", dev, devel, "tool.dev.", typeA, 0, "10.0.3.2"},
		{"leaves the domain's other names", dev, devel, "go.dev.", typeA, 0, forwarded},
		{"and all of them to those who are not on it", front, web, "tool.dev.", typeA, 0, forwarded},
		{"an internal network", vault, key, "key.", typeA, 0, "10.0.4.2"},
		{"asks nobody", vault, key, "example.org.", typeA, mdns.RcodeRefused, ""},
		{"not even for the root", vault, key, ".", mdns.TypeNS, mdns.RcodeRefused, ""},
		{"unless there is another network", vault, mixed, "example.org.", typeA, 0, forwarded},
		{"no such network", "nix", web, "web.", typeA, mdns.RcodeServerFailure, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			world := &outside{}
			s := New(ServerConfig{Forwarder: world})
			s.SetZone(Compile(town()))
			for _, edns := range []bool{false, true} {
				q := new(mdns.Msg).SetQuestion(tt.name, tt.qtype)
				if edns {
					q.SetEdns0(4096, true)
				}
				m := ask(t, s, tt.network, tt.from, q, false)
				if m.Rcode != tt.rcode || data(m.Answer) != tt.want {
					t.Fatalf("%s %s: %s %q, want %s %q", tt.name, mdns.Type(tt.qtype), mdns.RcodeToString[m.Rcode], data(m.Answer), mdns.RcodeToString[tt.rcode], tt.want)
				}
				if m.Id != q.Id || !m.Response || m.Question[0] != q.Question[0] || !m.RecursionDesired || !m.RecursionAvailable || m.Truncated {
					t.Fatalf("header and question: %v", m)
				}
				if (m.IsEdns0() != nil) != edns {
					t.Fatalf("EDNS %t was answered by %v", edns, m.IsEdns0())
				}
				if asked := len(world.names()) > 0; asked != (tt.want == forwarded || tt.why == "outside fails") {
					t.Fatalf("others were asked for %v", world.names())
				}
				negative := tt.want == "" && (tt.rcode == 0 || tt.rcode == mdns.RcodeNameError)
				checkAuthority(t, m, negative)
			}
		})
	}
}

func reverseName(t *testing.T, addr string) string {
	name, err := mdns.ReverseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// checkAuthority checks that negative answers, and no others, say how long they may be kept, for a zone that the name is in.
func checkAuthority(t *testing.T, m *mdns.Msg, negative bool) {
	t.Helper()
	if !negative {
		if len(m.Ns) != 0 {
			t.Fatalf("authority of a positive answer: %v", m.Ns)
		}
		return
	}
	if len(m.Ns) != 1 {
		t.Fatalf("authority of a negative answer: %v", m.Ns)
	}
	soa, ok := m.Ns[0].(*mdns.SOA)
	if !ok || soa.Minttl != 1 || soa.Hdr.Ttl != 1 || soa.Ns != "weft.internal." || !mdns.IsSubDomain(soa.Hdr.Name, m.Question[0].Name) {
		t.Fatalf("authority of a negative answer: %v", m.Ns)
	}
	if under := mdns.IsSubDomain("weft.internal.", m.Question[0].Name); under && !strings.EqualFold(soa.Hdr.Name, "weft.internal.") {
		t.Fatalf("the domain's SOA is %v", soa)
	}
	if !m.Authoritative {
		t.Fatal("the answer is not authoritative")
	}
}

const (
	typeA    = mdns.TypeA
	typeAAAA = mdns.TypeAAAA
)
