package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// ask asks for a node, and expects an answer that is no refusal.
func (c *cluster) ask(node string, net NetworkID, count int, want ...string) Result {
	c.Helper()
	return c.do(asks(node, net, count, want...))
}

func asks(node string, net NetworkID, count int, want ...string) Command {
	a := &AskLease{Network: net, Count: count}
	for _, w := range want {
		a.Want = append(a.Want, addr(w))
	}
	return Command{By: idOf(node), Lease: a}
}

func (c *cluster) give(node string, net NetworkID, addrs ...string) {
	c.Helper()
	r := &Release{Network: net}
	for _, a := range addrs {
		r.Addresses = append(r.Addresses, addr(a))
	}
	c.do(Command{By: idOf(node), Release: r})
}

func TestGrantsAreTheLowestAndAShare(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web", Ask: subnet("10.1.0.0/24")}).ID
	if got := fmt.Sprint(c.ask("a", web, 3).Lease); got != "[10.1.0.2 10.1.0.3 10.1.0.4]" {
		t.Errorf("first lease: %s", got)
	}
	if got := c.ask("b", web, 1000).Lease; len(got) != 250/8 || got[0] != addr("10.1.0.5") {
		t.Errorf("a greedy node got %d from %v; want an eighth of the 250 that are free", len(got), got[0])
	}
	c.give("a", web, "10.1.0.3")
	if got := c.ask("a", web, 2).Lease; !slices.Equal(got, []netip.Addr{addr("10.1.0.3"), addr("10.1.0.36")}) {
		t.Errorf("after a gap: %s", got)
	}
	if l := c.Lease(web, idOf("a")); !slices.IsSortedFunc(l.Addresses, netip.Addr.Compare) || len(l.Addresses) != 4 {
		t.Errorf("a's lease: %s", l.Addresses)
	}
	c.refuses(asks("a", web, -1), ErrInvalid)
	c.refuses(asks("a", web, maxCount+1), ErrInvalid)
	c.refuses(asks("a", netID("none"), 1), ErrNotFound)
}

func TestEachFamilyAndEachSubnetServes(t *testing.T) {
	c := newCluster(t)
	both := c.network(NetworkSpec{Name: "both", IPv6: true, Ask: subnet("10.1.0.0/24")})
	got := c.ask("a", both.ID, 2).Lease
	if len(got) != 4 || !got[1].Is4() || !got[2].Is6() || got[2] != both.Subnets[1].Gateway.Next() {
		t.Errorf("both families: %s", got)
	}
	two := c.network(NetworkSpec{Name: "two", Ask: []Subnet{{Prefix: prefix("10.2.0.0/30")}, {Prefix: prefix("10.3.0.0/29")}}}).ID
	for range 6 {
		c.ask("a", two, 1)
	}
	if got := fmt.Sprint(c.Lease(two, idOf("a")).Addresses); got != "[10.2.0.2 10.3.0.2 10.3.0.3 10.3.0.4 10.3.0.5 10.3.0.6]" {
		t.Errorf("two subnets: %s", got)
	}
	six := c.network(NetworkSpec{Name: "six", Ask: subnet("fd01::/64")}).ID
	if got := fmt.Sprint(c.ask("a", six, 2).Lease); got != "[fd01::2 fd01::3]" {
		t.Errorf("IPv6 alone: %s", got)
	}
}

func TestTakingPartNeedsNoAddress(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"}).ID
	c.ask("a", web, 0)
	if l := c.Lease(web, idOf("a")); l == nil || len(l.Addresses) != 0 {
		t.Fatalf("%+v; want an empty lease", l)
	}
	same := c.State
	if c.ask("a", web, 0); c.State != same {
		t.Error("taking part twice made another state")
	}
	c.ask("a", web, 2)
	c.do(Command{By: idOf("a"), Release: &Release{Network: web, Leave: true}})
	if c.Lease(web, idOf("a")) != nil || len(c.Leases) != 0 {
		t.Error("it takes part after leaving")
	}
	c.do(Command{By: idOf("a"), Release: &Release{Network: web, Leave: true}}) // may come twice
	c.give("a", web, "10.0.0.2")
}

func TestWhatIsLeasedIsAskedBack(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web", Ask: subnet("10.1.0.0/29")}).ID // five addresses
	for range 3 {
		c.ask("a", web, 1)
	}
	c.ask("b", web, 1)
	c.ask("b", web, 1)
	if c.Networks[web].Tight {
		t.Error("tight before anybody lacks an address")
	}
	if _, err := c.try(asks("m1", web, 1)); err != nil {
		t.Fatal(err)
	}
	r := c.ask("m1", web, 1)
	if len(r.Lease) != 0 || !strings.Contains(r.Pending, "all 5 addresses of subnet 10.1.0.0/29 (network web) are leased: node a 3, node b 2") {
		t.Errorf("%+v", r)
	}
	if !c.Networks[web].Tight || c.Lease(web, idOf("m1")) == nil {
		t.Error("want the network tight, and m1 waiting in it")
	}
	if c.ask("b", web, 0, "10.1.0.2"); !c.Networks[web].Tight {
		t.Error("no longer tight, and still nothing is free")
	}
	c.give("b", web, "10.1.0.5")
	if c.Networks[web].Tight {
		t.Error("tight although something is free")
	}
	if r := c.ask("m1", web, 4); len(r.Lease) != 1 || r.Lease[0] != addr("10.1.0.5") || r.Pending != "" {
		t.Errorf("after a release: %+v", r)
	}
}

func TestExhaustionByOneselfIsAnErrorAtOnce(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web", Ask: []Subnet{{Prefix: prefix("10.1.0.0/24"), Range: prefix("10.1.0.8/31")}}}).ID
	c.ask("a", web, 1)
	c.ask("a", web, 1)
	c.refuses(asks("a", web, 1), ErrExhausted, "all 2 addresses of range 10.1.0.8/31 of subnet 10.1.0.0/24", "node a 2", "--subnet")
	if r := c.ask("b", web, 1); r.Pending == "" {
		t.Error("another node may hope for what a does not use")
	}
}

func TestTightBelowAnEighth(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web", Ask: subnet("10.1.0.0/26")}).ID // 61 addresses
	leased := 0
	for !c.Networks[web].Tight {
		leased += len(c.ask("a", web, 1).Lease)
	}
	if leased != 54 { // 7 are free: 56 < 61
		t.Errorf("tight after %d", leased)
	}
	c.give("a", web, "10.1.0.2")
	if c.Networks[web].Tight {
		t.Error("still tight with 8 free")
	}
}

func TestCertainAddresses(t *testing.T) {
	c := newCluster(t)
	n := c.network(NetworkSpec{Name: "web", Ask: []Subnet{{
		Prefix: prefix("10.1.0.0/24"), Range: prefix("10.1.0.128/25"), Aux: map[string]netip.Addr{"printer": addr("10.1.0.9")},
	}}})
	web := n.ID
	if r := c.ask("a", web, 0, "10.1.0.200", "10.1.0.5", "10.1.0.5"); fmt.Sprint(r.Lease) != "[10.1.0.5 10.1.0.200]" {
		t.Errorf("inside and outside of the range: %+v", r)
	}
	same := c.State
	if r := c.ask("a", web, 0, "10.1.0.5"); c.State != same || len(r.Lease) != 0 || r.Pending != "" {
		t.Errorf("asked again by who has it: %+v", r)
	}
	c.refuses(asks("a", web, 0, "10.2.0.5"), ErrInvalid, "10.2.0.5", "10.1.0.0/24")
	c.refuses(asks("a", web, 0, "::ffff:10.1.0.6"), ErrInvalid)
	c.refuses(asks("a", web, 0, "10.1.0.6", "10.1.0.0"), ErrInvalid, "network or broadcast")
	c.refuses(asks("a", web, 0, "10.1.0.255"), ErrInvalid, "network or broadcast")
	c.refuses(asks("a", web, 0, "10.1.0.1"), ErrInUse, "gateway")
	c.refuses(asks("a", web, 0, "10.1.0.9"), ErrInUse, "printer")
	c.refuses(asks("a", web, 0, slices.Repeat([]string{"10.1.0.7"}, maxWant+1)...), ErrInvalid)
}

func TestAWantedAddressIsAskedBackAndKept(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web", Ask: subnet("10.1.0.0/24")}).ID
	c.ask("a", web, 3)
	r := c.ask("b", web, 0, "10.1.0.2", "10.1.0.77")
	if !strings.Contains(r.Pending, "10.1.0.2 is leased by node a") || len(r.Lease) != 0 || len(c.Lease(web, idOf("b")).Addresses) != 0 {
		t.Fatalf("%+v; want all or none", r)
	}
	if w := c.Networks[web].Wanted; len(w) != 1 || w[0] != addr("10.1.0.2") || c.Networks[web].Tight {
		t.Fatalf("wanted: %s", w)
	}
	c.ask("b", web, 0, "10.1.0.2")
	c.give("a", web, "10.1.0.2")
	if got := c.ask("a", web, 1).Lease; got[0] != addr("10.1.0.5") {
		t.Errorf("a got %s; want the address that b asked for kept for b", got)
	}
	if got := c.ask("b", web, 0, "10.1.0.2").Lease; len(got) != 1 || len(c.Networks[web].Wanted) != 0 || len(c.Networks[web].WantedUntil) != 0 {
		t.Errorf("b got %s, still wanted: %s", got, c.Networks[web].Wanted)
	}
}

func TestWishesLapseAndAreFew(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web", Ask: subnet("10.1.0.0/16")}).ID
	c.ask("a", web, 200)
	for i := range maxWishes + 10 {
		c.ask("b", web, 0, fmt.Sprintf("10.1.0.%d", 2+i))
	}
	w := c.Networks[web].Wanted
	if len(w) > maxWishes || w[len(w)-1] != addr("10.1.0.75") {
		t.Fatalf("%d wishes, the last %s", len(w), w[len(w)-1])
	}
	c.give("a", web, "10.1.0.75")
	c.now = c.now.Add(WishLife)
	if got := c.ask("a", web, 1).Lease; got[0] != addr("10.1.0.75") || len(c.Networks[web].Wanted) != 0 {
		t.Errorf("a minute later a got %s, and %d are wanted", got, len(c.Networks[web].Wanted))
	}
}

func TestLeasesExpire(t *testing.T) {
	c := newCluster(t)
	web := c.network(NetworkSpec{Name: "web"}).ID
	own := create(NetworkSpec{Name: "own", Driver: Bridge})
	own.By = idOf("a")
	c.do(own)
	for _, net := range []NetworkID{web, netID("own")} {
		c.ask("a", net, 2)
	}
	c.ask("b", web, 2)
	b := c.Lease(web, idOf("b"))
	c.do(Command{Expire: &Expire{Nodes: []identity.NodeID{idOf("a"), idOf("stranger")}}})
	if c.Lease(web, idOf("a")) != nil || c.Lease(web, idOf("b")) != b {
		t.Error("want a's lease free, and b's untouched")
	}
	if c.Lease(netID("own"), idOf("a")) == nil {
		t.Error("nobody else can use a's bridge; its lease should stay")
	}
	same := c.State
	if c.do(Command{Expire: &Expire{Nodes: []identity.NodeID{idOf("a")}}}); c.State != same {
		t.Error("expiring twice made another state")
	}
}

func TestUsageCounts(t *testing.T) {
	c := newCluster(t)
	n := c.network(NetworkSpec{Name: "web", Ask: []Subnet{{Prefix: prefix("10.1.0.0/24"), Range: prefix("10.1.0.0/28")}}})
	c.ask("a", n.ID, 0, "10.1.0.2", "10.1.0.99")
	u := c.Usage(n.ID)
	if len(u) != 1 || u[0].Size != 14 || u[0].Leased != 2 || u[0].Free != 13 || u[0].Reserved != 2 || u[0].Subnet.Gateway != addr("10.1.0.1") {
		t.Errorf("%+v", u)
	}
	if c.Usage(netID("none")) != nil {
		t.Error("usage of no network")
	}
}

// BenchmarkLease is one lease command in a cluster of 1000 networks and 300 nodes, all of which take part in its network.
func BenchmarkLease(b *testing.B) {
	s := largeCluster(b)
	cmd := asks("n7", netID("net0"), 8)
	cmd.At = start.Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, r, err := s.Apply(&cmd); err != nil || len(r.Lease) != 8 {
			b.Fatal(r, err)
		}
	}
}

func BenchmarkView(b *testing.B) {
	s, id := largeCluster(b), idOf("n7")
	b.ReportAllocs()
	for b.Loop() {
		s.View(id)
	}
}

func BenchmarkDecode(b *testing.B) {
	enc := largeCluster(b).Encode()
	b.SetBytes(int64(len(enc)))
	for b.Loop() {
		if _, err := Decode(enc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreateNetwork(b *testing.B) {
	s := largeCluster(b)
	cmd := create(NetworkSpec{Name: "more"})
	cmd.At, cmd.By = start.Add(time.Hour), idOf("m1")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Apply(&cmd); err != nil {
			b.Fatal(err)
		}
	}
}

func largeCluster(b *testing.B) *State {
	c := &cluster{TB: b, now: start}
	try := func(cmd Command) {
		if _, err := c.try(cmd); err != nil {
			b.Fatal(err)
		}
	}
	try(Command{Init: newInit()})
	for i := range 300 {
		try(Command{AddNode: &AddNode{testNode(fmt.Sprintf("n%d", i), Worker)}})
	}
	for i := range 999 {
		spec := NetworkSpec{Name: fmt.Sprintf("net%d", i)}
		if i == 0 {
			spec.Ask = subnet("172.16.0.0/12")
		}
		try(create(spec))
	}
	for i := range 300 {
		try(asks(fmt.Sprintf("n%d", i), netID("net0"), 32))
		try(asks(fmt.Sprintf("n%d", i), netID(fmt.Sprintf("net%d", i+1)), 8))
	}
	return c.State
}
