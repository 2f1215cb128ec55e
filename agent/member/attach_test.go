package member_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func subnet(s string) []api.Subnet { return []api.Subnet{{Prefix: netip.MustParsePrefix(s)}} }

func TestContainerOnSeveralNetworks(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "red", Subnets: subnet("10.1.0.0/24")}, b)
	a.network(api.NetworkRequest{Name: "blue", Subnets: subnet("10.2.0.0/24")}, b)
	a.network(api.NetworkRequest{Name: "green", Subnets: subnet("10.3.0.0/24")}, b)
	mac := frame.MAC(0x0a_00_00_00_00_07)
	c1, got := a.containAt(lab.T(t, "c1"), "c1",
		api.Attachment{Network: "red", Addresses: []netip.Addr{addr("10.1.0.77")}, Aliases: []string{"one", "eins"}},
		api.Attachment{Network: "blue", MAC: &mac})
	if got[0].Interface != "eth0" || got[1].Interface != "eth1" || got[0].Node != "a" {
		t.Errorf("attached as %+v", got)
	}
	_, got = a.containAt(c1.Host, "c1", api.Attachment{Network: "green", Interface: "side0"})
	blue := got[0].Addresses[0].Addr().As4()
	if blue[0] != 10 || blue[1] != 3 {
		t.Errorf("the address in green is %v", got[0].Addresses)
	}
	have := interfaces(t, c1.Host)
	want := map[string]string{
		"eth0":  "02:42:0a:01:00:4d 10.1.0.77/24",
		"eth1":  "0a:00:00:00:00:07 " + have["eth1"][18:],
		"side0": fmt.Sprintf("02:42:0a:03:00:%02x %s", blue[3], got[0].Addresses[0]),
	}
	if !maps.Equal(have, want) {
		t.Errorf("interfaces are %v; expected %v", have, want)
	}

	c2 := b.contain("c2", "blue", "green", "red")
	for _, e := range endpoints(t, a, "c1") {
		if err := c2.pingAddr(e.Addresses[0].Addr()); err != nil {
			t.Error(err)
		}
	}
	for _, e := range endpoints(t, b, "c1") {
		if e.Network == "red" && (len(e.Aliases) != 2 || e.Aliases[0] != "one" || e.Node != "a" || e.Local || e.Interface != "") {
			t.Errorf("b sees c1 in red as %+v", e)
		}
	}

	lab.Must(t, a.DetachFrom(t.Context(), "c1", "blue"))
	if have := interfaces(t, c1.Host); len(have) != 2 || have["eth1"] != "" {
		t.Errorf("after leaving blue the interfaces are %v", have)
	}
	b.lists("blue", "c2")
	lab.Must(t, a.Detach(t.Context(), "c1"))
	if have := interfaces(t, c1.Host); len(have) != 0 {
		t.Errorf("after detaching the interfaces are %v", have)
	}
	sound(nodes)
}

// endpoints are a container's, as a node knows them.
func endpoints(t testing.TB, n *node, name string) (all []api.Endpoint) {
	t.Helper()
	all, err := n.Endpoint(t.Context(), name)
	lab.Must(t, err)
	return all
}

func TestCertainAddresses(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1", Subnets: []api.Subnet{{
		Prefix: netip.MustParsePrefix("10.1.0.0/24"), Aux: map[string]netip.Addr{"printer": addr("10.1.0.200")},
	}}}, b, c)
	c1 := a.contain("c1", "net1") // a now leases some addresses more
	at := func(n *node, h *lab.Host, name, ip string) ([]api.Endpoint, error) {
		return n.try(h, name, api.Attachment{Network: "net1", Addresses: []netip.Addr{addr(ip)}})
	}
	spare := c1.addr.Next().String()
	h2, h3 := lab.T(t, "c2"), lab.T(t, "c3")
	_, err := at(b, h2, "c2", spare)
	if err != nil {
		t.Fatalf("an address that another node leases, but does not use: %v", err)
	}
	begin := time.Now()
	_, err = at(b, h3, "c3", c1.addr.String())
	refused(t, err, c1.addr.String(), "node a")
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("it took %s to learn that an address is in use elsewhere", d)
	}
	for ip, words := range map[string][]string{
		spare:        {spare, "c2"},
		"10.1.0.1":   {"gateway"},
		"10.1.0.255": {"broadcast"},
		"10.1.0.200": {"printer"},
		"10.9.0.1":   {"outside network net1", "10.1.0.0/24"},
	} {
		_, err := at(b, h3, "c3", ip)
		refused(t, err, words...)
	}
	if have := interfaces(t, h3); len(have) != 0 {
		t.Errorf("a refused container has %v", have)
	}
	_, err = at(c, h3, "c3", "10.1.0.199")
	lab.Must(t, err)
	c2, c3 := &box{h2, b, "c2", addr(spare)}, &box{h3, c, "c3", addr("10.1.0.199")}
	for _, x := range []*box{c1, c2, c3} {
		x.reaches(c1, c2, c3)
	}
	sound(nodes)
}

func TestIPv6Networks(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "dual", IPv6: true, Subnets: []api.Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24")}, {Prefix: netip.MustParsePrefix("fd00:1::/64")},
	}}, b)
	a.network(api.NetworkRequest{Name: "six", IPv6: true, Subnets: subnet("fd00:6::/64")}, b)
	a.network(api.NetworkRequest{Name: "any", IPv6: true}, b)
	c1, one := a.containAt(lab.T(t, "c1"), "c1",
		api.Attachment{Network: "dual", Addresses: []netip.Addr{addr("fd00:1::77")}}, api.Attachment{Network: "six"}, api.Attachment{Network: "any"})
	_, two := b.containAt(lab.T(t, "c2"), "c2", api.Attachment{Network: "any"}, api.Attachment{Network: "six"}, api.Attachment{Network: "dual"})
	count := make(map[string]int)
	for _, e := range two {
		for _, p := range e.Addresses {
			count[e.Network]++
			b.eventually("c1 reaches "+p.String(), func() error { return c1.pingAddr(p.Addr()) })
		}
	}
	if want := map[string]int{"dual": 2, "six": 1, "any": 2}; !maps.Equal(count, want) {
		t.Errorf("addresses: %v; expected %v", count, want)
	}
	if p := one[0].Addresses; len(p) != 2 || !(p[0] == netip.MustParsePrefix("fd00:1::77/64") || p[1] == netip.MustParsePrefix("fd00:1::77/64")) {
		t.Errorf("the addresses in dual are %v", p)
	}
	sound(nodes)
}

func TestBridgeNetworkIsOfOneNode(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	made := b.network(api.NetworkRequest{Name: "here", Driver: "bridge"}, a)
	if made.Scope != "local" || made.Node != "b" {
		t.Errorf("made %+v", made)
	}
	c1, c2 := b.contain("c1", "here"), b.contain("c2", "here")
	c1.reaches(c2)
	_, err := a.try(lab.T(t, "c3"), "c3", api.Attachment{Network: "here"})
	refused(t, err, "bridge of node b")
	lab.Must(t, b.Detach(t.Context(), "c1"))
	lab.Must(t, b.Detach(t.Context(), "c2"))
	lab.Must(t, b.RemoveNetwork(t.Context(), "here"))
	sound(nodes)
}

func TestLinuxBridgeIsAttached(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	lab.Must(t, a.Bridge("docker9"))
	got, err := a.Attach(t.Context(), api.AttachRequest{Name: "c1", Bridge: "docker9", Networks: []api.Attachment{{Network: "net1"}}})
	lab.Must(t, err)
	h := lab.T(t, "c1")
	lab.Must(t, lab.Link(h, a.Host, lab.LinkOptions{
		Names: [2]string{"eth0", "veth9"}, Masters: [2]string{"", "docker9"}, MACs: [2]frame.MAC{got[0].MAC}, Addresses: [2][]netip.Prefix{got[0].Addresses}, MTU: 1450,
	}))
	c1, c2 := &box{h, a, "c1", got[0].Addresses[0].Addr()}, b.contain("c2", "net1")
	c2.reaches(c1)
	c1.reaches(c2)
	_, err = a.Attach(t.Context(), api.AttachRequest{Name: "c3", Bridge: "nobody", Networks: []api.Attachment{{Network: "net1"}}})
	refused(t, err, "nobody")
	lab.Must(t, a.Detach(t.Context(), "c1"))
	a.holds("net1", -1, -1, 0)
	sound(nodes)
}

func TestRefusedAttachmentLeavesNothing(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "good"}, b)
	a.network(api.NetworkRequest{Name: "other"}, b)
	a.network(api.NetworkRequest{Name: "full", Subnets: subnet("10.7.0.0/30")}, b)
	a.network(api.NetworkRequest{Name: "secret", Encrypted: true}, b)
	b.contain("all-of-it", "full")
	taken := b.contain("c0", "other")
	group := frame.MAC(0x01_00_5e_00_00_01)
	good := api.Attachment{Network: "good"}
	h := lab.T(t, "c1")
	lab.Must(t, h.Bridge("used")) // an interface that is there already
	for name, x := range map[string]struct {
		change func(r *api.AttachRequest)
		words  []string
	}{
		"ingress":               {func(r *api.AttachRequest) { r.Networks = []api.Attachment{good, {Network: "ingress"}} }, []string{"ingress", "published ports"}},
		"encrypted":             {func(r *api.AttachRequest) { r.Networks = []api.Attachment{good, {Network: "secret"}} }, []string{"secret", "encrypted"}},
		"unknown network":       {func(r *api.AttachRequest) { r.Networks = []api.Attachment{good, {Network: "nosuch"}} }, []string{"nosuch"}},
		"a network twice":       {func(r *api.AttachRequest) { r.Networks = []api.Attachment{good, good} }, []string{"good", "twice"}},
		"a full network second": {func(r *api.AttachRequest) { r.Networks = []api.Attachment{good, {Network: "full"}} }, []string{"full", "10.7.0.0/30", "node b"}},
		"another's address second": {func(r *api.AttachRequest) {
			r.Networks = []api.Attachment{good, {Network: "other", Addresses: []netip.Addr{taken.addr}}}
		}, []string{"node b", taken.addr.String()}},
		"an interface that is there": {func(r *api.AttachRequest) {
			r.Networks = []api.Attachment{{Network: "other"}, {Network: "good", Interface: "used"}}
		}, []string{"used"}},
		"one interface for two networks": {func(r *api.AttachRequest) {
			r.Networks = []api.Attachment{{Network: "other", Interface: "x0"}, {Network: "good", Interface: "x0"}}
		}, []string{"x0"}},
		"interface name that is too long": {func(r *api.AttachRequest) {
			r.Networks = []api.Attachment{{Network: "other"}, {Network: "good", Interface: "a-very-long-name"}}
		}, []string{"a-very-long-name"}},
		"interface name with a slash": {func(r *api.AttachRequest) { r.Networks = []api.Attachment{{Network: "good", Interface: "../x"}} }, []string{"../x"}},
		"two addresses of a family":   {func(r *api.AttachRequest) { r.Networks[0].Addresses = []netip.Addr{addr("10.0.0.3"), addr("10.0.0.4")} }, []string{"at most one"}},
		"a group's MAC":               {func(r *api.AttachRequest) { r.Networks[0].MAC = &group }, []string{"01:00:5e:00:00:01"}},
		"an alias with a space":       {func(r *api.AttachRequest) { r.Networks[0].Aliases = []string{"a b"} }, []string{`"a b"`}},
		"too many aliases": {func(r *api.AttachRequest) {
			for i := range 200 {
				r.Networks[0].Aliases = append(r.Networks[0].Aliases, fmt.Sprintf("alias-%d", i))
			}
		}, []string{"aliases"}},
		"a name with a slash":        {func(r *api.AttachRequest) { r.Name = "../c1" }, []string{`"../c1"`}},
		"a process that is not":      {func(r *api.AttachRequest) { r.NetNS, r.PID = "", 1<<30 }, []string{"gone", "running"}},
		"a path that is not":         {func(r *api.AttachRequest) { r.NetNS = "/run/netns/nosuch" }, []string{"/run/netns/nosuch"}},
		"a path that is a file":      {func(r *api.AttachRequest) { r.NetNS = "/etc/passwd" }, []string{"/etc/passwd"}},
		"neither process nor path":   {func(r *api.AttachRequest) { r.NetNS = "" }, []string{"expected one"}},
		"both process and path":      {func(r *api.AttachRequest) { r.PID = 1 }, []string{"expected one"}},
		"no network":                 {func(r *api.AttachRequest) { r.Networks = nil }, []string{"networks"}},
		"a bridge that is none here": {func(r *api.AttachRequest) { r.NetNS, r.Bridge = "", "nosuch" }, []string{"nosuch"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := api.AttachRequest{Name: "c1", NetNS: h.Path(), Networks: []api.Attachment{good}}
			x.change(&r)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := a.Attach(ctx, r)
			refused(t, err, x.words...)
			if have := interfaces(t, h); len(have) != 1 {
				t.Errorf("the container has %v", have)
			}
			if p, err := a.Ports(ctx, ""); err != nil || len(p) != 0 {
				t.Errorf("ports are left: %+v, %v", p, err)
			}
		})
	}
	for _, net := range []string{"good", "other", "full", "secret"} {
		a.holds(net, -1, -1, 0)
	}
	b.lists("other", "c0")
	sound(nodes)

	t.Run("a name that is taken", func(t *testing.T) {
		a.containAt(h, "c1", good)
		_, err := a.try(lab.T(t, "c2"), "c1", api.Attachment{Network: "other"})
		refused(t, err, "c1", "another namespace")
		_, err = a.try(h, "c1", good)
		refused(t, err, "on that network already")
		_, err = a.try(h, "c1", api.Attachment{Network: "other", Interface: "eth0"})
		refused(t, err, "eth0")
		a.lists("good", "c1")
	})
}

// defaults lists a host's default routes of a family: gateway, interface, metric.
func defaults(t testing.TB, h *lab.Host, family string) string {
	t.Helper()
	out, err := h.Command("ip", family, "-o", "route", "show", "default").Output()
	lab.Must(t, err)
	var all []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		get := func(key string) string {
			if i := slices.Index(f, key); i >= 0 {
				return f[i+1]
			}
			return "-"
		}
		all = append(all, get("via")+" "+get("dev")+" "+get("metric"))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestContainerLeavesByItsFirstNetwork(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	a := newLAN(t).cluster("a")[0]
	a.network(api.NetworkRequest{Name: "red", IPv6: true, Subnets: []api.Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24")}, {Prefix: netip.MustParsePrefix("fd00:1::/64")},
	}})
	a.network(api.NetworkRequest{Name: "blue", Subnets: subnet("10.2.0.0/24")})
	a.network(api.NetworkRequest{Name: "green", Subnets: subnet("10.3.0.0/24")})
	a.network(api.NetworkRequest{Name: "inner", Subnets: subnet("10.4.0.0/24"), Internal: true})
	a.network(api.NetworkRequest{Name: "closed", Subnets: subnet("10.5.0.0/24"), Egress: "none"})
	c := lab.T(t, "c")
	a.containAt(c, "c", api.Attachment{Network: "inner"}, api.Attachment{Network: "closed"}, api.Attachment{Network: "red"},
		api.Attachment{Network: "green", Interface: "side0"}, api.Attachment{Network: "blue"})
	const others = "10.2.0.1 eth3 515, 10.3.0.1 side0 640"
	expect := func(when, v4, v6 string) {
		t.Helper()
		if got := defaults(t, c, "-4"); got != v4 {
			t.Errorf("%s: %s; expected %s", when, got, v4)
		}
		if got := defaults(t, c, "-6"); got != v6 {
			t.Errorf("%s: %s; expected %s", when, got, v6)
		}
	}
	expect("attached", "10.1.0.1 eth2 514, "+others, "fd00:1::1 eth2 1538")

	// An agent of a version before takes up what has no such routes, and knows no metrics; another engine has made a route.
	lab.Must(t, a.stop(unix.SIGKILL))
	for _, family := range []string{"-4", "-6"} {
		for defaults(t, c, family) != "" {
			lab.Must(t, c.Command("ip", family, "route", "delete", "default").Run())
		}
	}
	lab.Must(t, c.Command("ip", "route", "add", "default", "via", "10.2.0.77").Run())
	file := filepath.Join(a.Dir, "endpoints.json")
	b, err := os.ReadFile(file)
	lab.Must(t, err)
	old := regexp.MustCompile(`,\s*"metric": \d+|"metric": \d+,`).ReplaceAll(b, nil)
	if bytes.Contains(old, []byte("metric")) || len(old) == len(b) {
		t.Fatalf("the list is %s", b)
	}
	lab.Must(t, os.WriteFile(file, old, 0o600))
	before := indices(t, c)
	a.start()
	a.eventually("all ports are up", func() error {
		s, err := a.Status(t.Context())
		if err == nil && s.Ports.Up != 5 {
			err = errorf("%+v", s.Ports)
		}
		return err
	})
	expect("taken up", "10.1.0.1 eth2 514, "+others[:len("10.2.0.1 eth3 515")]+", 10.2.0.77 eth3 -"+others[len("10.2.0.1 eth3 515"):], "fd00:1::1 eth2 1538")
	if after := indices(t, c); !maps.Equal(before, after) {
		t.Errorf("interfaces %v became %v", before, after)
	}
	if out, err := c.Command("ip", "route", "get", "192.0.2.200").Output(); err != nil || !strings.Contains(string(out), "via 10.2.0.77") {
		t.Errorf("it leaves by %s (%v); expected the way that another engine made", out, err)
	}
	lab.Must(t, c.Command("ip", "route", "delete", "default", "via", "10.2.0.77").Run())

	lab.Must(t, a.DetachFrom(t.Context(), "c", "red"))
	expect("off its first network", others, "")
	if out, err := c.Command("ip", "route", "get", "192.0.2.200").Output(); err != nil || !strings.Contains(string(out), "via 10.2.0.1") {
		t.Errorf("it leaves by %s (%v); expected the next", out, err)
	}
	delete(before, "eth2")
	if after := indices(t, c); !maps.Equal(before, after) {
		t.Errorf("off its first network, interfaces %v became %v", before, after)
	}
}

// indices are a host's interfaces: one that is made anew has another.
func indices(t testing.TB, h *lab.Host) map[string]int {
	t.Helper()
	links, err := h.Netlink().LinkList()
	lab.Must(t, err)
	all := make(map[string]int)
	for _, link := range links {
		all[link.Attrs().Name] = link.Attrs().Index
	}
	return all
}
