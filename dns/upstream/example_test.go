package upstream_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/weftnet/weft/dns/upstream"
)

func ExampleResolver() {
	at, err := upstream.ParseServer("127.0.0.1:1") // --dns
	if err != nil {
		fmt.Println(err)
		return
	}
	r := upstream.New(upstream.Config{Servers: []netip.AddrPort{at}, Timeout: time.Second})
	defer r.Close()
	q := new(dns.Msg)
	q.SetQuestion("example.com.", dns.TypeAXFR)
	m, err := r.Forward(context.Background(), q, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("a zone transfer is", dns.RcodeToString[m.Rcode])
	// Output: a zone transfer is REFUSED
}

func ExampleParse() {
	c := upstream.Parse([]byte("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n"))
	fmt.Println(c.Servers, c.Search, c.TrustAD)
	// Output: [127.0.0.53:53] [corp.example] true
}
