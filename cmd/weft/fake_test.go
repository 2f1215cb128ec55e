package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/stack/capture"
)

// fakeAgent is an agent in a cluster that never was. It answers what is below, and records what changes it was asked for.
type fakeAgent struct {
	cluster   api.Cluster
	nodes     []api.Member
	networks  []api.NetworkDetail
	endpoints []api.Endpoint
	audit     []api.Audit
	answer    api.LookupAnswer
	records   []api.NameRecord
	flows     []api.OutsideFlow
	stats     api.Stats
	err       error // of everything that would change something, and of Cluster

	mu    sync.Mutex
	asked []string
}

var day = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const (
	idA = "0a3b1c9d8e7f6g5h4i3j2k1l0"
	idB = "1b3b1c9d8e7f6g5h4i3j2k1l0"
)

func newFakeAgent() *fakeAgent {
	prefix, addr, port := netip.MustParsePrefix, netip.MustParseAddr, netip.MustParseAddrPort
	return &fakeAgent{
		cluster: api.Cluster{ID: "c0ffee", Created: day, Node: idA, Role: "manager", Index: 42, Quorum: true, Leader: "alpha",
			Nodes: 3, Managers: 2, Pools: []api.Pool{{Base: prefix("10.0.0.0/8"), Size: 24}}, KeyEpoch: 3, Rotating: true},
		nodes: []api.Member{
			{ID: idB, Name: "beta", Status: "down", Availability: "drain", Role: "manager", Version: "v1"},
			{ID: idA, Name: "alpha", Self: true, Status: "ready", Availability: "active", Role: "manager", Leader: true, Version: "v1", VTEP: netip.MustParseAddrPort("192.0.2.1:4789")},
			{ID: "2c3b1c9d8e7f6g5h4i3j2k1l0", Name: "gamma", Status: "suspect", Availability: "active", Role: "worker", VTEP: netip.MustParseAddrPort("192.0.2.3:4789")},
		},
		networks: []api.NetworkDetail{
			{ID: "w3b1c9d8e7f6g5h4i3j2k1l0x", Name: "web", Created: day, Driver: "overlay", Scope: "swarm", VNI: 4097, Egress: "internet", Labels: map[string]string{"team": "a", "tmp": ""},
				Subnets: []api.Subnet{{Prefix: prefix("10.0.1.0/24"), Gateway: addr("10.0.1.1")}}},
			{ID: "b3b1c9d8e7f6g5h4i3j2k1l0x", Name: "here", Created: day, Driver: "bridge", Scope: "local", Node: "alpha", VNI: 4098, Egress: "none", Labels: map[string]string{"team": "b"}},
			{ID: "i3b1c9d8e7f6g5h4i3j2k1l0x", Name: "ingress", Created: day, Driver: "overlay", Scope: "swarm", VNI: 4096, Egress: "internet", Ingress: true},
		},
		endpoints: []api.Endpoint{
			{ID: "e2", Name: "c2", Network: "web", Node: "gamma", MAC: 0x02420a000103, Addresses: []netip.Prefix{prefix("10.0.1.3/24")}, State: "hidden"},
			{ID: "e1", Name: "c1", Network: "web", Node: "alpha", Interface: "eth0", MAC: 0x02420a000102, Local: true, State: "up",
				Addresses: []netip.Prefix{prefix("10.0.1.2/24"), prefix("fd00::2/64")}, Gateways: []netip.Addr{addr("10.0.1.1")}},
			{ID: "e3", Name: "c1", Network: "here", Node: "alpha", Interface: "eth1", MAC: 0x02420a000202, Local: true, State: "gone", Error: "its namespace ended",
				Addresses: []netip.Prefix{prefix("10.0.2.2/24")}},
		},
		answer: api.LookupAnswer{Node: "alpha", Rcode: "NOERROR",
			Answers: []api.ResourceRecord{{Name: "db.", TTL: 1, Type: "A", Data: "10.0.1.3"}},
			Explanation: &api.Explanation{
				Networks: []api.AskerNetwork{{Network: "web", Addresses: []netip.Addr{addr("10.0.1.2")}}, {Network: "here", Addresses: []netip.Addr{addr("10.0.2.2")}}},
				Rule:     "name", Reason: "db is an alias on network web", Network: "web", TTL: 1,
				Records: []api.NameRecord{
					{Network: "web", Container: "c2", As: "alias", Node: "gamma", Addresses: []netip.Addr{addr("10.0.1.3")}, Since: day},
					{Network: "web", Container: "c3", As: "alias", Node: "beta", Addresses: []netip.Addr{addr("10.0.1.4")}, Since: day, Hidden: true, LeftOut: "its node does not answer"},
				}}},
		records: []api.NameRecord{
			{Network: "web", Container: "c2", Names: []string{"c2", "db"}, Service: "store", Node: "gamma", Addresses: []netip.Addr{addr("10.0.1.3")}, Since: day, Hidden: true},
			{Network: "web", Container: "c1", Names: []string{"c1"}, Node: "alpha", Addresses: []netip.Addr{addr("10.0.1.2")}, Since: day,
				Ports: []dns.Port{{Name: "http", Number: 8080, Protocol: "tcp"}, {Number: 53, Protocol: "udp"}}},
		},
		flows: []api.OutsideFlow{
			{Network: "web", Container: "c1", Protocol: "udp", State: "unreplied", Source: port("10.0.1.2:5353"), Target: port("192.0.2.53:53"),
				Started: day, Idle: 2 * time.Second, Sent: 40},
			{Network: "web", Container: "c1", Protocol: "tcp", State: "established", Source: port("10.0.1.2:40000"), Target: port("198.51.100.7:443"),
				Outer: port("192.0.2.1:50000"), Started: day, Idle: 12 * time.Millisecond, Sent: 1234, Received: 5678901},
			{Network: "here", Container: "c9", Protocol: "icmp", State: "replied", Source: port("10.0.2.9:7"), Target: port("192.0.2.9:0"), Started: day},
		},
	}
}

// serve runs the agent until the test ends, and returns its socket.
func (f *fakeAgent) serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	s, err := api.Open(socket, api.Options{Node: f, Control: f, Doctor: f, Resolver: f, Outside: f})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the fake agent: %v", err)
		}
	})
	return socket
}

// ask records a change as "what {json}".
func (f *fakeAgent) ask(what string, values ...any) error {
	var line strings.Builder
	line.WriteString(what)
	for _, v := range values {
		if s, ok := v.(string); ok {
			line.WriteString(" " + s)
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		line.WriteString(" " + string(b))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, line.String())
	return f.err
}

// told returns what was asked since the last call.
func (f *fakeAgent) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

var _ api.Node = (*fakeAgent)(nil)

func (f *fakeAgent) Status() api.Status {
	return api.Status{Node: "alpha", PID: 7, Started: day, Underlay: netip.MustParseAddrPort("192.0.2.1:4789"), Threads: 1}
}
func (f *fakeAgent) Networks() []api.Network { return []api.Network{{Name: "web", VNI: 4097}} }
func (f *fakeAgent) FDB() []api.FDBEntry     { return nil }
func (f *fakeAgent) Ports() []api.PortStatus { return []api.PortStatus{{Network: "web", Name: "c1"}} }
func (f *fakeAgent) Stats() api.Stats        { return f.stats }
func (f *fakeAgent) Tap() *capture.Tap       { return nil }

func (f *fakeAgent) tokens() api.JoinTokens {
	return api.JoinTokens{Worker: "WFTKN-1-d-w", Manager: "WFTKN-1-d-m", Remote: netip.MustParseAddrPort("192.0.2.1:7373")}
}

func (f *fakeAgent) Cluster(context.Context) (api.Cluster, error) { return f.cluster, f.err }
func (f *fakeAgent) Init(_ context.Context, r api.InitRequest) (api.JoinTokens, error) {
	return f.tokens(), f.ask("init", r)
}
func (f *fakeAgent) Join(_ context.Context, r api.JoinRequest) (api.Member, error) {
	return f.nodes[2], f.ask("join", r)
}
func (f *fakeAgent) Leave(_ context.Context, r api.LeaveRequest) error { return f.ask("leave", r) }
func (f *fakeAgent) Tokens(context.Context) (api.JoinTokens, error) {
	return f.tokens(), f.ask("tokens")
}
func (f *fakeAgent) RotateKeys(context.Context) error { return f.ask("rotate-keys") }
func (f *fakeAgent) Backup(context.Context) ([]byte, error) {
	return []byte("state\n"), f.ask("backup")
}
func (f *fakeAgent) Restore(_ context.Context, r api.RestoreRequest) error {
	return f.ask("restore", r)
}
func (f *fakeAgent) Members(context.Context) ([]api.Member, error)         { return f.nodes, f.err }
func (f *fakeAgent) Segments(context.Context) ([]api.NetworkDetail, error) { return f.networks, f.err }
func (f *fakeAgent) PruneNetworks(context.Context) ([]string, error) {
	return []string{"old", "older"}, f.ask("prune")
}
func (f *fakeAgent) Audit(context.Context) ([]api.Audit, error)  { return f.audit, f.err }
func (f *fakeAgent) Checks(context.Context) ([]api.Check, error) { return nil, f.err }
func (f *fakeAgent) RemoveNetwork(_ context.Context, ref string) error {
	return f.ask("rm network", ref)
}
func (f *fakeAgent) Detach(_ context.Context, name, network string) error {
	return f.ask("detach", name, network)
}
func (f *fakeAgent) RemoveMember(_ context.Context, r string, x bool) error {
	return f.ask("rm node", r, x)
}
func (f *fakeAgent) Usage(context.Context) ([]api.Usage, error) {
	p := netip.MustParsePrefix
	return []api.Usage{
		{Network: "web", Prefix: p("10.0.1.0/24"), Range: p("10.0.1.128/25"), Size: 127, Leased: 32, Used: 3, Free: 95, Reserved: 1},
		{Network: "here", Prefix: p("10.0.2.0/24"), Size: 253, Free: 253, Reserved: 3},
	}, f.err
}
func (f *fakeAgent) RotateToken(_ context.Context, role string) (api.JoinTokens, error) {
	return f.tokens(), f.ask("rotate", role)
}
func (f *fakeAgent) Member(_ context.Context, ref string) (api.Member, error) {
	return find("node", f.nodes, ref, func(m api.Member) string { return m.Name })
}
func (f *fakeAgent) ChangeMember(ctx context.Context, ref string, change api.MemberChange) (api.Member, error) {
	if _, err := f.Member(ctx, ref); err != nil {
		return api.Member{}, err
	}
	return f.nodes[0], f.ask("change", ref, change)
}
func (f *fakeAgent) Segment(_ context.Context, ref string) (api.NetworkDetail, error) {
	return find("network", f.networks, ref, func(n api.NetworkDetail) string { return n.Name })
}
func (f *fakeAgent) CreateNetwork(_ context.Context, r api.NetworkRequest) (api.NetworkDetail, error) {
	return f.networks[0], f.ask("create", r)
}
func (f *fakeAgent) Endpoints(_ context.Context, network string) (all []api.Endpoint, err error) {
	for _, e := range f.endpoints {
		if network == "" || e.Network == network {
			all = append(all, e)
		}
	}
	return all, f.err
}
func (f *fakeAgent) Endpoint(_ context.Context, ref string) (all []api.Endpoint, err error) {
	for _, e := range f.endpoints {
		if e.Name == ref || e.ID == ref {
			all = append(all, e)
		}
	}
	if all == nil {
		err = api.Refuse(404, "no endpoint %q", ref)
	}
	return all, err
}
func (f *fakeAgent) Attach(_ context.Context, r api.AttachRequest) ([]api.Endpoint, error) {
	e := f.endpoints[1]
	e.Warning = "no other node answered within 3s"
	return []api.Endpoint{e}, f.ask("attach", r)
}

func (f *fakeAgent) Lookup(_ context.Context, r api.LookupRequest) (api.LookupAnswer, error) {
	a := f.answer
	a.LookupRequest = r
	return a, f.err
}
func (f *fakeAgent) Records(_ context.Context, network string) (all []api.NameRecord, err error) {
	for _, r := range f.records {
		if network == "" || r.Network == network {
			all = append(all, r)
		}
	}
	return all, f.err
}
func (f *fakeAgent) Flows(context.Context) ([]api.OutsideFlow, error) { return f.flows, f.err }

func find[T any](kind string, all []T, ref string, name func(T) string) (T, error) {
	for _, v := range all {
		if name(v) == ref {
			return v, nil
		}
	}
	var none T
	return none, api.Refuse(404, "no %s %q", kind, ref)
}
