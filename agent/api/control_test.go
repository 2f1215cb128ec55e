package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/agent/api/object"
	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/frame"
)

// control is a cluster that records what it was asked, answers with what it has, and fails if it is told to.
type control struct {
	err   error
	calls []string
	asked []string // of Lookup, Records and Flows

	several bool // there are endpoints on two nodes: c0 and c1 here, c2 on b
}

var (
	fakeCluster = Cluster{ID: "abc", Created: time.Unix(1e9, 0).UTC(), Role: "manager", Quorum: true, Pools: []Pool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}}
	fakeTokens  = JoinTokens{Worker: "WFTKN-1-a-b", Manager: "WFTKN-1-a-c", Remote: netip.MustParseAddrPort("192.0.2.1:7373")}
	fakeMember  = Member{ID: "n1", Name: "a", Status: NodeReady, Role: "worker", Routes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Networks: []string{"web"}}
	fakeNetwork = NetworkDetail{ID: "w1", Name: "web", Driver: "overlay", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")}}}
	fakeEnd     = Endpoint{ID: "e1", Name: "c1", Network: "web", MAC: 0x02420a000102, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.2/24")}}
	fakeUsage   = Usage{Network: "web", Prefix: netip.MustParsePrefix("10.0.1.0/24"), Size: 253, Free: 253}
	fakeAudit   = Audit{Network: "web", Address: netip.MustParseAddr("10.0.1.9"), Node: "a", Finding: "leased, and used by nobody"}
	fakeCheck   = Check{Name: "tun", Level: CheckFail, Found: "no /dev/net/tun", Remedy: "modprobe tun"}
)

func (c *control) called(format string, args ...any) error {
	c.calls = append(c.calls, fmt.Sprintf(format, args...))
	return c.err
}

func (c *control) Cluster(context.Context) (Cluster, error) { return fakeCluster, c.called("cluster") }
func (c *control) Init(_ context.Context, r InitRequest) (JoinTokens, error) {
	return fakeTokens, c.called("init %+v", r)
}
func (c *control) Join(_ context.Context, r JoinRequest) (Member, error) {
	return fakeMember, c.called("join %+v", r)
}
func (c *control) Leave(_ context.Context, r LeaveRequest) error { return c.called("leave %+v", r) }
func (c *control) Tokens(context.Context) (JoinTokens, error)    { return fakeTokens, c.called("tokens") }
func (c *control) RotateKeys(context.Context) error              { return c.called("rotate keys") }
func (c *control) Backup(context.Context) ([]byte, error) {
	return []byte("\x00state"), c.called("backup")
}
func (c *control) Members(context.Context) ([]Member, error) {
	return []Member{fakeMember}, c.called("nodes")
}
func (c *control) PruneNetworks(context.Context) ([]string, error) { return nil, c.called("prune") }
func (c *control) Usage(context.Context) ([]Usage, error) {
	return []Usage{fakeUsage}, c.called("usage")
}
func (c *control) Audit(context.Context) ([]Audit, error) {
	return []Audit{fakeAudit}, c.called("audit")
}
func (c *control) Checks(context.Context) ([]Check, error) {
	return []Check{fakeCheck}, c.called("checks")
}
func (c *control) RotateToken(_ context.Context, role string) (JoinTokens, error) {
	return fakeTokens, c.called("rotate %s", role)
}
func (c *control) Restore(_ context.Context, r RestoreRequest) error {
	return c.called("restore %d %t", len(r.Backup), r.Force)
}
func (c *control) Member(_ context.Context, ref string) (Member, error) {
	return fakeMember, c.called("node %s", ref)
}
func (c *control) ChangeMember(_ context.Context, ref string, change MemberChange) (Member, error) {
	return fakeMember, c.called("change %s %+v", ref, change)
}
func (c *control) RemoveMember(_ context.Context, ref string, force bool) error {
	return c.called("remove node %s %t", ref, force)
}
func (c *control) Segments(context.Context) ([]NetworkDetail, error) {
	return []NetworkDetail{fakeNetwork}, c.called("networks")
}
func (c *control) Segment(_ context.Context, ref string) (NetworkDetail, error) {
	return fakeNetwork, c.called("network %s", ref)
}
func (c *control) CreateNetwork(_ context.Context, r NetworkRequest) (NetworkDetail, error) {
	return fakeNetwork, c.called("create %s %s %v", r.Name, r.Driver, r.Subnets)
}
func (c *control) RemoveNetwork(_ context.Context, ref string) error {
	return c.called("remove network %s", ref)
}
func (c *control) Endpoints(_ context.Context, network string) ([]Endpoint, error) {
	if c.several {
		here, there := fakeEnd, fakeEnd
		here.Local, there.Name, there.Node = true, "c2", "b"
		none := here
		none.Name = "c0"
		return []Endpoint{here, there, none}, nil
	}
	return []Endpoint{fakeEnd}, c.called("endpoints %q", network)
}
func (c *control) Endpoint(_ context.Context, ref string) ([]Endpoint, error) {
	return []Endpoint{fakeEnd}, c.called("endpoint %s", ref)
}
func (c *control) Attach(_ context.Context, r AttachRequest) ([]Endpoint, error) {
	return []Endpoint{fakeEnd}, c.called("attach %s to %s by pid %d", r.Name, r.Networks[0].Network, r.PID)
}
func (c *control) Detach(_ context.Context, container, network string) error {
	return c.called("detach %s %q", container, network)
}

// serveCluster runs a server of a member until the test ends.
func serveCluster(t *testing.T) (*control, *Client) {
	t.Helper()
	c := &control{}
	s, err := Open(filepath.Join(t.TempDir(), "s"), Options{Node: fake{capture.New()}, Control: c, Doctor: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return c, NewClient(s.path)
}

// questions are all that a client can ask of a cluster, with what its control is called with and what comes back.
func questions(ctx context.Context, c *Client) []question {
	none := func(err error) (any, error) { return nil, err }
	mac := frame.MAC(0x02420a000102)
	create := NetworkRequest{Name: "web", Driver: "bridge", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.0.1.0/24")}}}
	attach := AttachRequest{Name: "c1", PID: 7, Networks: []Attachment{{Network: "web", MAC: &mac, Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.2")}}}}
	return []question{
		{"cluster", fakeCluster, func() (any, error) { return c.Cluster(ctx) }},
		{"init {Name:a Pools:[10.0.0.0/8] PoolSize:20}", fakeTokens, func() (any, error) {
			return c.Init(ctx, InitRequest{"a", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, 20})
		}},
		{"join {Token:T Remote:h:7373 Name:b}", fakeMember, func() (any, error) { return c.Join(ctx, JoinRequest{"T", "h:7373", "b"}) }},
		{"leave {Force:true}", nil, func() (any, error) { return none(c.Leave(ctx, LeaveRequest{true})) }},
		{"tokens", fakeTokens, func() (any, error) { return c.Tokens(ctx) }},
		{"rotate worker", fakeTokens, func() (any, error) { return c.RotateToken(ctx, "worker") }},
		{"rotate keys", nil, func() (any, error) { return none(c.RotateKeys(ctx)) }},
		{"backup", []byte("\x00state"), func() (any, error) { return c.Backup(ctx) }},
		{"restore 2097152 true", nil, func() (any, error) { return none(c.Restore(ctx, RestoreRequest{make([]byte, 2<<20), true})) }},
		{"nodes", []Member{fakeMember}, func() (any, error) { return c.Members(ctx) }},
		{"node a b/c", fakeMember, func() (any, error) { return c.Member(ctx, "a b/c") }},
		{"change a {Role:manager Availability:}", fakeMember, func() (any, error) { return c.ChangeMember(ctx, "a", MemberChange{Role: "manager"}) }},
		{"remove node a true", nil, func() (any, error) { return none(c.RemoveMember(ctx, "a", true)) }},
		{"remove node a false", nil, func() (any, error) { return none(c.RemoveMember(ctx, "a", false)) }},
		{"networks", []NetworkDetail{fakeNetwork}, func() (any, error) { return c.Segments(ctx) }},
		{"network prune", fakeNetwork, func() (any, error) { return c.Segment(ctx, "prune") }},
		{"create web bridge [{10.0.1.0/24 invalid Prefix invalid IP map[]}]", fakeNetwork, func() (any, error) { return c.CreateNetwork(ctx, create) }},
		{"remove network web", nil, func() (any, error) { return none(c.RemoveNetwork(ctx, "web")) }},
		{"prune", []string{}, func() (any, error) { return c.PruneNetworks(ctx) }},
		{`endpoints ""`, []Endpoint{fakeEnd}, func() (any, error) { return c.Endpoints(ctx, "") }},
		{`endpoints "web"`, []Endpoint{fakeEnd}, func() (any, error) { return c.Endpoints(ctx, "web") }},
		{"endpoint c1", []Endpoint{fakeEnd}, func() (any, error) { return c.Endpoint(ctx, "c1") }},
		{"attach c1 to web by pid 7", []Endpoint{fakeEnd}, func() (any, error) { return c.Attach(ctx, attach) }},
		{`detach c1 ""`, nil, func() (any, error) { return none(c.Detach(ctx, "c1")) }},
		{`detach c1 "web"`, nil, func() (any, error) { return none(c.DetachFrom(ctx, "c1", "web")) }},
		{"usage", []Usage{fakeUsage}, func() (any, error) { return c.Usage(ctx) }},
		{"audit", []Audit{fakeAudit}, func() (any, error) { return c.Audit(ctx) }},
		{"checks", []Check{fakeCheck}, func() (any, error) { return c.Checks(ctx) }},
	}
}

type question struct {
	call string // what reaches the control
	want any
	ask  func() (any, error)
}

func TestWhatAClientAsksReachesTheClusterAndComesBack(t *testing.T) {
	control, client := serveCluster(t)
	for _, q := range questions(t.Context(), client) {
		control.calls = nil
		got, err := q.ask()
		if err != nil || !reflect.DeepEqual(got, q.want) {
			t.Errorf("%s: got %+v, %v\nexpected %+v", q.call, got, err, q.want)
		}
		if !reflect.DeepEqual(control.calls, []string{q.call}) {
			t.Errorf("the cluster was asked %q, expected %q", control.calls, q.call)
		}
	}
}

func TestARefusalReachesTheClientWithItsTextAndStatus(t *testing.T) {
	control, client := serveCluster(t)
	for _, c := range []struct {
		err    error
		status int
	}{
		{errors.New("disk full"), 500},
		{Refuse(503, "no quorum: 1 of 3 managers answers"), 503},
		{fmt.Errorf("attach: %w", Refuse(409, "no address is left")), 409},
		{&Refusal{200, errors.New("a status that is none")}, 500},
	} {
		control.err = c.err
		for _, q := range questions(t.Context(), client) {
			_, err := q.ask()
			var got *Refusal
			if !errors.As(err, &got) || got.Status != c.status || err.Error() != c.err.Error() {
				t.Errorf("%s: got %v, expected %v with status %d", q.call, err, c.err, c.status)
			}
		}
	}
}

func TestANodeWithAStaticFileRefusesWhatTakesACluster(t *testing.T) {
	_, socket, _ := serve(t)
	for _, q := range questions(t.Context(), NewClient(socket)) {
		_, err := q.ask()
		var got *Refusal
		if !errors.As(err, &got) || got.Status != http.StatusConflict || !strings.Contains(err.Error(), "runs with --static") {
			t.Errorf("%s: got %v, expected 409 and the reason", q.call, err)
		}
	}
}

func TestFaultyRequestsOfAClusterChangeNothing(t *testing.T) {
	control, client := serveCluster(t)
	for _, c := range []struct {
		method, url, body string
		status            int
		part              string
	}{
		{"PUT", "/v1/cluster", "", 405, "method PUT on /v1/cluster; expected GET"},
		{"GET", "/v1/cluster/init", "", 405, "expected POST"},
		{"PUT", "/v1/networks/web", "{}", 405, "expected GET or DELETE"},
		{"DELETE", "/v1/networks", "", 405, "expected GET or POST"},
		{"PUT", "/v1/nodes/a", "", 405, "expected GET or POST or DELETE"},
		{"GET", "/v1/nodes/", "", 404, "no /v1/nodes/ here"},
		{"GET", "/v1/nodes/a/b", "", 404, "no /v1/nodes/a/b here"},
		{"POST", "/v1/networks", "", 400, "the body is empty; expected a JSON object"},
		{"POST", "/v1/networks", "{", 400, "no JSON"},
		{"POST", "/v1/networks", "{} {}", 400, "no JSON"},
		{"POST", "/v1/networks", "[]", 400, "the body is []; expected a JSON object"},
		{"POST", "/v1/networks", "null", 400, "the body is null; expected a JSON object"},
		{"POST", "/v1/networks", `{"name":"web","colour":1}`, 400, `unknown field "colour"; expected attachable, driver,`},
		{"POST", "/v1/networks", `{"Name":"web"}`, 400, `unknown field "Name"`},
		{"POST", "/v1/networks", `{}`, 400, `"name" is missing`},
		{"POST", "/v1/networks", `{"name":7}`, 400, `field "name" is 7; expected a string`},
		{"POST", "/v1/networks", `{"name":"web","driver":"macvlan"}`, 400, `field "driver" is "macvlan"; expected overlay or bridge`},
		{"POST", "/v1/networks", `{"name":"web","egress":"all"}`, 400, `field "egress" is "all"; expected internet, full or none`},
		{"POST", "/v1/networks", `{"name":"web","internal":true,"egress":"full"}`, 400, `field "internal" is true and "egress" is "full"; expected one of them`},
		{"POST", "/v1/networks", `{"name":"web","vni":-1}`, 400, `field "vni" is -1; expected a whole number from 0`},
		{"POST", "/v1/networks", `{"name":"web","vni":16777216}`, 400, "at most 16777215"},
		{"POST", "/v1/networks", `{"name":"web","mtu":1e3}`, 400, `field "mtu" is 1e3; expected a whole number`},
		{"POST", "/v1/networks", `{"name":"web","mtu":70000}`, 400, `field "mtu" is 70000`},
		{"POST", "/v1/networks", `{"name":"web","ipv6":"yes"}`, 400, `field "ipv6" is "yes"; expected true or false`},
		{"POST", "/v1/networks", `{"name":"web","labels":{"a":1}}`, 400, `field "labels.a" is 1; expected a string`},
		{"POST", "/v1/networks", `{"name":"web","labels":[]}`, 400, `field "labels" is []; expected an object`},
		{"POST", "/v1/networks", `{"name":"web","subnets":{}}`, 400, `field "subnets" is {}; expected a list`},
		{"POST", "/v1/networks", `{"name":"web","subnets":[{}]}`, 400, `"subnets[0].prefix" is missing`},
		{"POST", "/v1/networks", `{"name":"web","subnets":[{"prefix":"10.0.0.0/40"}]}`, 400, `field "subnets[0].prefix" is "10.0.0.0/40"; expected a subnet such as`},
		{"POST", "/v1/networks", `{"name":"web","subnets":[{"prefix":"10.0.0.0/24","aux":{"r":"x"}}]}`, 400, `field "subnets[0].aux.r" is "x"; expected an address`},
		{"POST", "/v1/networks", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413, "larger than 1048576 bytes"},
		{"POST", "/v1/networks/prune", "{}", 400, "has a body; expected none"},
		{"DELETE", "/v1/networks/web", "{}", 400, "has a body; expected none"},
		{"POST", "/v1/cluster/init", `{"pool_size":200}`, 400, `field "pool_size" is 200`},
		{"POST", "/v1/cluster/init", `{"pools":[""]}`, 400, `field "pools[0]" is empty`},
		{"POST", "/v1/cluster/join", `{"remote":"h:1"}`, 400, `"token" is missing`},
		{"POST", "/v1/cluster/join", `{"token":"T","remote":"h"}`, 400, `field "remote" is "h"; expected HOST:PORT`},
		{"POST", "/v1/cluster/join", `{"token":"T","remote":"h:0"}`, 400, "expected HOST:PORT"},
		{"POST", "/v1/cluster/tokens/boss/rotate", "", 400, `field "role" is "boss"; expected worker or manager`},
		{"POST", "/v1/cluster/restore", `{"force":true}`, 400, `"backup" is missing`},
		{"POST", "/v1/cluster/restore", `{"backup":"?"}`, 400, "expected octets in base64"},
		{"POST", "/v1/nodes/a", `{}`, 400, "nothing to change"},
		{"POST", "/v1/nodes/a", `{"role":"boss"}`, 400, `field "role" is "boss"; expected worker or manager`},
		{"POST", "/v1/nodes/a", `{"availability":"pause"}`, 400, "expected active or drain"},
		{"DELETE", "/v1/nodes/a?force=yes", "", 400, `force "yes"; expected 0 or 1`},
		{"GET", "/v1/endpoints?name=c1", "", 400, `unknown parameter "name"; /v1/endpoints takes network`},
		{"POST", "/v1/endpoints", `{"networks":[{"network":"web"}],"pid":1}`, 400, `"name" is missing`},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"networks":[{"network":"web"}],"ports":[{"number":80}]}`, 400, `field "ports": exposed port 80 has the protocol ""`},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"networks":[{"network":"web"}],"ports":[{"number":65536,"protocol":"tcp"}]}`, 400, `field "ports[0].number" is 65536`},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1}`, 400, `"networks" is missing`},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"networks":[{}]}`, 400, `"networks[0].network" is missing`},
		{"POST", "/v1/endpoints", `{"name":"c","networks":[{"network":"web"}]}`, 400, `0 of the fields "pid", "netns" and "bridge"`},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"bridge":"br0","networks":[{"network":"web"}]}`, 400, "2 of the fields"},
		{"POST", "/v1/endpoints", `{"name":"c","pid":-1,"networks":[{"network":"web"}]}`, 400, "expected process numbers"},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"networks":[{"network":"web","mac":"x"}]}`, 400, `field "networks[0].mac" is "x"; expected an Ethernet address`},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"networks":[{"network":"web","addresses":["10.0.0.1","10.0.0.2"]}]}`, 400, "two of one family"},
		{"POST", "/v1/endpoints", `{"name":"c","pid":1,"networks":[{"network":"web","addresses":["fe80::1%eth0"]}]}`, 400, `"networks[0].addresses[0]"`},
	} {
		name := c.method + " " + c.url + " " + c.body
		t.Run(name[:min(len(name), 90)], func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://weft"+c.url, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var f Failure
			if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || resp.StatusCode != c.status || !strings.Contains(f.Error, c.part) {
				t.Errorf("got %s %q (%v), expected %d and %q", resp.Status, f.Error, err, c.status, c.part)
			}
		})
	}
	if len(control.calls) > 0 {
		t.Errorf("the cluster was asked %q, expected nothing", control.calls)
	}
}

func TestAClientRefusesNamesThatAPathCannotCarry(t *testing.T) {
	control, client := serveCluster(t)
	for _, ref := range []string{"", ".", ".."} {
		if _, err := client.Segment(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "expected a name or an ID") {
			t.Errorf("network %q: %v", ref, err)
		}
		if err := client.RemoveMember(t.Context(), ref, true); err == nil || !strings.Contains(err.Error(), "expected a name or an ID") {
			t.Errorf("node %q: %v", ref, err)
		}
	}
	if len(control.calls) > 0 {
		t.Errorf("the cluster was asked %q, expected nothing", control.calls)
	}
}

// checkDecoded holds that a request which is taken comes out the same after another trip.
func checkDecoded[Q request](t *testing.T, b []byte) {
	t.Helper()
	var q, again Q
	if object.Decode(b, &q) != nil || q.check() != nil {
		return
	}
	once, err := json.Marshal(q)
	if err != nil {
		t.Fatalf("%q was taken as %+v, which cannot be written: %v", b, q, err)
	}
	if err := object.Decode(once, &again); err != nil {
		t.Fatalf("%q is written as %s, which is refused: %v", b, once, err)
	}
	if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("%q is %s, and after another trip %s (%v)", b, once, twice, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"c","pid":1,"networks":[{"network":"web","addresses":["10.0.0.1","fd00::1"],"mac":"02:42:0a:00:00:01"}]}`))
	f.Add([]byte(`{"name":"web","subnets":[{"prefix":"10.0.0.0/24","range":"","aux":{"r":"10.0.0.9"}}],"labels":{"a":"b"},"vni":5000,"mtu":1400}`))
	f.Add([]byte(`{"name":"c","pid":1,"networks":[{"network":"web"}],"ports":[{"name":"http","number":80,"protocol":"tcp"}]}`))
	f.Add([]byte(`{"name":"web","internal":true,"egress":"none"}`))
	f.Add([]byte(`{"token":"T","remote":"h:7373"}`))
	f.Add([]byte(`{"pools":["10.0.0.0/8",null],"pool_size":24}`))
	f.Add([]byte(`{"role":"worker","availability":"drain"}`))
	f.Add([]byte(`{"backup":"AAEC","force":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkDecoded[InitRequest](t, b)
		checkDecoded[JoinRequest](t, b)
		checkDecoded[LeaveRequest](t, b)
		checkDecoded[RestoreRequest](t, b)
		checkDecoded[MemberChange](t, b)
		checkDecoded[NetworkRequest](t, b)
		checkDecoded[AttachRequest](t, b)
	})
}
