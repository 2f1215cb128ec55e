package state

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/vxlan"
)

func TestDefaultSubnetsAvoidNetworksAndEveryNodesRoutes(t *testing.T) {
	c := newCluster(t)
	c.do(Command{By: idOf("b"), Report: &Report{
		Routes: []netip.Prefix{prefix("10.0.0.0/23"), prefix("10.0.4.7/32"), prefix("0.0.0.0/1"), prefix("128.0.0.0/1")},
		VTEP:   netip.MustParseAddrPort("10.0.5.9:4789"),
	}})
	c.network(NetworkSpec{Name: "explicit", Ask: subnet("10.0.2.128/25")})
	for _, want := range []string{"10.0.3.0/24", "10.0.6.0/24", "10.0.7.0/24"} {
		n := c.network(NetworkSpec{Name: "n" + want[5:6]})
		if len(n.Subnets) != 1 || n.Subnets[0].Prefix != prefix(want) || n.Subnets[0].Gateway != prefix(want).Addr().Next() || n.IPv6 {
			t.Errorf("%+v; want %s", n.Subnets, want)
		}
	}
	overlap := c.network(NetworkSpec{Name: "overlap", Ask: subnet("10.0.3.0/24")}) // allowed: networks are apart
	c.do(Command{RemoveNetwork: &RemoveNetwork{netID("n3")}})
	c.do(Command{RemoveNetwork: &RemoveNetwork{overlap.ID}})
	if n := c.network(NetworkSpec{Name: "again"}); n.Subnets[0].Prefix != prefix("10.0.3.0/24") {
		t.Errorf("a removed network's subnet is not used again: %s", n.Subnets[0].Prefix)
	}
}

func TestExhaustedPoolsSayWhy(t *testing.T) {
	c := newCluster(t, Pool{prefix("10.9.0.0/23"), 24})
	c.network(NetworkSpec{Name: "one"})
	c.do(Command{By: idOf("a"), Report: &Report{Routes: []netip.Prefix{prefix("10.9.1.0/25")}}})
	c.refuses(create(NetworkSpec{Name: "two"}), ErrExhausted, "all 2 subnets of size /24 of 10.9.0.0/23", "1 networks", "1 routes", "10.9.1.0/25 on node a", "--default-addr-pool", "--subnet")
	c.network(NetworkSpec{Name: "two", Ask: subnet("10.9.0.0/24")})
}

func TestSubnetsAsAsked(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  []Subnet
		six  bool
		want string // each subnet with its gateway; or, after "!", what the error says
	}{
		{"the first address is the gateway", subnet("10.1.0.0/16"), false, "10.1.0.0/16 10.1.0.1"},
		{"the first that no auxiliary has", []Subnet{{Prefix: prefix("10.1.0.0/16"), Aux: map[string]netip.Addr{"x": addr("10.1.0.1")}}}, false, "10.1.0.0/16 10.1.0.2"},
		{"the gateway asked for", []Subnet{{Prefix: prefix("10.1.0.0/16"), Gateway: addr("10.1.9.9")}}, false, "10.1.0.0/16 10.1.9.9"},
		{"a gateway outside of the range", []Subnet{{Prefix: prefix("10.1.0.0/16"), Range: prefix("10.1.4.0/24")}}, false, "10.1.0.0/16 10.1.0.1"},
		{"IPv6 alone", subnet("fd01::/64"), false, "fd01::/64 fd01::1"},
		{"IPv6 alone, said twice", subnet("fd01::/64"), true, "fd01::/64 fd01::1"},
		{"both families", []Subnet{{Prefix: prefix("10.1.0.0/16")}, {Prefix: prefix("fd01::/126")}}, true, "10.1.0.0/16 10.1.0.1, fd01::/126 fd01::1"},
		{"two of one family", []Subnet{{Prefix: prefix("10.1.0.0/16")}, {Prefix: prefix("10.2.0.0/30")}}, false, "10.1.0.0/16 10.1.0.1, 10.2.0.0/30 10.2.0.1"},
		{"host bits", subnet("10.1.2.3/16"), false, "!use 10.1.0.0/16"},
		{"too small", subnet("10.1.0.0/31"), false, "!/30"},
		{"multicast", subnet("239.0.0.0/16"), false, "!multicast"},
		{"IPv6 link-local", subnet("fe80::/64"), false, "!link-local"},
		{"overlapping each other", []Subnet{{Prefix: prefix("10.1.0.0/16")}, {Prefix: prefix("10.1.2.0/24")}}, false, "!overlap"},
		{"no subnet for a gateway", []Subnet{{Gateway: addr("10.1.0.1")}}, false, "!--subnet"},
		{"a range with host bits", []Subnet{{Prefix: prefix("10.1.0.0/16"), Range: prefix("10.1.4.1/24")}}, false, "!use 10.1.4.0/24"},
		{"a range elsewhere", []Subnet{{Prefix: prefix("10.1.0.0/16"), Range: prefix("10.2.4.0/24")}}, false, "!not inside its subnet"},
		{"a range larger than the subnet", []Subnet{{Prefix: prefix("10.1.0.0/16"), Range: prefix("10.0.0.0/8")}}, false, "!not inside its subnet"},
		{"a range of the other family", []Subnet{{Prefix: prefix("10.1.0.0/16"), Range: prefix("fd01::/64")}}, false, "!not inside its subnet"},
		{"a gateway elsewhere", []Subnet{{Prefix: prefix("10.1.0.0/16"), Gateway: addr("10.2.0.1")}}, false, "!not in the subnet"},
		{"the broadcast address as gateway", []Subnet{{Prefix: prefix("10.1.0.0/16"), Gateway: addr("10.1.255.255")}}, false, "!broadcast"},
		{"IPv6's first address as gateway", []Subnet{{Prefix: prefix("fd01::/64"), Gateway: addr("fd01::")}}, false, "!network or broadcast"},
		{"an auxiliary gateway", []Subnet{{Prefix: prefix("10.1.0.0/16"), Gateway: addr("10.1.0.9"), Aux: map[string]netip.Addr{"x": addr("10.1.0.9")}}}, false, "!as well"},
		{"two auxiliaries at one address", []Subnet{{Prefix: prefix("10.1.0.0/16"), Aux: map[string]netip.Addr{"x": addr("10.1.0.9"), "y": addr("10.1.0.9")}}}, false, "!as well"},
		{"an auxiliary without a name", []Subnet{{Prefix: prefix("10.1.0.0/16"), Aux: map[string]netip.Addr{"": addr("10.1.0.9")}}}, false, "!NAME=ADDRESS"},
		{"no address left", []Subnet{{Prefix: prefix("10.1.0.0/30"), Aux: map[string]netip.Addr{"x": addr("10.1.0.2")}}}, false, "!no address left for containers"},
		{"no address left for the gateway", []Subnet{{Prefix: prefix("10.1.0.0/30"), Aux: map[string]netip.Addr{"x": addr("10.1.0.2"), "y": addr("10.1.0.1")}}}, false, "!no address left for its gateway"},
		{"too many", make([]Subnet, maxSubnets+1), false, "!at most 16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := newCluster(t)
			cmd := create(NetworkSpec{Name: "web", Ask: c.ask, IPv6: c.six})
			if text, bad := strings.CutPrefix(c.want, "!"); bad {
				cl.refuses(cmd, ErrInvalid, "web", text)
				return
			}
			n := cl.do(cmd).Network
			var got []string
			six := false
			for _, s := range n.Subnets {
				got = append(got, fmt.Sprintf("%s %s", s.Prefix, s.Gateway))
				six = six || s.Prefix.Addr().Is6()
			}
			if strings.Join(got, ", ") != c.want || n.IPv6 != six {
				t.Errorf("%s (IPv6 %t); want %s", got, n.IPv6, c.want)
			}
		})
	}
}

func TestDefaultIPv6IsUniqueLocalAndStable(t *testing.T) {
	c := newCluster(t)
	one := c.network(NetworkSpec{Name: "one", IPv6: true})
	two := c.network(NetworkSpec{Name: "two", IPv6: true, Ask: subnet("10.77.0.0/24")})
	if len(one.Subnets) != 2 || len(two.Subnets) != 2 || two.Subnets[0].Prefix != prefix("10.77.0.0/24") {
		t.Fatalf("%+v, %+v", one.Subnets, two.Subnets)
	}
	p := one.Subnets[1].Prefix
	if !prefix("fd00::/8").Contains(p.Addr()) || p.Bits() != 64 || p.Overlaps(two.Subnets[1].Prefix) {
		t.Errorf("%s and %s; want two unique local /64", p, two.Subnets[1].Prefix)
	}
	// A route to where it would be makes the next choice another.
	again := newCluster(t)
	again.do(Command{By: idOf("a"), Report: &Report{Routes: []netip.Prefix{p}}})
	if q := again.network(NetworkSpec{Name: "one", IPv6: true}).Subnets[1].Prefix; q.Overlaps(p) {
		t.Errorf("%s overlaps a route", q)
	}
}

func TestNetworkNamesAndNumbers(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"", "-a", "a b", ".a", strings.Repeat("a", 64)} {
		c.refuses(create(NetworkSpec{Name: name}), ErrInvalid, "network name")
	}
	c.network(NetworkSpec{Name: "Web_1.x-y"})
	dup := create(NetworkSpec{Name: "Web_1.x-y"})
	dup.CreateNetwork.ID = netID("another")
	c.refuses(dup, ErrExists, "weft network rm")
	sameID := create(NetworkSpec{Name: "other"})
	sameID.CreateNetwork.ID = netID("Web_1.x-y")
	c.refuses(sameID, ErrExists, "network ID")
	c.refuses(create(NetworkSpec{Name: "x", Driver: "macvlan"}), ErrInvalid, "macvlan", "overlay or bridge")
	c.refuses(create(NetworkSpec{Name: "x", Ingress: true}), ErrExists, "ingress")
	short := create(NetworkSpec{Name: "x"})
	short.CreateNetwork.Secret = []byte("short")
	c.refuses(short, ErrInvalid, "5 bytes")

	for _, mtu := range []int{-1, 575, 65522} {
		c.refuses(create(NetworkSpec{Name: "x", MTU: mtu}), ErrInvalid, "576 to 65521")
	}
	c.refuses(create(NetworkSpec{Name: "x", MTU: 1279, IPv6: true}), ErrInvalid, "1280 to 65521")
	c.network(NetworkSpec{Name: "small", MTU: 576})
	c.refuses(create(NetworkSpec{Name: "x", Labels: map[string]string{"": "v"}}), ErrInvalid, "label")
	c.refuses(create(NetworkSpec{Name: "x", Labels: map[string]string{"k": "\xff"}}), ErrInvalid, "label")

	c.refuses(create(NetworkSpec{Name: "x", AskVNI: vxlan.MaxVNI + 1}), ErrInvalid, "16777215")
	c.refuses(create(NetworkSpec{Name: "x", AskVNI: 4096}), ErrInUse, "ingress")
	for _, w := range []struct {
		name     string
		ask, get vxlan.VNI
	}{{"v1", 0, 4099}, {"v2", 4100, 4100}, {"v3", 0, 4101}, {"v4", 7, 7}, {"v5", vxlan.MaxVNI, vxlan.MaxVNI}} {
		if n := c.network(NetworkSpec{Name: w.name, AskVNI: w.ask}); n.VNI != w.get {
			t.Errorf("%s: VNI %d; want %d", w.name, n.VNI, w.get)
		}
	}
	c.do(Command{RemoveNetwork: &RemoveNetwork{netID("v1")}})
	if n := c.network(NetworkSpec{Name: "v6", Encrypted: true}); n.VNI != 4099 || !n.Encrypted {
		t.Errorf("the lowest free VNI: %d; encrypted is kept: %t", n.VNI, n.Encrypted)
	}
}

func TestANetworkInUseStays(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"})
	c.do(Command{By: idOf("a"), Lease: &AskLease{Network: web.ID, Count: 5}})
	c.do(Command{By: idOf("b"), Lease: &AskLease{Network: web.ID}})
	c.refuses(Command{RemoveNetwork: &RemoveNetwork{web.ID}}, ErrInUse, "web", "node a 5, node b 0", "detach")
	c.do(Command{By: idOf("a"), Release: &Release{Network: web.ID, Leave: true}})
	c.refuses(Command{RemoveNetwork: &RemoveNetwork{web.ID}}, ErrInUse, "node b 0")
	c.do(Command{By: idOf("b"), Release: &Release{Network: web.ID, Leave: true}})
	c.do(Command{RemoveNetwork: &RemoveNetwork{web.ID}})
	c.refuses(Command{RemoveNetwork: &RemoveNetwork{web.ID}}, ErrNotFound)
	c.refuses(Command{RemoveNetwork: &RemoveNetwork{netID("ingress")}}, ErrDenied, "ingress")
}

func TestTokensAndKeysRotate(t *testing.T) {
	c := newCluster(t)
	fresh := strings.Repeat("z", 25)
	before := c.Cluster.Tokens[Worker]
	c.do(Command{RotateToken: &RotateToken{Worker, fresh}})
	if c.Cluster.Tokens[Worker] != fresh || c.Cluster.Tokens[Manager] == fresh || before == fresh {
		t.Errorf("tokens: %v", c.Cluster.Tokens)
	}
	c.refuses(Command{RotateToken: &RotateToken{"king", fresh}}, ErrInvalid, "king")
	c.refuses(Command{RotateToken: &RotateToken{Worker, "short"}}, ErrInvalid, "5 characters")

	step := func(s RotateStep, names ...string) Command {
		r := &RotateKeys{Step: s, Gossip: secret("gossip 2"), Network: map[NetworkID][]byte{}}
		for _, n := range names {
			r.Network[netID(n)] = secret(n + " 2")
		}
		return Command{RotateKeys: r}
	}
	web := c.network(NetworkSpec{Name: "web"}).ID
	c.refuses(step(StepUse), ErrInvalid, "install")
	c.refuses(step(StepRemove), ErrInvalid, "install")
	c.refuses(step("twist"), ErrInvalid, "twist")
	c.refuses(step(StepInstall, "ingress"), ErrInvalid, "web", "propose it again")
	c.do(step(StepInstall, "ingress", "web", "gone"))
	c.refuses(step(StepInstall, "ingress", "web"), ErrInvalid, "under way")
	c.refuses(step(StepRemove), ErrInvalid, "epoch 1")
	if k := c.Networks[web].Keys; len(k.Keys) != 2 || k.Primary != 1 || k.Keys[1].Epoch != 2 {
		t.Errorf("after install: %+v", k)
	}
	late := c.network(NetworkSpec{Name: "late"}).ID // made in the middle
	c.do(step(StepUse))
	c.refuses(step(StepUse), ErrInvalid)
	c.do(step(StepRemove))
	for name, k := range map[string]Keyring{"gossip": c.Cluster.Gossip, "web": c.Networks[web].Keys, "late": c.Networks[late].Keys} {
		if len(k.Keys) != 1 || k.Primary != 2 || k.Keys[0].Epoch != 2 {
			t.Errorf("%s after the rotation: %+v", name, k)
		}
	}
	c.refuses(step(StepRemove), ErrInvalid)
}

func TestErrorsNameTheirKind(t *testing.T) {
	c := newCluster(t)
	_, err := c.try(Command{RemoveNode: &RemoveNode{identity.NodeID{1}}})
	if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), ErrNotFound.Error()) {
		t.Errorf("%v; want a sentence, with its kind to test for", err)
	}
}

func TestEgressIsTheInternetUnlessAskedForOrInternal(t *testing.T) {
	c := newCluster(t)
	for _, k := range []struct {
		spec NetworkSpec
		want Egress
	}{
		{NetworkSpec{Name: "plain"}, EgressInternet},
		{NetworkSpec{Name: "internet", Egress: EgressInternet}, EgressInternet},
		{NetworkSpec{Name: "full", Egress: EgressFull}, EgressFull},
		{NetworkSpec{Name: "none", Egress: EgressNone}, EgressNone},
		{NetworkSpec{Name: "internal", Internal: true}, EgressNone},
		{NetworkSpec{Name: "both", Internal: true, Egress: EgressNone}, EgressNone},
	} {
		if n := c.network(k.spec); n.Reach() != k.want || n.Egress != k.spec.Egress {
			t.Errorf("%s reaches %q by egress %q, expected %q", n.Name, n.Reach(), n.Egress, k.want)
		}
	}
	c.refuses(create(NetworkSpec{Name: "odd", Internal: true, Egress: EgressFull}), ErrInvalid, "network odd is internal and has egress=full")
	c.refuses(create(NetworkSpec{Name: "odd", Internal: true, Egress: EgressInternet}), ErrInvalid, "internal and has egress=internet")
	c.refuses(create(NetworkSpec{Name: "odd", Egress: "all"}), ErrInvalid, `egress "all" of network odd; expected internet, full or none`)
}

func TestAStateOfBeforeThereWasEgressIsRead(t *testing.T) {
	c := newCluster(t)
	c.network(NetworkSpec{Name: "web"})
	old := c.Encode()
	if strings.Contains(string(old), "egress") {
		t.Fatalf("a network without a wish for egress is written with one: %s", old)
	}
	s, err := Decode(old)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Network("web")
	if err != nil || n.Reach() != EgressInternet {
		t.Errorf("it has %+v, %v; expected the internet", n, err)
	}
	if _, err := Decode([]byte(strings.Replace(string(old), `"name":"web"`, `"egress":"all","name":"web"`, 1))); err == nil || !strings.Contains(err.Error(), `egress "all"`) {
		t.Errorf("a state with egress=all: %v", err)
	}
}
