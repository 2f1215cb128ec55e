package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/vxlan"
)

// The small world that random commands are about, so that they meet.
var (
	someNodes    = []string{"m1", "a", "b", "c", "d", "e", "f", "g", "h"}
	someNetworks = []string{"ingress", "n0", "n1", "n2", "n3"}
	someSubnets  = []string{"10.1.0.0/29", "10.1.0.0/30", "10.1.0.8/28", "10.1.0.5/28", "fd01::/126", "fd01::/64", "10.0.0.0/8", "224.0.0.0/8"}
	someAddrs    = []string{"10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.9", "10.1.0.10", "10.1.0.15", "10.0.0.2", "fd01::", "fd01::1", "fd01::2", "fd01::3"}
)

func pick[T any](t *rapid.T, what string, from ...T) T { return rapid.SampledFrom(from).Draw(t, what) }

func drawNode(t *rapid.T) string { return pick(t, "node", someNodes...) }
func drawNet(t *rapid.T) NetworkID {
	return netID(pick(t, "network", append([]string{"n0", "n0", "n0", "n0"}, someNetworks...)...))
}

func drawAddrs(t *rapid.T) (list []netip.Addr) {
	for _, s := range rapid.SliceOfN(rapid.SampledFrom(someAddrs), 0, 4).Draw(t, "addresses") {
		list = append(list, addr(s))
	}
	return list
}

func drawSubnet(t *rapid.T) (s Subnet) {
	s.Prefix = prefix(pick(t, "subnet", someSubnets...))
	if rapid.Bool().Draw(t, "with more") {
		s.Gateway = pick(t, "gateway", netip.Addr{}, addr("10.1.0.2"), addr("10.1.0.10"), addr("fd01::2"))
		s.Range = pick(t, "range", netip.Prefix{}, prefix("10.1.0.0/30"), prefix("10.1.0.12/30"), prefix("10.1.0.8/32"))
		s.Aux = pick(t, "aux", nil, map[string]netip.Addr{"x": addr("10.1.0.1")}, map[string]netip.Addr{"x": addr("10.1.0.9"), "y": addr("10.1.0.10")})
	}
	return s
}

func drawSpec(t *rapid.T) NetworkSpec {
	spec := NetworkSpec{
		Name: pick(t, "name", someNetworks...), Driver: pick(t, "driver", "", Overlay, Bridge, "x"),
		IPv6: rapid.Bool().Draw(t, "ipv6"), MTU: pick(t, "mtu", 0, 0, 1000, 1400, 99999), AskVNI: pick[vxlan.VNI](t, "vni", 0, 0, 4097, 5000, 1<<24),
		Labels: pick(t, "labels", nil, map[string]string{"k": "v"}), Encrypted: rapid.Bool().Draw(t, "encrypted"),
		Internal: rapid.Bool().Draw(t, "internal"), Egress: pick(t, "egress", "", "", EgressInternet, EgressFull, EgressNone, "x"),
	}
	for range pick(t, "subnets", 0, 1, 1, 2) {
		spec.Ask = append(spec.Ask, drawSubnet(t))
	}
	return spec
}

func drawReport(t *rapid.T) *Report {
	r := &Report{MTU: pick(t, "mtu", 1500, 9000, -1), KeyEpoch: rapid.Uint64Range(0, 3).Draw(t, "epoch"), VTEP: pick(t, "vtep", netip.AddrPort{}, netip.MustParseAddrPort("10.0.1.1:4789"))}
	for _, s := range rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.0/24", "10.0.2.0/23", "fd00::/8", "0.0.0.0/0"}), 0, 3).Draw(t, "routes") {
		r.Routes = append(r.Routes, prefix(s))
	}
	return r
}

// world returns a cluster of three nodes, and a network of five addresses.
func world(t *rapid.T) *State {
	var s *State
	small := create(NetworkSpec{Name: "n0", Ask: subnet("10.1.0.0/29")})
	for _, c := range []Command{{Init: newInit()}, {AddNode: &AddNode{testNode("a", Worker)}}, {AddNode: &AddNode{testNode("b", Worker)}}, small} {
		c.At, c.By = start, idOf("m1")
		var err error
		if s, _, err = s.Apply(&c); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// drawCommand returns any command; most are refused or granted by turns.
func drawCommand(t *rapid.T) *Command {
	c := &Command{By: idOf(pick(t, "by", "m1", "m1", "m1", "a", "b", "c"))}
	lease := func() { c.Lease = &AskLease{Network: drawNet(t), Count: rapid.IntRange(-1, 6).Draw(t, "count")} }
	pick(t, "command",
		lease, lease, lease, lease, lease, lease,
		func() { lease(); c.Lease.Want = drawAddrs(t) },
		func() { c.Release = &Release{drawNet(t), drawAddrs(t), rapid.Bool().Draw(t, "leave")} },
		func() { c.Expire = &Expire{[]identity.NodeID{idOf(drawNode(t))}} },
		func() {
			n := testNode(drawNode(t), pick(t, "role", Worker, Worker, Manager, "x"))
			n.Name = pick(t, "name", n.Name, n.Name, "a", "B", "-")
			c.AddNode = &AddNode{n}
		},
		func() {
			c.UpdateNode = &UpdateNode{idOf(drawNode(t)), pick(t, "role", "", Worker, Manager), pick(t, "availability", "", Active, Drain)}
		},
		func() { c.RemoveNode = &RemoveNode{idOf(drawNode(t))} },
		func() { c.Report = drawReport(t) },
		func() { *c = create(drawSpec(t)); c.By = idOf(drawNode(t)) },
		func() { *c = create(drawSpec(t)); c.By = idOf("m1") },
		func() { c.RemoveNetwork = &RemoveNetwork{drawNet(t)} },
		func() {
			c.RotateToken = &RotateToken{pick(t, "role", Worker, Manager, "x"), pick(t, "secret", strings.Repeat("z", 25), "")}
		},
		func() {
			c.RotateKeys = &RotateKeys{Step: pick(t, "step", StepInstall, StepUse, StepRemove, ""), Gossip: secret("g"), Network: map[NetworkID][]byte{}}
			for _, n := range someNetworks[:rapid.IntRange(3, 5).Draw(t, "keys")] {
				c.RotateKeys.Network[netID(n)] = secret(n)
			}
		},
	)()
	return c
}

// invariants are said here again, apart from State.check, which Decode trusts.
func invariants(t *rapid.T, s *State) {
	vnis, names := map[vxlan.VNI]bool{}, map[string]bool{}
	for id, n := range s.Networks {
		if n.ID != id || vnis[n.VNI] || names[n.Name] || n.VNI == 0 || n.VNI > vxlan.MaxVNI {
			t.Fatalf("network %s: ID, VNI %d or name are not its own", n.Name, n.VNI)
		}
		vnis[n.VNI], names[n.Name] = true, true
		for _, sub := range n.Subnets {
			if !sub.Prefix.Contains(sub.Gateway) || sub.Gateway == sub.Prefix.Addr() {
				t.Fatalf("network %s: gateway %s of %s", n.Name, sub.Gateway, sub.Prefix)
			}
		}
		owner := map[netip.Addr]identity.NodeID{}
		for _, l := range s.Leases[id] {
			if s.Nodes[l.Node] == nil || n.Driver == Bridge && l.Node != n.Node {
				t.Fatalf("network %s: a lease of %s", n.Name, l.Node)
			}
			for _, a := range l.Addresses {
				if other, ok := owner[a]; ok {
					t.Fatalf("%s is leased by %s and %s", a, other, l.Node)
				}
				owner[a] = l.Node
				at := slices.IndexFunc(n.Subnets, func(sub Subnet) bool { return sub.Prefix.Contains(a) })
				if at < 0 || a == n.Subnets[at].Gateway || a == n.Subnets[at].Prefix.Addr() {
					t.Fatalf("network %s: %s is leased, but outside or reserved", n.Name, a)
				}
				if sub := n.Subnets[at]; a.Is4() && !sub.Prefix.Contains(a.Next()) {
					t.Fatalf("network %s: the broadcast address %s is leased", n.Name, a)
				} else {
					for name, aux := range sub.Aux {
						if aux == a {
							t.Fatalf("network %s: %s is leased, but %s", n.Name, a, name)
						}
					}
				}
			}
		}
	}
	names = map[string]bool{}
	for id, n := range s.Nodes {
		if _, removed := s.Removed[id]; removed || names[strings.ToLower(n.Name)] {
			t.Fatalf("node %s was removed, or another has its name", n.Name)
		}
		names[strings.ToLower(n.Name)] = true
	}
	if m := len(s.Managers()); m < 1 || m > MaxManagers {
		t.Fatalf("%d managers", m)
	}
}

// granted checks that unasked-for addresses come from the range.
func granted(t *rapid.T, s *State, c *Command, r Result) {
	if c.Lease == nil || len(c.Lease.Want) > 0 {
		return
	}
	n := s.Networks[c.Lease.Network]
	for _, a := range r.Lease {
		if !slices.ContainsFunc(n.Subnets, func(sub Subnet) bool {
			return sub.Prefix.Contains(a) && (!sub.Range.IsValid() || sub.Range.Contains(a))
		}) {
			t.Fatalf("%s is outside of the ranges of %s", a, n.Name)
		}
	}
	if len(r.Lease) == 0 && r.Pending == "" && c.Lease.Count > 0 {
		t.Fatal("neither an address nor a reason")
	}
}

func TestRandomCommandsKeepTheInvariants(t *testing.T) {
	type past struct {
		state *State
		bytes []byte
	}
	rapid.Check(t, func(t *rapid.T) {
		s := world(t)
		replica, err := Decode(s.Encode())
		if err != nil {
			t.Fatal(err)
		}
		history := []past{{s, s.Encode()}}
		for i := range rapid.IntRange(1, 60).Draw(t, "commands") {
			c := drawCommand(t)
			c.At = start.Add(time.Duration(i) * 10 * time.Second)
			text, _ := json.Marshal(c)
			before := s
			next, result, err := s.Apply(c)
			if after, _ := json.Marshal(c); !bytes.Equal(text, after) {
				t.Fatalf("Apply changed the command from %s to %s", text, after)
			}
			if err != nil && (next != before || !slices.ContainsFunc([]error{ErrNotFound, ErrExists, ErrInUse, ErrInvalid, ErrExhausted, ErrDenied}, func(kind error) bool { return errors.Is(err, kind) })) {
				t.Fatalf("refused with %v, same state: %t", err, next == before)
			}
			s = next
			enc := s.Encode()
			if s != before && bytes.Equal(enc, history[len(history)-1].bytes) {
				t.Fatalf("%s made another state that is the same", text)
			}
			history = append(history, past{s, enc})

			// A second manager gets the same command over the wire, and comes back from a snapshot now and then.
			var wire Command
			if err := json.Unmarshal(text, &wire); err != nil {
				t.Fatal(err)
			}
			twin, second, twinErr := replica.Apply(&wire)
			if !bytes.Equal(twin.Encode(), enc) || fmt.Sprint(err) != fmt.Sprint(twinErr) || fmt.Sprint(second.Lease, second.Pending) != fmt.Sprint(result.Lease, result.Pending) {
				t.Fatalf("replicas differ after %s: %v and %v\n%s\n%s", text, err, twinErr, enc, twin.Encode())
			}
			replica = twin
			if i%7 == 0 {
				if replica, twinErr = Decode(enc); twinErr != nil {
					t.Fatalf("after %s: %v", text, twinErr)
				}
			}
			if err := s.check(); err != nil {
				t.Fatalf("after %s: %v", text, err)
			}
			if err == nil {
				granted(t, s, c, result)
			}
			invariants(t, s)
		}
		for _, h := range history {
			if !bytes.Equal(h.state.Encode(), h.bytes) {
				t.Fatalf("state %d was written to:\n%s\n%s", h.state.Index, h.bytes, h.state.Encode())
			}
		}
	})
}

// TestRandomCommandsAreBothTakenAndRefused keeps the test above honest: a world in which nothing succeeds proves nothing.
func TestRandomCommandsAreBothTakenAndRefused(t *testing.T) {
	taken, refused := map[string]int{}, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		s := world(t)
		for i := range 60 {
			c := drawCommand(t)
			c.At = start.Add(time.Duration(i) * 10 * time.Second)
			var fields map[string]any
			text, _ := json.Marshal(c)
			if err := json.Unmarshal(text, &fields); err != nil {
				t.Fatal(err)
			}
			delete(fields, "at")
			delete(fields, "by")
			next, r, err := s.Apply(c)
			for name := range fields {
				switch {
				case err != nil:
					refused[name]++
				case r.Pending != "":
					taken["pending"]++
				case next != s:
					taken[name]++
				}
			}
			s = next
		}
	})
	for _, name := range []string{"add_node", "update_node", "remove_node", "report", "create_network", "remove_network", "lease", "release", "expire", "rotate_token", "rotate_keys"} {
		if taken[name] == 0 || refused[name] == 0 {
			t.Errorf("%s: %d taken, %d refused", name, taken[name], refused[name])
		}
	}
	if taken["pending"] == 0 {
		t.Error("no lease was ever pending")
	}
}
