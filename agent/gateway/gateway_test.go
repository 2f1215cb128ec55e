package gateway

import (
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
	"github.com/weftnet/weft/vxlan"
)

// nowhere is a network without ports.
type nowhere struct{}

func (nowhere) Send(netip.Addr, *frame.Offload, [][]byte) drop.Reason { return drop.NoRoute }

func links(vxlan.VNI) router.Link { return nowhere{} }

// two is a plan of two networks with a container each, and a third that has none here.
func two() *plan.Config {
	net := netip.MustParsePrefix
	return &plan.Config{
		Node: "a", Foreign: []netip.Prefix{net("10.0.0.0/24"), net("10.0.1.0/24"), net("10.0.2.0/24")},
		Networks: []plan.Network{
			{Name: "net0", VNI: 100, MTU: 1450, Subnets: []netip.Prefix{net("10.0.0.0/24")}, Gateways: addrs("10.0.0.1"), Endpoints: []plan.Endpoint{{Name: "c0", Interface: "eth0", Addresses: addrs("10.0.0.2")}}},
			{Name: "net1", VNI: 101, MTU: 1450, Subnets: []netip.Prefix{net("10.0.1.0/24")}, Gateways: addrs("10.0.1.1"), Endpoints: []plan.Endpoint{{Name: "c1", Interface: "eth0", Addresses: addrs("10.0.1.2")}}},
			{Name: "net2", VNI: 102, MTU: 1450, Subnets: []netip.Prefix{net("10.0.2.0/24")}, Gateways: addrs("10.0.2.1"), Remotes: []plan.Remote{{Name: "c2", Addresses: addrs("10.0.2.2"), VTEP: addrs("192.0.2.2")[0]}}},
		},
	}
}

func newSet(t *testing.T, dir string) *Set {
	t.Helper()
	s, err := New(Config{Dir: dir, Host: func() []netip.Addr { return addrs("192.0.2.1") }, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestNetworksWithAContainerHereHaveARouter(t *testing.T) {
	s := newSet(t, "")
	p := two()
	s.Plan(p, links)
	first := s.Router(100)
	if first == nil || s.Router(101) == nil || s.Router(102) != nil {
		t.Errorf("routers of the three networks: %v %v %v; want two and none", s.Router(100), s.Router(101), s.Router(102))
	}
	s.Plan(p, links)
	if s.Router(100) != first {
		t.Error("the same plan made another router")
	}
	p.Networks[1].Endpoints = nil
	s.Plan(p, links)
	if s.Router(101) != nil || s.Router(100) != first {
		t.Error("the last container has gone, and the router not, or another's has")
	}
	p.Networks[0].MTU = 9000
	s.Plan(p, links)
	if s.Router(100) == first || s.Router(100) == nil {
		t.Error("another MTU takes another router")
	}
	s.Sweep()
	if got := first.Receive(nil, new(frame.Frame)); got != drop.NoRouter {
		t.Errorf("a router that was swept says %s, want %s", got, drop.NoRouter)
	}
}

func TestAFailedRouterIsMadeAnewAndNoOtherNotices(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, dir)
	p := two()
	s.Plan(p, links)
	other := s.Router(101)
	for i := range patience {
		s.fault(s.gates[100], "a test's", []byte("stack"))
		select {
		case <-s.Changed():
		default:
			t.Fatal("nobody is told")
		}
		if s.Router(100) != nil {
			t.Error("the dead router is still given out")
		}
		s.Plan(p, links)
		s.Sweep()
		if up := s.Router(100) != nil; up != (i < patience-1) {
			t.Errorf("after %d faults: the router is up: %v", i+1, up)
		}
	}
	if s.Router(101) != other {
		t.Error("the other network has another router")
	}
	said := strings.Join(s.Problems(), "\n")
	if !strings.Contains(said, "net0") || !strings.Contains(said, "a test's") || strings.Contains(said, "net1") {
		t.Errorf("problems are %q, want those of net0 alone, with their cause", said)
	}

	again := newSet(t, dir) // as after a restart of the agent
	again.Plan(p, links)
	if again.Router(100) != nil || again.Router(101) == nil {
		t.Error("after a restart the network has its router again, or the other has none")
	}
}

func TestARouterThatFailsWhilePlansAreMadeIsNotKept(t *testing.T) {
	s := newSet(t, "")
	p := two()
	s.Plan(p, links)
	dead := s.Router(100)
	s.Plan(p, func(v vxlan.VNI) router.Link {
		if v == 101 { // net0 has been looked at
			s.fault(s.gates[100], "a test's", nil)
		}
		return nowhere{}
	})
	if s.Router(100) != nil {
		t.Error("the dead router is given out")
	}
	s.Sweep()
	s.Plan(p, links)
	if r := s.Router(100); r == nil || r == dead {
		t.Error("no other router was made")
	}
}

func TestWhatHangsInAFailedRouterDoesNotHoldUpTheOthers(t *testing.T) {
	s := newSet(t, "")
	s.Plan(two(), links)
	g := s.gates[100]
	g.serving.Add(1)
	defer g.serving.Done()
	s.fault(g, "a test's", nil)
	s.Sweep() // would never return
	if got := g.router.Receive(nil, new(frame.Frame)); got != drop.NoRouter {
		t.Errorf("the router that was swept says %s, want %s", got, drop.NoRouter)
	}
}

func TestAnotherPlanIsWantedWhenItWouldDiffer(t *testing.T) {
	host := addrs("192.0.2.1")
	s, err := New(Config{Host: func() []netip.Addr { return host }, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	p := two()
	stale := func(what string, want bool) {
		t.Helper()
		if got := s.Stale(); got != want {
			t.Errorf("%s: stale is %v, want %v", what, got, want)
		}
	}
	s.Plan(p, links)
	stale("after a plan", false)
	host = addrs("192.0.2.9")
	stale("with another address", true)
	s.Plan(p, links)
	stale("after the next plan", false)
	p.Networks[0].MTU = 10 // less than any router takes
	s.Plan(p, links)
	stale("with a router that cannot be made", true)
	p.Networks[0].MTU = 1450
	s.Plan(p, links)
	stale("when it could", false)
	for range patience {
		s.fault(s.gates[100], "a test's", nil)
		s.Plan(p, links)
	}
	stale("with a network left without a router", true)
}

func TestLookupsAnswerAsTheContainerWouldBe(t *testing.T) {
	s := newSet(t, "")
	s.Plan(two(), links)
	for name, c := range map[string]struct {
		ask  api.LookupRequest
		data string // of the first answer, or the rcode
		err  string
	}{
		"its own name":          {api.LookupRequest{Name: "c0", Type: "A", From: "c0"}, "10.0.0.2", ""},
		"by address":            {api.LookupRequest{Name: "10.0.0.2", Type: "PTR", From: "c0"}, "c0.net0.", ""},
		"another network's":     {api.LookupRequest{Name: "c1", Type: "A", From: "c0"}, "NXDOMAIN", ""},
		"the host":              {api.LookupRequest{Name: "host.weft.internal", Type: "A", From: "c1"}, "192.0.2.1", ""},
		"from another node":     {api.LookupRequest{Name: "c0", Type: "A", From: "c2"}, "", "node 192.0.2.2"},
		"from nobody":           {api.LookupRequest{Name: "c0", Type: "A", From: "c9"}, "", `"c9"`},
		"a type that is no one": {api.LookupRequest{Name: "c0", Type: "QUX", From: "c0"}, "", `"QUX"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.Lookup(t.Context(), c.ask)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want one that says %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			data := got.Rcode
			if len(got.Answers) > 0 {
				data = got.Answers[0].Data
			}
			if data != c.data || got.Node != "a" || got.Explanation.Rule == "" {
				t.Errorf("answer %+v, want %s of node a, explained", got, c.data)
			}
		})
	}
	if _, ok := mdns.StringToType["QUX"]; ok {
		t.Error("QUX is a type by now; the test wants another")
	}
}

func TestRecordsAreThoseOfThePlan(t *testing.T) {
	s := newSet(t, "")
	s.Plan(two(), links)
	all, err := s.Records(t.Context(), "")
	if err != nil || len(all) != 3 {
		t.Errorf("%d records, error %v; want 3", len(all), err)
	}
	one, err := s.Records(t.Context(), "net2")
	if err != nil || len(one) != 1 || one[0].Container != "c2" {
		t.Errorf("records of net2: %+v, error %v; want c2's", one, err)
	}
	if _, err := s.Records(t.Context(), "net9"); err == nil || !strings.Contains(err.Error(), "net9") {
		t.Errorf("error %v, want one that names the network", err)
	}
}
