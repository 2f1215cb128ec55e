package member

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

func TestAddressThatWasPerhapsGivenBackIsNotHandedOut(t *testing.T) {
	lo := netip.MustParseAddr("127.0.0.1")
	m, err := Open(Config{Dir: t.TempDir(), Advertise: lo, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.cluster.Close()
		m.lock.Close()
	})
	one, two := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	n := &state.Network{ID: state.NetworkID{1}, Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}}}
	st := &state.State{
		Networks: map[state.NetworkID]*state.Network{n.ID: n},
		Leases:   map[state.NetworkID][]*state.Lease{n.ID: {{Node: m.cluster.ID(), Addresses: []netip.Addr{one, two}}}},
		Nodes:    map[identity.NodeID]*state.Node{},
	}
	m.doubtful[n.ID] = []netip.Addr{one}
	if got, ask, err := m.take(st, n, []netip.Addr{one}); got != nil || ask == nil || !slices.Equal(ask.Want, []netip.Addr{one}) || err != nil {
		t.Errorf("got %v, asked %v, %v; expected it to be asked for", got, ask, err)
	}
	if got, _, err := m.take(st, n, nil); !slices.Equal(got, []netip.Addr{two}) || err != nil {
		t.Errorf("got %v, %v; expected %s", got, err, two)
	}
	if got, ask, err := m.take(st, n, nil); got != nil || ask == nil || ask.Count == 0 || err != nil {
		t.Errorf("got %v, asked %v, %v; expected others to be asked for", got, ask, err)
	}
	delete(m.doubtful, n.ID)
	if got, _, err := m.take(st, n, nil); !slices.Equal(got, []netip.Addr{one}) || err != nil {
		t.Errorf("got %v, %v; expected %s", got, err, one)
	}
}
