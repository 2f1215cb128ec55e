package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/vxlan"
)

// full returns a cluster with something of everything.
func full(t testing.TB) *cluster {
	c := newCluster(t)
	c.do(Command{AddNode: &AddNode{testNode("c", Worker)}})
	c.do(Command{By: idOf("a"), Report: &Report{API: netip.MustParseAddrPort("192.0.2.1:7373"), Routes: []netip.Prefix{prefix("192.0.2.0/24")}, Version: "1"}})
	web := c.network(NetworkSpec{Name: "web", IPv6: true, Labels: map[string]string{"k": "v"}, Ask: []Subnet{{
		Prefix: prefix("10.1.0.0/24"), Range: prefix("10.1.0.0/25"), Aux: map[string]netip.Addr{"x": addr("10.1.0.9")}}}})
	own := create(NetworkSpec{Name: "own", Driver: Bridge, MTU: 1400})
	own.By = idOf("a")
	c.do(own)
	c.ask("a", web.ID, 4)
	c.ask("b", web.ID, 4)
	c.ask("b", web.ID, 0, "10.1.0.2")
	c.ask("a", netID("own"), 1)
	c.do(Command{RemoveNode: &RemoveNode{idOf("c")}})
	c.do(Command{RotateKeys: &RotateKeys{Step: StepInstall, Gossip: secret("g2"), Network: map[NetworkID][]byte{
		netID("ingress"): secret("i2"), web.ID: secret("w2"), netID("own"): secret("o2")}}})
	return c
}

func TestEncodingIsExact(t *testing.T) {
	c := full(t)
	b := c.Encode()
	back, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Encode(), b) {
		t.Fatalf("%s\nbecame\n%s", b, back.Encode())
	}
	// What came back is gone on from as the original is.
	cmd := Command{At: c.now.Add(time.Hour), By: idOf("b"), Release: &Release{Network: netID("web"), Leave: true}}
	s1, _, err1 := c.Apply(&cmd)
	s2, _, err2 := back.Apply(&cmd)
	if err1 != nil || err2 != nil || !bytes.Equal(s1.Encode(), s2.Encode()) {
		t.Fatalf("they differ after a command: %v, %v", err1, err2)
	}
}

func TestDecodeRefusesWhatContradictsItself(t *testing.T) {
	web, a, b := netID("web"), idOf("a"), idOf("b")
	for name, spoil := range map[string]func(*State){
		"no managers":                   func(s *State) { s.Nodes[idOf("m1")].Role = Worker },
		"a node at another's ID":        func(s *State) { s.Nodes[a], s.Nodes[b] = s.Nodes[b], s.Nodes[a] },
		"no node at an ID":              func(s *State) { s.Nodes[a] = nil },
		"a node with another key":       func(s *State) { s.Nodes[a].Key = s.Nodes[b].Key },
		"two nodes of one name":         func(s *State) { s.Nodes[a].Name = "B" },
		"a removed member":              func(s *State) { s.Removed[a] = start },
		"no network at an ID":           func(s *State) { s.Networks[web] = nil },
		"two networks of one name":      func(s *State) { s.Networks[web].Name = "own" },
		"two networks of one VNI":       func(s *State) { s.Networks[web].VNI = s.Networks[netID("own")].VNI },
		"a VNI of 25 bits":              func(s *State) { s.Networks[web].VNI = vxlan.MaxVNI + 1 },
		"no subnets":                    func(s *State) { s.Networks[web].Subnets = nil },
		"a subnet without gateway":      func(s *State) { s.Networks[web].Subnets[0].Gateway = netip.Addr{} },
		"overlapping subnets":           func(s *State) { w := s.Networks[web]; w.Subnets = append(w.Subnets, w.Subnets[0]) },
		"IPv6 that is not there":        func(s *State) { w := s.Networks[web]; w.Subnets = w.Subnets[:1] },
		"a bridge of nobody":            func(s *State) { s.Networks[netID("own")].Node = identity.NodeID{} },
		"a bridge of a stranger":        func(s *State) { s.Networks[netID("own")].Node = idOf("stranger") },
		"an overlay of one node":        func(s *State) { s.Networks[web].Node = a },
		"no ingress":                    func(s *State) { s.Networks[netID("ingress")].Ingress = false },
		"wishes without times":          func(s *State) { s.Networks[web].WantedUntil = nil },
		"a wish elsewhere":              func(s *State) { s.Networks[web].Wanted[0] = addr("10.2.0.1") },
		"a lease of no network":         func(s *State) { s.Leases[netID("none")] = s.Leases[web] },
		"a lease of a stranger":         func(s *State) { s.Leases[web][0].Node = idOf("stranger") },
		"leases out of order":           func(s *State) { l := s.Leases[web]; l[0], l[1] = l[1], l[0] },
		"a lease that is none":          func(s *State) { s.Leases[web][0] = nil },
		"an empty list of leases":       func(s *State) { s.Leases[web] = nil },
		"a bridge leased by another":    func(s *State) { s.Leases[netID("own")][0].Node = b },
		"addresses out of order":        func(s *State) { l := s.Leases[web][0].Addresses; l[0], l[1] = l[1], l[0] },
		"an address leased twice":       func(s *State) { l := s.Leases[web]; l[0].Addresses = l[1].Addresses },
		"an address twice in one":       func(s *State) { l := s.Leases[web][0].Addresses; l[1] = l[0] },
		"a leased gateway":              func(s *State) { s.Leases[web][0].Addresses[0] = addr("10.1.0.1") },
		"a key of no length":            func(s *State) { s.Networks[web].Keys.Keys[0].Secret = nil },
		"keys out of order":             func(s *State) { k := s.Networks[web].Keys.Keys; k[0], k[1] = k[1], k[0] },
		"a primary key that is none":    func(s *State) { s.Cluster.Gossip.Primary = 9 },
		"networks at another epoch":     func(s *State) { s.Networks[web].Keys.Keys[1].Epoch = 3 },
		"more keys than gossip":         func(s *State) { g := &s.Cluster.Gossip; g.Keys, g.Primary = g.Keys[1:], 2 },
		"no pools":                      func(s *State) { s.Cluster.Pools = nil },
		"no cluster ID":                 func(s *State) { s.Cluster.ID = "x" },
		"no lifetime":                   func(s *State) { s.Cluster.LeaseTTL = 0 },
		"an MTU below IPv6's":           func(s *State) { s.Networks[web].MTU = 1000 },
		"a report of a route of nobody": func(s *State) { s.Nodes[a].Routes = make([]netip.Prefix, maxRoutes+1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t).State
			spoil(s)
			if _, err := Decode(s.Encode()); !errors.Is(err, ErrInvalid) {
				t.Errorf("%v; want a refusal", err)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing": "", "garbage": "\x00\x01", "null": "null", "no version": "{}", "a version to come": `{"version":2,"state":{}}`,
		"no state": `{"version":1}`, "an empty state": `{"version":1,"state":{}}`, "a cut": string(full(t).Encode()[:500]),
		"a wrong type": `{"version":1,"state":{"nodes":[]}}`,
	} {
		if _, err := Decode([]byte(text)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v; want a refusal", name, err)
		}
	}
}

// FuzzDecode looks for bytes that Decode takes and Apply, or another Decode, cannot go on from.
func FuzzDecode(f *testing.F) {
	c := full(f)
	for _, s := range []*State{c.State, c.View(idOf("a")), c.View(idOf("stranger"))} {
		f.Add(s.Encode())
	}
	text := string(c.Encode())
	f.Add([]byte(strings.Replace(text, `"10.1.0.4"`, `"10.1.0.2"`, 1)))
	f.Add([]byte(strings.Replace(text, `"role":"manager"`, `"role":"worker"`, 1)))
	f.Add([]byte(strings.Replace(text, `"wanted_until":[`, `"wanted_until":[null,`, 1)))
	f.Add([]byte(`{"version":1,"state":{"nodes":{"0000000000000000000000000":null},"networks":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		enc := s.Encode()
		if back, err := Decode(enc); err != nil || !bytes.Equal(back.Encode(), enc) {
			t.Fatalf("does not survive its own encoding: %v", err)
		}
		for _, cmd := range everyCommand(s, s.Managers()[0].ID) {
			next, _, err := s.Apply(&cmd)
			if err != nil || !whole(s) {
				continue
			}
			if err := next.check(); err != nil {
				text, _ := json.Marshal(cmd)
				t.Fatalf("%s leads to %v", text, err)
			}
		}
		if !bytes.Equal(s.Encode(), enc) {
			t.Fatal("a command wrote to the state")
		}
	})
}

// whole reports whether a state is no view.
func whole(s *State) bool {
	for _, n := range s.Networks {
		if len(n.Keys.Keys) == 0 {
			return false
		}
	}
	return len(s.Cluster.Gossip.Keys) > 0
}

// everyCommand returns commands of each kind about what a state has.
func everyCommand(s *State, by identity.NodeID) []Command {
	list := []Command{
		{AddNode: &AddNode{testNode("new", Manager)}},
		{Report: &Report{MTU: 1500}},
		create(NetworkSpec{Name: "fresh", IPv6: true}),
		{RotateToken: &RotateToken{Worker, strings.Repeat("z", 25)}},
	}
	keys := map[NetworkID][]byte{}
	for id := range s.Nodes {
		list = append(list, Command{UpdateNode: &UpdateNode{id, Worker, Active}}, Command{RemoveNode: &RemoveNode{id}}, Command{Expire: &Expire{[]identity.NodeID{id}}})
	}
	for id, n := range s.Networks {
		keys[id] = secret("new")
		list = append(list, Command{RemoveNetwork: &RemoveNetwork{id}}, Command{Lease: &AskLease{Network: id, Count: 100}},
			Command{Release: &Release{Network: id, Leave: true}})
		for _, l := range s.Leases[id] {
			list = append(list, Command{Lease: &AskLease{Network: id, Want: l.Addresses}}, Command{By: l.Node, Release: &Release{Network: id, Addresses: l.Addresses}})
		}
		for _, sub := range n.Subnets {
			list = append(list, Command{Lease: &AskLease{Network: id, Want: []netip.Addr{sub.Gateway.Next()}}})
		}
	}
	for _, step := range []RotateStep{StepInstall, StepUse, StepRemove} {
		list = append(list, Command{RotateKeys: &RotateKeys{Step: step, Gossip: secret("g"), Network: keys}})
	}
	for i := range list {
		list[i].At = start.AddDate(1, 0, 0)
		if list[i].By.IsZero() {
			list[i].By = by
		}
	}
	return list
}
