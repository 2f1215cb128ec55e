package dns

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"
)

// respond is a Forwarder of one function.
type respond func(q *mdns.Msg, tcp bool) *mdns.Msg

func (f respond) Forward(_ context.Context, q *mdns.Msg, tcp bool) (*mdns.Msg, error) {
	return f(q, tcp), nil
}

func TestWhatIsPassedOn(t *testing.T) {
	var got *mdns.Msg
	s := New(ServerConfig{Forwarder: respond(func(q *mdns.Msg, tcp bool) *mdns.Msg { got = q.Copy(); return new(mdns.Msg).SetReply(q) })})
	s.SetZone(Compile(town()))
	q := new(mdns.Msg).SetQuestion("eXample.org.", 65) // HTTPS
	q.CheckingDisabled, q.AuthenticatedData, q.RecursionDesired = true, true, false
	q.SetEdns0(4096, true)
	q.IsEdns0().Option = []mdns.EDNS0{
		&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0011223344556677"},
		&mdns.EDNS0_SUBNET{Code: mdns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{10, 0, 1, 0}},
	}
	m := ask(t, s, "front", "10.0.1.10", q, false)
	o := got.IsEdns0()
	if got.Question[0] != q.Question[0] || !got.CheckingDisabled || !got.AuthenticatedData || got.RecursionDesired || !o.Do() || len(o.Option) != 0 {
		t.Fatalf("others were asked %v", got)
	}
	if m.Question[0] != q.Question[0] || m.Id != q.Id || !m.CheckingDisabled || m.RecursionDesired {
		t.Fatalf("answered %v", m)
	}
}

func TestOthersAnswersAreMadeToFit(t *testing.T) {
	for _, tt := range []struct {
		why  string
		edns bool
		tcp  bool
		ad   bool
		give func(m *mdns.Msg)
		want func(m *mdns.Msg) bool
	}{
		{"cut to 512", false, false, false, func(m *mdns.Msg) { many(m, 100) }, func(m *mdns.Msg) bool { return m.Truncated && m.Len() <= 512 && len(m.Answer) > 0 }},
		{"cut to what an MTU carries", true, false, false, func(m *mdns.Msg) { many(m, 100) }, func(m *mdns.Msg) bool { return m.Truncated && m.Len() <= 1232 && m.IsEdns0() != nil }},
		{"whole by TCP", false, true, false, func(m *mdns.Msg) { many(m, 100) }, func(m *mdns.Msg) bool { return !m.Truncated && len(m.Answer) == 100 }},
		{"cut by TCP only beyond its length", false, true, false, func(m *mdns.Msg) { many(m, 9000) }, func(m *mdns.Msg) bool { return m.Truncated && len(m.Answer) > 1000 }},
		{"another ID and question", false, false, false, func(m *mdns.Msg) { m.Id++; m.Question[0].Name = "EXAMPLE.org." }, func(m *mdns.Msg) bool { return m.Rcode == 0 }},
		{"not authoritative", false, false, false, func(m *mdns.Msg) { m.Authoritative = true }, func(m *mdns.Msg) bool { return !m.Authoritative && m.RecursionAvailable }},
		{"AD to who asked for it", false, false, true, func(m *mdns.Msg) { m.AuthenticatedData = true }, func(m *mdns.Msg) bool { return m.AuthenticatedData }},
		{"AD to nobody else", false, false, false, func(m *mdns.Msg) { m.AuthenticatedData = true }, func(m *mdns.Msg) bool { return !m.AuthenticatedData }},
		{"no OPT to who has none", false, false, false, func(m *mdns.Msg) { m.SetEdns0(4096, true) }, func(m *mdns.Msg) bool { return m.IsEdns0() == nil }},
		{"one OPT of ours", true, false, false, func(m *mdns.Msg) { m.SetEdns0(4096, true); m.SetEdns0(512, false) }, func(m *mdns.Msg) bool {
			return len(m.Extra) == 1 && m.IsEdns0().UDPSize() == 1232 && !m.IsEdns0().Do()
		}},
		{"an rcode that needs OPT", true, false, false, func(m *mdns.Msg) { m.Rcode = mdns.RcodeBadCookie }, func(m *mdns.Msg) bool { return m.Rcode == mdns.RcodeBadCookie }},
		{"which who has none cannot be told", false, false, false, func(m *mdns.Msg) { m.Rcode = mdns.RcodeBadCookie }, func(m *mdns.Msg) bool { return m.Rcode == mdns.RcodeServerFailure }},
		{"what cannot be packed", false, false, false, func(m *mdns.Msg) { m.Answer = []mdns.RR{&mdns.CNAME{Target: "a..b"}} }, func(m *mdns.Msg) bool { return m.Rcode == mdns.RcodeServerFailure }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := New(ServerConfig{Forwarder: respond(func(q *mdns.Msg, tcp bool) *mdns.Msg {
				if tcp != tt.tcp {
					t.Errorf("tcp %t", tcp)
				}
				m := new(mdns.Msg).SetReply(q.Copy())
				tt.give(m)
				return m
			})})
			s.SetZone(Compile(town()))
			q := new(mdns.Msg).SetQuestion("example.org.", typeA)
			q.AuthenticatedData = tt.ad
			if tt.edns {
				q.SetEdns0(4096, false)
			}
			m := ask(t, s, "front", "10.0.1.10", q, tt.tcp)
			m.Compress = true
			if !tt.want(m) || m.Id != q.Id || m.Question[0] != q.Question[0] {
				t.Fatalf("%d bytes: %.800s", m.Len(), m)
			}
			if n := s.Stats().Outstanding; n != 0 {
				t.Fatalf("%d are outstanding", n)
			}
		})
	}
}

// many gives an answer n addresses.
func many(m *mdns.Msg, n int) {
	for i := range n {
		m.Answer = append(m.Answer, &mdns.A{
			Hdr: mdns.RR_Header{Name: m.Question[0].Name, Rrtype: typeA, Class: mdns.ClassINET, Ttl: 60}, A: []byte{198, 51, byte(i >> 8), byte(i)},
		})
	}
}

func TestStatsCountByRuleAndCode(t *testing.T) {
	s := serverOf(town())
	for _, name := range []string{"web.", "web.", "db.front.", "nix.", "example.org.", "fail.example.org.", "weft.internal."} {
		ask(t, s, "front", "10.0.1.10", new(mdns.Msg).SetQuestion(name, typeA), name == "nix.")
	}
	exchange(s, "front", netip.MustParseAddr("10.0.1.10"), make([]byte, 5), false)
	got := fmt.Sprintf("%+v", s.Stats())
	want := fmt.Sprintf("%+v", Stats{
		UDP: 7, TCP: 1,
		Rules:  map[string]uint64{"name": 2, "qualified": 1, "dotless": 1, "forward": 2, "apex": 1},
		Rcodes: map[string]uint64{"NOERROR": 5, "NXDOMAIN": 1, "SERVFAIL": 1},
		Drops:  map[string]uint64{"forwarder": 1, "short": 1},
	})
	if got != want {
		t.Fatalf("\n got %s\nwant %s", got, want)
	}
}

func TestEveryRuleAndDropHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range append(ruleNames[:], dropNames[:]...) {
		if name == "" {
			t.Fatal("one has none")
		}
		seen[name] = true
	}
	if len(seen) != numRules+numDrops {
		t.Fatalf("%d names for %d: %v", len(seen), numRules+numDrops, seen)
	}
}
