package member

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/vxlan"
)

// dry is a data plane that does nothing.
type dry struct{}

func (dry) Apply(*plan.Config) error      { return nil }
func (dry) Fault(vxlan.VNI, string) error { return nil }
func (dry) Verify() []string              { return nil }
func (dry) MTU() (int, error)             { return 0, errors.New("there is no device") }

func TestPlanHasNamesAndWhatIsForeign(t *testing.T) {
	c, err := cluster.Open(cluster.Config{Dir: t.TempDir(), Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	store, err := endpoint.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &Member{cluster: c, store: store, cfg: Config{Plane: dry{}}}
	made := func(id byte, name, subnet, gateway string, e state.Egress) *state.Network {
		n := network(id, vxlan.VNI(4096+int(id)))
		n.Name, n.Egress = name, e
		n.Subnets = []state.Subnet{{Prefix: prefix(subnet), Gateway: addrs(gateway)[0]}}
		return n
	}
	web, far := made(1, "web", "10.1.0.0/24", "10.1.0.1", state.EgressFull), made(2, "far", "10.0.0.0/24", "10.0.0.1", "")
	since := time.Unix(1e9, 0).UTC()
	exposed := []dns.Port{{Name: "http", Number: 80, Protocol: "tcp"}}
	e := &endpoint.Endpoint{
		ID: "1", Container: endpoint.Container{Name: "c1", Hostname: "h", Service: "s", NetNS: "/run/netns/c1", Ports: exposed}, Network: web.ID,
		Interface: "eth0", Metric: 512, MAC: 0x02420a010002, Addresses: addrs("10.1.0.2"), Aliases: []string{"db"}, Created: since,
	}
	if err := store.Add(e); err != nil {
		t.Fatal(err)
	}
	p, views := m.compile(&state.State{
		Nodes:    map[nodeID]*state.Node{c.ID(): {ID: c.ID(), Name: "here"}},
		Networks: map[state.NetworkID]*state.Network{web.ID: web, far.ID: far},
		Leases:   map[state.NetworkID][]*state.Lease{web.ID: {{Node: c.ID(), Addresses: addrs("10.1.0.2")}}},
	})
	if want := []netip.Prefix{prefix("10.0.0.0/24"), prefix("10.1.0.0/24")}; !reflect.DeepEqual(p.Foreign, want) {
		t.Errorf("foreign is %v, expected %v", p.Foreign, want)
	}
	if len(p.Networks) != 1 || len(p.Networks[0].Endpoints) != 1 || p.Networks[0].Egress != plan.EgressFull {
		t.Fatalf("the plan is %+v", p)
	}
	got := p.Networks[0].Endpoints[0]
	if want := (dns.Names{Hostname: "h", Service: "s", Aliases: []string{"db"}, Ports: exposed, Node: "here", Since: since}); !reflect.DeepEqual(got.Names, want) {
		t.Errorf("the names are %+v, expected %+v", got.Names, want)
	}
	if want := []plan.Route{{To: prefix("0.0.0.0/0"), Via: addrs("10.1.0.1")[0], Metric: 512}}; got.Muted || !reflect.DeepEqual(got.Routes, want) {
		t.Errorf("the routes are %v, expected %v", got.Routes, want)
	}
	if views[web.ID] == nil || views[far.ID] != nil {
		t.Errorf("the views are %v; expected one of the network that is in the plan", views)
	}
	// A remote's names are those that it was told by, and its node's.
	r := recordOf(e)
	if want := got.Names; !reflect.DeepEqual(r.names("here"), want) {
		t.Errorf("told as %+v, expected %+v", r.names("here"), want)
	}
}
