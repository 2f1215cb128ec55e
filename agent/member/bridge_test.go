package member

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/vxlan"
)

func TestEachBridgeReachesANetworkByADeviceOfItsOwn(t *testing.T) {
	store, err := endpoint.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lan, web := network(1, 4098), network(2, 4099)
	m := &Member{store: store}
	for i, c := range []struct {
		bridge string
		to     *state.Network
		asked  string // by --ifname
		want   string
	}{
		{"br0", lan, "", "weft4098"},
		{"br0", lan, "", "weft4098"}, // another container on the bridge, by the same port
		{"br1", lan, "", "weft4098.2"},
		{"br1", lan, "", "weft4098.2"},
		{"br2", lan, "mine", "mine"},
		{"br2", lan, "", "mine"},
		{"br0", web, "", "weft4099"},
		{"br3", lan, "", "weft4098.3"},
	} {
		got := c.asked
		if got == "" {
			got = (&attaching{m: m, container: endpoint.Container{Bridge: c.bridge}}).behind(c.to)
		}
		if got != c.want {
			t.Errorf("container %d, behind %s on VNI %d: %s, expected %s", i, c.bridge, c.to.VNI, got, c.want)
		}
		e := &endpoint.Endpoint{
			ID: string(rune('a' + i)), Container: endpoint.Container{Name: string(rune('a' + i)), Bridge: c.bridge}, Network: c.to.ID, Interface: got,
			MAC: 0x02420a000002, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)})},
		}
		if err := store.Add(e); err != nil {
			t.Fatal(err)
		}
	}
}

func network(id byte, vni vxlan.VNI) *state.Network {
	n := &state.Network{VNI: vni}
	n.ID[0] = id
	return n
}
