package gateway

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/dns"
)

func addrs(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestTheZoneHasWhatThePlanHas(t *testing.T) {
	net := netip.MustParsePrefix
	web := dns.Names{Service: "web", Aliases: []string{"www"}, Node: "a", Since: noon}
	p := &plan.Config{
		Node: "a", Foreign: []netip.Prefix{net("10.0.0.0/24"), net("10.0.1.0/24"), net("10.0.9.0/24")},
		Networks: []plan.Network{
			{
				Name: "back", Subnets: []netip.Prefix{net("10.0.1.0/24")}, Gateways: addrs("10.0.1.1"), Egress: plan.EgressNone,
				Endpoints: []plan.Endpoint{{Name: "c1", Interface: "eth1", Addresses: addrs("10.0.1.2")}},
			},
			{
				Name: "front", Subnets: []netip.Prefix{net("10.0.0.0/24")}, Gateways: addrs("10.0.0.1"),
				Endpoints: []plan.Endpoint{
					{Name: "c1", Interface: "eth0", Addresses: addrs("10.0.0.2"), Names: web},
					{Name: "cut-off", Interface: "eth0", Addresses: addrs("10.0.0.3"), Muted: true},
				},
				Remotes: []plan.Remote{
					{Name: "c2", Addresses: addrs("10.0.0.4"), Names: dns.Names{Node: "b"}},
					{Name: "c3", Addresses: addrs("10.0.0.5"), Names: dns.Names{Node: "c"}, Hidden: true},
				},
			},
		},
	}
	want := dns.Config{
		TTL: 5 * time.Second, Host: addrs("192.0.2.1"), Foreign: p.Foreign,
		Networks: []dns.Network{
			{
				Name: "back", Internal: true, Subnets: p.Networks[0].Subnets, Gateways: addrs("10.0.1.1"),
				Records: []dns.Record{{Name: "c1", Addresses: addrs("10.0.1.2")}},
			},
			{
				Name: "front", Subnets: p.Networks[1].Subnets, Gateways: addrs("10.0.0.1"),
				Records: []dns.Record{
					{Name: "c1", Names: web, Addresses: addrs("10.0.0.2")},
					{Name: "c2", Names: dns.Names{Node: "b"}, Addresses: addrs("10.0.0.4")},
					{Name: "c3", Names: dns.Names{Node: "c"}, Addresses: addrs("10.0.0.5"), Hidden: true},
				},
			},
		},
		Containers: []dns.Container{{Name: "c1", Networks: []dns.Membership{
			{Network: "front", Addresses: addrs("10.0.0.2")}, {Network: "back", Addresses: addrs("10.0.1.2")},
		}}},
	}
	if got := zone(p, 5*time.Second, addrs("192.0.2.1")); !reflect.DeepEqual(got, want) {
		t.Errorf("zone is\n%+v\nwant\n%+v", got, want)
	}
}
