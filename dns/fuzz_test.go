package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

// FuzzServe sends any bytes: the answer, if there is one, has the message's ID, is an answer, parses, fits, and is to the same question.
func FuzzServe(f *testing.F) {
	for _, name := range []string{"web.", "WEB.front.weft.internal.", "_http._tcp.pair.", "30.1.0.10.in-addr.arpa.", "x.ip6.arpa.", ".", "a.b.localhost.", strings.Repeat("abcdefg.", 31)} {
		for _, qtype := range []uint16{typeA, typeAAAA, mdns.TypeSRV, mdns.TypePTR, mdns.TypeANY, mdns.TypeSOA, mdns.TypeAXFR} {
			m := new(mdns.Msg).SetQuestion(name, qtype)
			plain, _ := m.Pack()
			f.Add(plain, false)
			wire, _ := m.SetEdns0(4096, true).Pack()
			f.Add(wire, true)
			f.Add(wire[:len(wire)-3], true)
		}
	}
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), false)
	f.Add([]byte("\x00\x01\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01"), false)
	s := New(ServerConfig{Forwarder: respond(func(q *mdns.Msg, _ bool) *mdns.Msg { return new(mdns.Msg).SetReply(q) })})
	s.SetZone(Compile(town()))
	source := netip.MustParseAddr("10.0.1.20")
	f.Fuzz(func(t *testing.T, b []byte, tcp bool) {
		if len(b) > maxQuery {
			b = b[:maxQuery]
		}
		answer := exchange(s, "front", source, b, tcp)
		if answer == nil {
			if len(b) >= headerLen && b[2]&0x80 == 0 {
				t.Fatalf("no answer to a message with a header")
			}
			return
		}
		m := new(mdns.Msg)
		if err := m.Unpack(answer); err != nil {
			t.Fatalf("the answer % x: %v", answer, err)
		}
		if m.Id != binary.BigEndian.Uint16(b) || !m.Response || !tcp && len(answer) > ourSize {
			t.Fatalf("%d bytes, to %x: %v", len(answer), b[:2], m)
		}
		q := new(mdns.Msg)
		if err := q.Unpack(b); err == nil && len(q.Question) == 1 && m.Rcode == mdns.RcodeSuccess && m.Question[0] != q.Question[0] {
			t.Fatalf("asked %v, answered %v", q.Question, m.Question)
		}
	})
}

// FuzzCompile names things with any bytes: nothing of that must bring a zone or an answer from it down.
func FuzzCompile(f *testing.F) {
	for _, name := range []string{"web", "a.b", "", ".", "a..b", "web.", strings.Repeat("x", 300), "\x00\xff", "com", "_80._tcp.web", "weft.internal"} {
		f.Add(name, name, name)
	}
	f.Fuzz(func(t *testing.T, name, network, domain string) {
		c := Config{Domain: domain, Networks: []Network{{
			Name: network, Subnets: prefixList("10.0.0.0/8"), Gateways: addresses("10.0.0.1"),
			Records: []Record{{
				Name: name, Addresses: addresses("10.0.0.2"),
				Names: Names{Hostname: domain, Service: network, Aliases: []string{network, domain, name}, Ports: []Port{{Name: name, Number: 80, Protocol: "tcp"}}},
			}},
			Services: []Service{{Name: domain, VIPs: addresses("10.0.0.3")}},
		}}, Containers: []Container{{Name: name, Networks: []Membership{{network, addresses("10.0.0.2")}}}}}
		s := New(ServerConfig{})
		s.SetZone(Compile(c))
		for _, q := range []mdns.Question{
			{Name: name, Qtype: typeA}, {Name: name + "." + network, Qtype: typeA}, {Name: name + "." + domain, Qtype: typeAAAA}, {Name: domain, Qtype: mdns.TypeSOA},
			{Name: "_80._tcp." + name, Qtype: mdns.TypeSRV}, {Name: "2.0.0.10.in-addr.arpa", Qtype: mdns.TypePTR}, {Name: "nix", Qtype: typeA},
		} {
			m, _, err := s.Query(t.Context(), name, q.Name, q.Qtype)
			if m == nil && err == nil {
				t.Fatalf("%v: neither answer nor error", q)
			}
			if err != nil && strings.HasPrefix(err.Error(), "dns: the answer") {
				t.Fatalf("%v: %v", q, err)
			}
		}
	})
}
