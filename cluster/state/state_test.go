package state

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// start is when the test clusters begin; every command comes a second after the one before.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testNode returns a node with a key made of its name.
func testNode(name string, role Role) Node {
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	return Node{ID: identity.IDOf(key), Name: name, Role: role, Availability: Active, Key: key}
}

func idOf(name string) identity.NodeID { return testNode(name, Worker).ID }

// secret returns 32 bytes made of a text, netID an ID.
func secret(text string) []byte { sum := sha256.Sum256([]byte(text)); return sum[:] }
func netID(name string) NetworkID {
	return NetworkID(secret("network " + name)[:16])
}

func newInit(pools ...Pool) *Init {
	return &Init{
		Cluster: Cluster{
			ID: strings.Repeat("c", 25), CACert: []byte("ca"), CAKey: []byte("ca key"), Pools: pools,
			Tokens: map[Role]string{Worker: strings.Repeat("w", 25), Manager: strings.Repeat("m", 25)},
			Gossip: Keyring{Keys: []Key{{Secret: secret("gossip")}}},
		},
		Node: testNode("m1", Manager), IngressID: netID("ingress"), Secret: secret("ingress"),
	}
}

// cluster applies commands one after another; By is the manager m1 unless set.
type cluster struct {
	testing.TB
	*State
	now time.Time
}

// newCluster returns a cluster of the manager m1 and the workers a and b.
func newCluster(t testing.TB, pools ...Pool) *cluster {
	c := &cluster{TB: t, now: start}
	c.do(Command{Init: newInit(pools...)})
	for _, name := range []string{"a", "b"} {
		c.do(Command{AddNode: &AddNode{testNode(name, Worker)}})
	}
	return c
}

// try applies a command, and fails if a refusal changes anything.
func (c *cluster) try(cmd Command) (Result, error) {
	c.Helper()
	c.now = c.now.Add(time.Second)
	if cmd.At.IsZero() {
		cmd.At = c.now
	}
	if cmd.By.IsZero() {
		cmd.By = idOf("m1")
	}
	next, result, err := c.State.Apply(&cmd)
	if err != nil && next != c.State {
		c.Fatalf("refused (%v), but the state is another", err)
	}
	if next != nil && c.State != nil && next != c.State && next.Index != c.Index+1 {
		c.Fatalf("index %d after %d", next.Index, c.Index)
	}
	c.State = next
	return result, err
}

func (c *cluster) do(cmd Command) Result {
	c.Helper()
	result, err := c.try(cmd)
	if err != nil {
		c.Fatal(err)
	}
	if _, err := Decode(c.Encode()); err != nil {
		c.Fatal(err)
	}
	return result
}

// refuses expects an error of a kind whose text has all these parts.
func (c *cluster) refuses(cmd Command, kind error, parts ...string) {
	c.Helper()
	_, err := c.try(cmd)
	if !errors.Is(err, kind) {
		c.Fatalf("%v; want one that is %q", err, kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			c.Errorf("%q does not say %q", err, p)
		}
	}
}

func (c *cluster) network(spec NetworkSpec) *Network {
	c.Helper()
	return c.do(create(spec)).Network
}

func create(spec NetworkSpec) Command {
	return Command{CreateNetwork: &CreateNetwork{ID: netID(spec.Name), Secret: secret(spec.Name), Spec: spec}}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func subnet(s string) []Subnet { return []Subnet{{Prefix: prefix(s)}} }

func TestInitMakesManagerIngressAndDefaults(t *testing.T) {
	c := newCluster(t)
	m := c.Nodes[idOf("m1")]
	if m.Role != Manager || m.Availability != Active || !m.Joined.Equal(start.Add(time.Second)) {
		t.Errorf("first node: %+v", m)
	}
	n, err := c.Network("ingress")
	if err != nil {
		t.Fatal(err)
	}
	if !n.Ingress || n.Subnets[0].Prefix != prefix("10.255.0.0/16") || n.Subnets[0].Gateway != addr("10.255.0.1") || n.VNI != 4096 || n.Keys.Primary != 1 {
		t.Errorf("ingress: %+v", n)
	}
	cl := c.Cluster
	if cl.LeaseTTL != 24*time.Hour || cl.CertLife != 90*24*time.Hour || len(cl.Pools) != 1 || cl.Pools[0] != (Pool{prefix("10.0.0.0/8"), 24}) {
		t.Errorf("defaults: %+v", cl)
	}
	if k := cl.Gossip; k.Primary != 1 || len(k.Keys) != 1 || k.Keys[0].Epoch != 1 || k.Keys[0].Created.IsZero() {
		t.Errorf("gossip keys: %+v", k)
	}
	c.refuses(Command{Init: newInit()}, ErrExists, "weft leave")
	if s, _, err := (*State)(nil).Apply(&Command{At: start, RemoveNode: &RemoveNode{}}); s != nil || !errors.Is(err, ErrNotFound) {
		t.Errorf("a command before Init: %v %v", s, err)
	}
}

func TestIngressGivesWay(t *testing.T) {
	for _, c := range []struct {
		name  string
		pool  string
		route string
		want  string
	}{
		{"to nothing in the usual pool", "10.0.0.0/8", "192.168.1.0/24", "10.255.0.0/16"},
		{"to a route of the first node", "10.0.0.0/8", "10.255.3.0/24", "10.0.0.0/16"},
		{"to a route over all of 10.0.0.0/8", "192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/16"},
		{"to a pool that would be lost", "10.255.0.0/16", "172.17.0.0/16", "10.0.0.0/16"},
		{"not to what is everywhere", "10.0.0.0/8", "0.0.0.0/1", "10.255.0.0/16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			init := newInit(Pool{prefix(c.pool), 24})
			init.Node.Routes = []netip.Prefix{prefix(c.route)}
			s, _, err := (*State)(nil).Apply(&Command{At: start, Init: init})
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := s.Network("ingress"); n.Subnets[0].Prefix != prefix(c.want) {
				t.Errorf("%s; want %s", n.Subnets[0].Prefix, c.want)
			}
		})
	}
}

func TestInitRefusesWhatMakesNoCluster(t *testing.T) {
	for name, spoil := range map[string]func(*Init){
		"no cluster ID":         func(i *Init) { i.Cluster.ID = "" },
		"a pool with host bits": func(i *Init) { i.Cluster.Pools = []Pool{{prefix("10.0.0.1/8"), 24}} },
		"a pool of IPv6":        func(i *Init) { i.Cluster.Pools = []Pool{{prefix("fd00::/48"), 64}} },
		"overlapping pools":     func(i *Init) { i.Cluster.Pools = []Pool{{prefix("10.0.0.0/8"), 24}, {prefix("10.1.0.0/16"), 24}} },
		"subnets over the pool": func(i *Init) { i.Cluster.Pools = []Pool{{prefix("10.0.0.0/16"), 8}} },
		"no gossip key":         func(i *Init) { i.Cluster.Gossip = Keyring{} },
		"a short gossip key":    func(i *Init) { i.Cluster.Gossip.Keys[0].Secret = []byte("short") },
		"a short ingress key":   func(i *Init) { i.Secret = nil },
		"a short token":         func(i *Init) { i.Cluster.Tokens = map[Role]string{Worker: "1"} },
		"a bad name":            func(i *Init) { i.Node.Name = "a.b" },
		"another's key":         func(i *Init) { i.Node.Key = testNode("x", Worker).Key },
		"a negative lifetime":   func(i *Init) { i.Cluster.LeaseTTL = -1 },
	} {
		init := newInit()
		spoil(init)
		if s, _, err := (*State)(nil).Apply(&Command{At: start, Init: init}); s != nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommandsThatAreNone(t *testing.T) {
	c := newCluster(t)
	c.refuses(Command{}, ErrInvalid, "0 changes")
	c.refuses(Command{RemoveNode: &RemoveNode{}, Expire: &Expire{}}, ErrInvalid, "2 changes")
	c.refuses(Command{At: start.AddDate(-1000, 0, 0), Expire: &Expire{}}, ErrInvalid, "clock")
	c.refuses(Command{By: idOf("stranger"), Report: &Report{}}, ErrDenied, "no member")
}

func TestRefs(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"})
	id := web.ID.String()
	for _, ref := range []string{"web", id, id[:8]} {
		if n, err := c.Network(ref); err != nil || n.ID != web.ID {
			t.Errorf("network %q: %v", ref, err)
		}
	}
	node := idOf("a").String()
	for _, ref := range []string{"a", node, node[:20]} {
		if n, err := c.NodeByRef(ref); err != nil || n.Name != "a" {
			t.Errorf("node %q: %v", ref, err)
		}
	}
	if _, err := c.Network(""); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty network name: %v", err)
	}
	if _, err := c.NodeByRef("nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown node: %v", err)
	}
	// Sooner or later two networks' IDs begin alike.
	for i := 0; ; i++ {
		c.do(create(NetworkSpec{Name: fmt.Sprintf("n%d", i)}))
		if _, err := c.Network(id[:1]); errors.Is(err, ErrInvalid) && strings.Contains(err.Error(), "2 networks") {
			break
		} else if i > 400 {
			t.Fatalf("an ambiguous beginning: %v", err)
		}
	}
}

func TestWorkersMayAskForTheirOwnOnly(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"})
	mine := create(NetworkSpec{Name: "mine", Driver: Bridge})
	mine.By = idOf("a")
	if n := c.do(mine).Network; n.Node != idOf("a") {
		t.Fatalf("a's bridge is of %s", n.Node)
	}
	a, b := idOf("a"), idOf("b")
	for name, cmd := range map[string]Command{
		"add a node":             {AddNode: &AddNode{testNode("x", Worker)}},
		"promote itself":         {UpdateNode: &UpdateNode{ID: a, Role: Manager}},
		"remove another":         {RemoveNode: &RemoveNode{b}},
		"make an overlay":        create(NetworkSpec{Name: "other"}),
		"remove an overlay":      {RemoveNetwork: &RemoveNetwork{web.ID}},
		"expire another's lease": {Expire: &Expire{[]identity.NodeID{b}}},
		"rotate a token":         {RotateToken: &RotateToken{Worker, strings.Repeat("x", 25)}},
		"rotate keys":            {RotateKeys: &RotateKeys{Step: StepInstall}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd.By = a
			c.refuses(cmd, ErrDenied, "a manager: m1")
			cmd.By = idOf("m1")
			if err := c.Authorize(&cmd); err != nil {
				t.Errorf("a manager: %v", err)
			}
		})
	}
	c.refuses(Command{By: b, RemoveNetwork: &RemoveNetwork{netID("mine")}}, ErrDenied)
	c.refuses(Command{By: b, Lease: &AskLease{Network: netID("mine"), Count: 1}}, ErrDenied, "a bridge of node a")
	c.do(Command{By: a, Lease: &AskLease{Network: netID("mine"), Count: 1}})
	c.do(Command{By: a, Release: &Release{Network: netID("mine"), Leave: true}})
	c.do(Command{By: a, RemoveNetwork: &RemoveNetwork{netID("mine")}})
	c.do(Command{By: a, RemoveNode: &RemoveNode{a}})
}

func TestViewHidesWhatIsNotTheNodes(t *testing.T) {
	c := newCluster(t)
	web, db := c.network(NetworkSpec{Name: "web"}), c.network(NetworkSpec{Name: "db"})
	c.do(Command{By: idOf("a"), Lease: &AskLease{Network: web.ID, Count: 4}})
	before := c.Encode()

	v := c.View(idOf("a"))
	if v.Cluster.CAKey != nil || v.Cluster.Tokens != nil {
		t.Error("a worker sees the CA's key or tokens")
	}
	if len(v.Networks[web.ID].Keys.Keys) != 1 || len(v.Networks[db.ID].Keys.Keys) != 0 {
		t.Error("a worker has the keys of web only if it takes part there, and never those of db")
	}
	if len(v.Cluster.Gossip.Keys) != 1 || len(v.Nodes) != 3 || v.Index != c.Index {
		t.Error("a worker lacks what it needs")
	}
	for _, id := range []identity.NodeID{idOf("a"), idOf("stranger")} {
		b := c.View(id).Encode()
		if back, err := Decode(b); err != nil || !bytes.Equal(back.Encode(), b) {
			t.Errorf("a view does not survive its encoding: %v", err)
		}
		for _, hidden := range [][]byte{secret("db"), []byte("ca key")} {
			text, _ := json.Marshal(hidden)
			if bytes.Contains(b, bytes.Trim(text, `"`)) {
				t.Errorf("the view has %q", hidden)
			}
		}
	}
	if v := c.View(idOf("stranger")); len(v.Cluster.Gossip.Keys) != 0 || len(v.Networks[web.ID].Keys.Keys) != 0 {
		t.Error("a stranger sees keys")
	}
	if c.View(idOf("m1")) != c.State {
		t.Error("a manager does not see all")
	}
	if !bytes.Equal(before, c.Encode()) {
		t.Error("looking changed the state")
	}
}
