package etc_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/engine/run/etc"
)

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

const stub = "# a comment\nnameserver 127.0.0.53\noptions edns0 trust-ad\ndomain old.example\nsearch corp.example lab.example\n"

func TestResolvConfLeadsToTheGatewayUnlessTheUserSaysOtherwise(t *testing.T) {
	gateway := netip.MustParseAddr("10.0.1.1")
	for _, c := range []struct {
		name    string
		resolv  etc.Resolv
		gateway netip.Addr
		host    string
		want    string
	}{
		{"the host's domains are searched, its options are not taken", etc.Resolv{}, gateway, stub, "nameserver 10.0.1.1\nsearch corp.example lab.example\noptions ndots:0\n"},
		{"a host without a file", etc.Resolv{}, gateway, "", "nameserver 10.0.1.1\noptions ndots:0\n"},
		{"the domain line, if it comes last", etc.Resolv{}, gateway, "search a.example\ndomain b.example", "nameserver 10.0.1.1\nsearch b.example\noptions ndots:0\n"},
		{"systemd's search of nothing", etc.Resolv{}, gateway, "search .\n", "nameserver 10.0.1.1\noptions ndots:0\n"},
		{"domains of one's own", etc.Resolv{Search: []string{"x.example", "y.example"}}, gateway, stub, "nameserver 10.0.1.1\nsearch x.example y.example\noptions ndots:0\n"},
		{"no domains", etc.Resolv{Search: []string{"."}}, gateway, stub, "nameserver 10.0.1.1\noptions ndots:0\n"},
		{"an option more", etc.Resolv{Options: []string{"timeout:2"}}, gateway, "", "nameserver 10.0.1.1\noptions ndots:0 timeout:2\n"},
		{"another number of dots", etc.Resolv{Options: []string{"timeout:2", "ndots:2"}}, gateway, "", "nameserver 10.0.1.1\noptions timeout:2 ndots:2\n"},
		{"servers of one's own, with the usual number of dots", etc.Resolv{Servers: addrs("192.0.2.53", "2001:db8::53")}, gateway, stub,
			"nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch corp.example lab.example\n"},
		{"an IPv6 gateway", etc.Resolv{}, netip.MustParseAddr("fd00::1"), "", "nameserver fd00::1\noptions ndots:0\n"},
		{"no gateway: the host's", etc.Resolv{}, netip.Addr{}, stub, stub},
	} {
		if got := c.resolv.Text(c.gateway, c.host); got != c.want {
			t.Errorf("%s: got\n%sexpected\n%s", c.name, got, c.want)
		}
	}
}

func TestOneGatewayIsAskedOfTheFirstNetworkThatHasAny(t *testing.T) {
	for _, c := range []struct {
		networks [][]netip.Addr
		want     string
	}{
		{nil, "invalid IP"},
		{[][]netip.Addr{nil, {}}, "invalid IP"},
		{[][]netip.Addr{nil, addrs("10.0.1.1"), addrs("10.0.2.1")}, "10.0.1.1"},
		{[][]netip.Addr{addrs("fd00::1", "10.0.1.1")}, "10.0.1.1"},
		{[][]netip.Addr{addrs("fd00::1"), addrs("10.0.2.1")}, "fd00::1"},
	} {
		if got := etc.Server(c.networks...); got.String() != c.want {
			t.Errorf("of %v it is %s, expected %s", c.networks, got, c.want)
		}
	}
}

func TestWishesThatNoResolvConfHoldsAreRefused(t *testing.T) {
	for _, c := range []struct {
		resolv etc.Resolv
		want   string // none: it is sound
	}{
		{etc.Resolv{}, ""},
		{etc.Resolv{Servers: addrs("192.0.2.53", "fe80::1%eth0", "::1"), Search: []string{"a.example"}, Options: []string{"ndots:1"}}, ""},
		{etc.Resolv{Search: []string{"."}}, ""},
		{etc.Resolv{Servers: addrs("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")}, "4 name servers; expected at most 3"},
		{etc.Resolv{Servers: addrs("0.0.0.0")}, "name server 0.0.0.0"},
		{etc.Resolv{Servers: addrs("ff02::1")}, "name server ff02::1"},
		{etc.Resolv{Servers: []netip.Addr{{}}}, "name server invalid IP"},
		{etc.Resolv{Search: []string{".", "a.example"}}, "expected it alone"},
		{etc.Resolv{Search: []string{""}}, "search domain"},
		{etc.Resolv{Search: []string{"a b"}}, "search domain"},
		{etc.Resolv{Search: []string{"a\nnameserver 192.0.2.1"}}, "search domain"},
		{etc.Resolv{Search: []string{"#"}}, "search domain"},
		{etc.Resolv{Options: []string{"a\nnameserver 192.0.2.1"}}, "option"},
		{etc.Resolv{Options: []string{""}}, "option"},
	} {
		err := c.resolv.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, expected %q", c.resolv, err, c.want)
		}
	}
}

func TestHostsHaveTheContainersNamesAndWhatWasAdded(t *testing.T) {
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	got := etc.Hosts(etc.Names("db.example", "db-1"), addrs("10.0.1.2", "fd00::2"), []etc.Host{{"build", netip.MustParseAddr("192.0.2.9")}})
	if want := local + "10.0.1.2\tdb.example db-1\nfd00::2\tdb.example db-1\n192.0.2.9\tbuild\n"; got != want {
		t.Errorf("got\n%sexpected\n%s", got, want)
	}
	if got, want := etc.Hosts(etc.Names("", "c1"), nil, nil), local+"127.0.1.1\tc1\n"; got != want {
		t.Errorf("without an address: got\n%sexpected\n%s", got, want)
	}
}

func TestHostsToBeAddedAreReadAsDockersAre(t *testing.T) {
	for s, want := range map[string]etc.Host{
		"a:192.0.2.1":         {"a", netip.MustParseAddr("192.0.2.1")},
		"a=192.0.2.1":         {"a", netip.MustParseAddr("192.0.2.1")},
		"a.example:fd00::1":   {"a.example", netip.MustParseAddr("fd00::1")},
		"a:[fd00::1]":         {"a", netip.MustParseAddr("fd00::1")},
		"a:host-gateway":      {"a", netip.Addr{}},
		"a_b.c-1=::ffff:1234": {"a_b.c-1", netip.MustParseAddr("::ffff:1234")},
	} {
		if h, gateway, err := etc.ParseHost(s); err != nil || h != want || gateway != strings.HasSuffix(s, etc.Gateway) {
			t.Errorf("%q is %+v, %t, %v; expected %+v", s, h, gateway, err, want)
		}
	}
	for _, s := range []string{"", "a", "a:", ":192.0.2.1", "a b:192.0.2.1", "a:x", "a:fe80::1%eth0", "a\n:192.0.2.1", "#:192.0.2.1", "a:[192.0.2.1", "a:192.0.2.1/24"} {
		if h, _, err := etc.ParseHost(s); err == nil || !strings.Contains(err.Error(), "expected NAME:ADDRESS") {
			t.Errorf("%q is %+v, %v; expected the form", s, h, err)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"a:192.0.2.1", "a=[fd00::1]", "a:host-gateway", "a\x00:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, gateway, err := etc.ParseHost(s)
		if err != nil {
			return
		}
		if gateway == h.Address.IsValid() {
			t.Fatalf("%q is %+v, host-gateway %t", s, h, gateway)
		}
		text := etc.Hosts([]string{"c"}, nil, []etc.Host{h})
		if lines := strings.Split(text, "\n"); len(lines) != 5 || len(strings.Fields(lines[3])) < 2 && !gateway {
			t.Fatalf("%q makes %q of the hosts file", s, text)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add(stub)
	f.Add("search\ndomain a\x00b c")
	f.Fuzz(func(t *testing.T, host string) {
		text := etc.Resolv{}.Text(netip.MustParseAddr("10.0.1.1"), host)
		var keys []string
		for line := range strings.Lines(text) {
			keys = append(keys, strings.Fields(line)[0])
		}
		if !slices.Equal(keys, []string{"nameserver", "options"}) && !slices.Equal(keys, []string{"nameserver", "search", "options"}) {
			t.Fatalf("%q makes %q", host, text)
		}
	})
}

func TestNamesAreLookedUpInTheContainersFilesAlone(t *testing.T) {
	for host, want := range map[string]string{
		"":                     "hosts: files dns\n",
		"passwd: files":        "passwd: files\nhosts: files dns\n",
		"# x\npasswd: files\n": "# x\npasswd: files\nhosts: files dns\n",
		"hosts: mymachines resolve [!UNAVAIL=return] files dns\nnetworks: files\n": "networks: files\nhosts: files dns\n",
		" hosts : nis\n": "hosts: files dns\n",
	} {
		if got := etc.Switch(host); !reflect.DeepEqual(got, want) {
			t.Errorf("%q becomes %q, expected %q", host, got, want)
		}
	}
}

func ExampleResolv() {
	gateway := etc.Server([]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.1.1")})
	fmt.Print(etc.Resolv{Options: []string{"timeout:2"}}.Text(gateway, "nameserver 127.0.0.53\nsearch example.org\n"))
	// Output:
	// nameserver 10.0.1.1
	// search example.org
	// options ndots:0 timeout:2
}
