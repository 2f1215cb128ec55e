package member

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/cluster/state"
)

func TestMetricIsByTheInterfacesNumberOrElseByItsOrder(t *testing.T) {
	taken := make(map[int]bool)
	for _, c := range []struct {
		name string
		want int
	}{
		{"eth0", 512}, {"eth1", 513}, {"eth127", 639}, {"eth128", 640}, {"side0", 641}, {"eth01", 642}, {"eth", 643}, {"eth-1", 644}, {"eth7", 519},
	} {
		got := metricOf(c.name, taken)
		if taken[got] = true; got != c.want {
			t.Errorf("%s: %d, expected %d", c.name, got, c.want)
		}
	}
	delete(taken, 641)
	if got := metricOf("again0", taken); got != 641 {
		t.Errorf("with a place free: %d", got)
	}
}

func TestEndpointsOfAnEarlierVersionGetTheirMetrics(t *testing.T) {
	of := func(container, iface string, metric int) *endpoint.Endpoint {
		return &endpoint.Endpoint{Container: endpoint.Container{Name: container}, Interface: iface, Metric: metric}
	}
	all := []*endpoint.Endpoint{
		of("a", "x0", 0), of("a", "eth0", 0), of("b", "x0", 0), of("a", "x1", 0), of("b", "y0", 640),
		{Container: endpoint.Container{Name: "c", Bridge: "br0"}, Interface: "weft1"},
	}
	rank(all)
	rank(all) // changes nothing
	for i, want := range []int{640, 512, 641, 641, 640, 0} {
		if all[i].Metric != want {
			t.Errorf("%s of %s: %d, expected %d", all[i].Interface, all[i].Container.Name, all[i].Metric, want)
		}
	}
}

func TestContainersLeaveByTheirGateways(t *testing.T) {
	network := func(e state.Egress, internal bool) *state.Network {
		n := &state.Network{}
		n.Egress, n.Internal = e, internal
		for _, s := range []struct{ prefix, gateway string }{{"10.0.0.0/24", "10.0.0.1"}, {"10.9.0.0/24", "10.9.0.1"}, {"fd00::/64", "fd00::1"}} {
			n.Subnets = append(n.Subnets, state.Subnet{Prefix: prefix(s.prefix), Gateway: addrs(s.gateway)[0]})
		}
		return n
	}
	v4 := plan.Route{To: prefix("0.0.0.0/0"), Via: addrs("10.9.0.1")[0], Metric: 513}
	v6 := plan.Route{To: prefix("::/0"), Via: addrs("fd00::1")[0], Metric: 1024 + 513}
	both := &endpoint.Endpoint{Addresses: addrs("10.9.0.2", "fd00::2"), Metric: 513}
	for i, c := range []struct {
		n    *state.Network
		e    *endpoint.Endpoint
		want []plan.Route
	}{
		{network("", false), both, []plan.Route{v4, v6}},
		{network(state.EgressInternet, false), both, []plan.Route{v4, v6}},
		{network(state.EgressFull, false), both, []plan.Route{v4, v6}},
		{network(state.EgressNone, false), both, nil},
		{network("", true), both, nil},
		{network("", false), &endpoint.Endpoint{Addresses: addrs("10.9.0.2"), Metric: 513}, []plan.Route{v4}},
		{network("", false), &endpoint.Endpoint{Container: endpoint.Container{Bridge: "br0"}, Addresses: addrs("10.9.0.2")}, nil},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if got := wayOut(c.n, c.e); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v, expected %v", got, c.want)
			}
		})
	}
}
