package dns_test

import (
	"context"
	"fmt"
	"net/netip"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/dns"
)

func ExampleServer_Query() {
	db := dns.Record{Name: "db", Addresses: []netip.Addr{netip.MustParseAddr("10.0.2.30")}, Names: dns.Names{Node: "n2"}}
	web := netip.MustParseAddr("10.0.2.10")
	s := dns.New(dns.ServerConfig{})
	defer s.Close()
	s.SetZone(dns.Compile(dns.Config{
		Networks: []dns.Network{{
			Name: "back", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24")}, Records: []dns.Record{db},
		}},
		Containers: []dns.Container{{Name: "web", Networks: []dns.Membership{{Network: "back", Addresses: []netip.Addr{web}}}}},
	}))
	for _, name := range []string{"db", "db.back.weft.internal", "mail"} {
		m, why, err := s.Query(context.Background(), "web", name, mdns.TypeA)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, rr := range m.Answer {
			fmt.Print(rr.(*mdns.A).A, " ")
		}
		fmt.Printf("%s: %s\n", why.Rcode, why.Reason)
	}
	// Output:
	// 10.0.2.30 NOERROR: network back is the first of the container's networks that has the name
	// 10.0.2.30 NOERROR: the name says itself that it is of network back
	// NXDOMAIN: no network of the container's has the name, and names without a dot are not asked of others
}
