package dns

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// brief is what an explanation says in one line: rule, rcode, network, and the records with why they were left out.
func brief(e Explanation) string {
	b := &strings.Builder{}
	b.WriteString(e.Rule + " " + e.Rcode)
	if e.Network != "" {
		b.WriteString(" on " + e.Network)
	}
	for _, r := range e.Records {
		who := r.Container
		if who == "" {
			who = r.Service
		}
		b.WriteString("; " + strings.TrimSpace(r.As+" of "+who))
		if r.Node != "" {
			b.WriteString(" at " + r.Node)
		}
		if r.LeftOut != "" {
			b.WriteString(" (" + r.LeftOut + ")")
		}
	}
	return b.String()
}

func TestExplanations(t *testing.T) {
	s := serverOf(town())
	for _, tt := range []struct {
		container, name string
		qtype           uint16
		want            string
	}{
		{"web", "web", typeA, "name NOERROR on front; name of web at n1"},
		{"web", "Shop.", typeA, "name NOERROR on front; alias of web at n1"},
		{"web", "www", typeA, "name NOERROR on front; hostname of web at n1"},
		{"web", "db", typeAAAA, "name NOERROR on front; name of db at n2 (it has no IPv6 address); name of db at n2 (web is not on network back)"},
		{"both", "db", typeA, "name NOERROR on front; name of db at n2; name of db at n2 (network front has the name too, and comes first)"},
		{"both", "a.back", typeA, "qualified NOERROR on back; name of a at n2; name of a.back at n1 (network back has the name too, and comes first)"},
		{"both", "api", typeA, "name NOERROR on back; vip of api"},
		{"both", "tasks.api.weft.internal", typeA, "name NOERROR on back; task of api.1 at n1; task of api.2 at n2"},
		{"both", "job", typeA, "name NOERROR on back; service of job.1 at n1"},
		{"web", "lost", typeA, "name NOERROR on front; name of lost at n3 (its node does not answer); name of lost at n1 (web is not on network back)"},
		{"web", "pair", typeA, "name NOERROR on front; alias of pair1 at n1; alias of pair2 at n2; alias of pair3 at n3 (its node does not answer)"},
		{"web", "pair", mdns.TypeMX, "name NOERROR on front; alias of pair1 at n1 (names have no MX records); alias of pair2 at n2 (names have no MX records); alias of pair3 at n3 (its node does not answer)"},
		{"web", "_http._tcp.web", mdns.TypeSRV, "service NOERROR on front; name of web at n1"},
		{"web", "_81._tcp.web", mdns.TypeSRV, "service NXDOMAIN on front; name of web at n1 (it does not expose port 81/tcp)"},
		{"web", "secret", typeA, "dotless NXDOMAIN; name of secret at n9 (web is not on network other)"},
		{"web", "secret.other", typeA, "claimed NXDOMAIN; name of secret at n9 (web is not on network other)"},
		{"web", "secret.weft.internal", typeA, "unknown NXDOMAIN; name of secret at n9 (web is not on network other)"},
		{"web", "gateway.front", typeA, "qualified NOERROR on front; gateway of"},
		{"web", "host.weft.internal", typeA, "host NOERROR; host of"},
		{"web", "localhost", typeA, "localhost NOERROR"},
		{"web", "weft.internal", typeA, "apex NOERROR"},
		{"web", "30.1.0.10.in-addr.arpa", mdns.TypePTR, "reverse NOERROR on front; address of db at n2"},
		{"web", "60.1.0.10.in-addr.arpa", mdns.TypePTR, "reverse NOERROR on front; address of lost at n3 (its node does not answer)"},
		{"web", "9.1.0.10.in-addr.arpa", mdns.TypePTR, "reverse NXDOMAIN on front"},
		{"web", "9.2.0.10.in-addr.arpa", mdns.TypePTR, "foreign NXDOMAIN"},
		{"key", "example.org", typeA, "internal REFUSED"},
		{"web", "example.org", mdns.TypeAXFR, "refused REFUSED"},
		{"web", "example.org", typeA, "forward NOERROR"},
		{"web", "fail.example.org", typeA, "forward SERVFAIL"},
	} {
		m, e, err := s.Query(t.Context(), tt.container, tt.name, tt.qtype)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := brief(e); got != tt.want {
			t.Errorf("%s %s from %s:\n got %s\nwant %s", tt.name, mdns.Type(tt.qtype), tt.container, got, tt.want)
		}
		if mdns.RcodeToString[m.Rcode] != e.Rcode || e.Reason == "" || (e.Forwarded != nil) != (e.Rule == "forward") {
			t.Errorf("%s: %s answered, explained as %+v", tt.name, mdns.RcodeToString[m.Rcode], e)
		}
	}
}

func TestAnExplanationIsAllThatIsKnown(t *testing.T) {
	_, e, err := serverOf(town()).Query(t.Context(), "both", "web", typeA)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"web.","type":"A","container":"both","networks":["front","back"],"rule":"name",` +
		`"reason":"network front is the first of the container's networks that has the name","rcode":"NOERROR","ttl":1,"network":"front",` +
		`"records":[{"container":"web","node":"n1","network":"front","as":"name","addresses":["10.0.1.10","fd00:1::10"],` +
		`"ports":[{"name":"http","number":80,"protocol":"tcp"},{"name":"dns","number":53,"protocol":"udp"}],"since":"2026-01-02T03:04:05Z"}]}`
	if string(b) != want {
		t.Fatalf("\n got %s\nwant %s", b, want)
	}
}

func TestForwardsAreTraced(t *testing.T) {
	from := netip.MustParseAddrPort("198.51.100.53:53")
	s := New(ServerConfig{Trace: func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, Forwarded, error) {
		return new(mdns.Msg).SetRcode(q, mdns.RcodeNameError), Forwarded{Server: from, Took: 7 * time.Millisecond, Cached: true}, nil
	}})
	s.SetZone(Compile(town()))
	m, e, err := s.Query(t.Context(), "web", "example.org", typeA)
	if err != nil {
		t.Fatal(err)
	}
	want := Forwarded{Server: from, Took: 7 * time.Millisecond, Cached: true, Rcode: "NXDOMAIN"}
	if m.Rcode != mdns.RcodeNameError || *e.Forwarded != want {
		t.Fatalf("%v, %+v, want %+v", m, *e.Forwarded, want)
	}
}

func TestQueriesThatCannotBeAsked(t *testing.T) {
	s := serverOf(town())
	for _, tt := range []struct {
		container, name string
		qtype           uint16
		want            string
	}{
		{"nix", "web", typeA, `no container "nix" on this node`},
		{"web", "a..b", typeA, `"a..b" cannot be asked`},
		{"web", strings.Repeat("x", 64), typeA, "cannot be asked"},
		{"web", "web", mdns.TypeOPT, "type OPT"},
	} {
		if _, _, err := s.Query(t.Context(), tt.container, tt.name, tt.qtype); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q from %s: %v, want %s", mdns.Type(tt.qtype), tt.name, tt.container, err, tt.want)
		}
	}
	if _, e, err := serverOf(town()).Query(t.Context(), "web", "web", typeA); err != nil || e.Rcode != "NOERROR" {
		t.Fatal(e, err)
	}
}

func TestWithNobodyToAskTheAnswerIsAFailure(t *testing.T) {
	s := New(ServerConfig{})
	s.SetZone(Compile(town()))
	m, e, err := s.Query(t.Context(), "web", "example.org", typeA)
	if err != nil || m.Rcode != mdns.RcodeServerFailure || e.Forwarded.Error == "" {
		t.Fatalf("%v %+v %v", m, e, err)
	}
	m = ask(t, s, "front", "10.0.1.10", new(mdns.Msg).SetQuestion("example.org.", typeA), false)
	if m.Rcode != mdns.RcodeServerFailure || s.Stats().Drops["forwarder"] != 1 {
		t.Fatalf("%v, %+v", m, s.Stats())
	}
}
