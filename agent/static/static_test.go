package static

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/vxlan"
)

const whole = `node: a
underlay:
  address: 192.0.2.1
  port: 4790
  udp-checksum: on
threads: 2
networks:
  - name: net1
    vni: 4097
    subnets: [10.77.0.0/24, "fd00:77::/64"]
    gateways: ["fd00:77::fe"]
    mtu: 1400
    spoof: allow
    endpoints:
      - name: c1
        netns: /run/netns/../netns/c1
        interface: net0
        addresses: [10.77.0.2, "fd00:77::2"]
        mac: "02:42:0a:4d:00:63"
        routes: [{to: 0.0.0.0/0, via: 10.77.0.1}]
        queues: 2
        persistent: true
      - {name: c2, pid: 1234, addresses: [10.77.0.3], hostname: h2.example, service: s, aliases: [db, a.b], ports: [80, http=8080, 53-54/udp]}
      - {name: c3, bridge: {name: br0}, addresses: [10.77.0.4]}
      - {name: c4, bridge: {name: br0}, addresses: [10.77.0.5]}
      - {name: c5, bridge: {name: br0, netns: /run/netns/host}, addresses: [10.77.0.6]}
    remotes:
      - {name: c9, addresses: [10.77.0.9], vtep: 192.0.2.2, node: b, aliases: [db]}
    vteps: [192.0.2.9]
  - name: net2
    internal: true
    vni: 4098
    subnets: [10.77.0.0/24]
    endpoints:
      - {name: c1, netns: /run/netns/c1, interface: net1, addresses: [10.77.0.2]}
`

func TestParseFillsInEveryDefault(t *testing.T) {
	cfg, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	n := cfg.Networks[0]
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"node", cfg.Node, "a"},
		{"underlay", cfg.Underlay, plan.Underlay{Address: addr("192.0.2.1"), Port: 4790, Checksum: vxlan.ChecksumOn}},
		{"threads", cfg.Threads, 2},
		{"gateways in the subnets' order", n.Gateways, []netip.Addr{addr("10.77.0.1"), addr("fd00:77::fe")}},
		{"mtu", n.MTU, 1400},
		{"mtu left out", cfg.Networks[1].MTU, 0},
		{"spoof", n.AllowSpoof, true},
		{"spoof left out", cfg.Networks[1].AllowSpoof, false},
		{"endpoint", n.Endpoints[0], plan.Endpoint{
			Name: "c1", NetNS: "/run/netns/c1", Interface: "net0", Addresses: []netip.Addr{addr("10.77.0.2"), addr("fd00:77::2")},
			MAC: 0x02420a4d0063, Routes: []plan.Route{{To: prefix("0.0.0.0/0"), Via: addr("10.77.0.1")}}, Queues: 2, Persistent: true,
			Names: dns.Names{Node: "a"},
		}},
		{"endpoint by defaults", n.Endpoints[1], plan.Endpoint{
			Name: "c2", PID: 1234, Interface: "eth0", Addresses: []netip.Addr{addr("10.77.0.3")}, MAC: 0x02420a4d0003, Queues: 1,
			Names: dns.Names{Hostname: "h2.example", Service: "s", Aliases: []string{"db", "a.b"}, Node: "a", Ports: []dns.Port{
				{Number: 80, Protocol: "tcp"}, {Name: "http", Number: 8080, Protocol: "tcp"}, {Number: 53, Protocol: "udp"}, {Number: 54, Protocol: "udp"},
			}},
		}},
		{"egress left out", n.Egress, plan.EgressInternet},
		{"egress of an internal network", cfg.Networks[1].Egress, plan.EgressNone},
		{"all subnets, each once", cfg.Foreign, []netip.Prefix{prefix("10.77.0.0/24"), prefix("fd00:77::/64")}},
		{"interface on a bridge", n.Endpoints[2].Interface, "weft4097"},
		{"bridge elsewhere", *n.Endpoints[4].Bridge, plan.Bridge{Name: "br0", NetNS: "/run/netns/host"}},
		{"remote", n.Remotes[0], plan.Remote{Name: "c9", MAC: 0x02420a4d0009, Addresses: []netip.Addr{addr("10.77.0.9")}, VTEP: addr("192.0.2.2"), Names: dns.Names{Node: "b", Aliases: []string{"db"}}}},
		{"vteps", n.VTEPs, []netip.Addr{addr("192.0.2.9")}},
		{"address with its subnet's length", n.Prefix(addr("fd00:77::2")), prefix("fd00:77::2/64")},
		{"address outside", n.Prefix(addr("10.78.0.2")), netip.Prefix{}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %+v, expected %+v", c.what, c.got, c.want)
		}
	}
	small, err := Parse([]byte("node: a\nunderlay: {address: '2001:db8::1'}\n"))
	if err != nil || small.Underlay.Port != 4789 || small.Underlay.Checksum != vxlan.ChecksumAuto {
		t.Errorf("a file of two keys gave %+v, %v", small, err)
	}
}

// inNetwork puts lines into the one network of an otherwise sound file; the first of them is line 6.
func inNetwork(lines string) string {
	return "node: a\nunderlay: {address: 192.0.2.1}\nnetworks:\n  - name: net1\n    vni: 7\n" + indent(lines, 4)
}

// inEndpoints puts endpoints into that network; the first of them is line 8.
func inEndpoints(lines string) string {
	return inNetwork("subnets: [10.77.0.0/24, 'fd00:77::/64']\nendpoints:\n" + indent(lines, 2))
}

func indent(lines string, by int) string {
	return strings.ReplaceAll(strings.Repeat(" ", by)+lines, "\n", "\n"+strings.Repeat(" ", by)) + "\n"
}

func TestParseRefusesWithLineValueAndRemedy(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string // "line: part of the text", one for each fault
	}{
		{"an empty file", "", []string{"1: empty"}},
		{"a file of comments", "# nothing\n", []string{"1: "}},
		{"a brace that is not closed", "node: a\nunderlay: {address: 192.0.2.1\n", []string{"2: not YAML: did not find expected ',' or '}'"}},
		{"a tab as indentation", "node: a\nunderlay:\n\taddress: 192.0.2.1\n", []string{"3: not YAML: found character that cannot start any token"}},
		{"an indentation that fits nothing", "node: a\nunderlay:\n  port: 1\n address: 192.0.2.1\n", []string{"4: not YAML: did not find expected key"}},
		{"an alias of nothing", "node: a\nunderlay: *u\n", []string{"2: not YAML: unknown anchor 'u'"}},
		{"a list as the file", "- a\n", []string{"1: expected a mapping of node"}},
		{"two documents", "node: a\nunderlay: {address: 192.0.2.1}\n---\nnode: b\n", []string{"3: second YAML document"}},
		{"no node and no underlay", "threads: 1\n", []string{"1: node is missing", "1: underlay is missing"}},
		{"an unknown key", "node: a\nunderlay: {address: 192.0.2.1}\nthread: 1\n", []string{`3: unknown key "thread"; expected one of node, underlay, threads, networks; did you mean threads?`}},
		{"a key twice", "node: a\nnode: b\nunderlay: {address: 192.0.2.1}\n", []string{"2: node is given twice, first at line 1"}},
		{"a name with a space", "node: a b\nunderlay: {address: 192.0.2.1}\n", []string{`1: "a b" is not a name`}},
		{"a wrong port and checksum", "node: a\nunderlay:\n  address: 192.0.2.1\n  port: 65536\n  udp-checksum: maybe\n", []string{"4: 1 to 65535", "5: auto, on, off"}},
		{"an underlay that is no unicast address", "node: a\nunderlay: {address: 239.0.0.1}\n", []string{"2: unicast"}},
		{"an alias", "node: &x a\nunderlay: {address: *x}\n", []string{"2: aliases are not read"}},
		{"a network list that is a mapping", "node: a\nunderlay: {address: 192.0.2.1}\nnetworks: {a: 1}\n", []string{"3: expected a list of networks"}},
		{"text for a number", "node: a\nunderlay: {address: 192.0.2.1}\nthreads: many\n", []string{`3: "many"; expected a whole number`}},

		{"a network without anything", "node: a\nunderlay: {address: 192.0.2.1}\nnetworks:\n  - {}\n", []string{"4: networks[0]: name is missing", "4: vni is missing", "4: subnets is missing"}},
		{"VNI 0", "node: a\nunderlay: {address: 192.0.2.1}\nnetworks:\n  - {name: n, subnets: [10.0.0.0/24],\n     vni: 0}\n", []string{`5: network n: vni: "0"; expected a whole number from 1 to 16777215`}},
		{"a VNI of 25 bits", "node: a\nunderlay: {address: 192.0.2.1}\nnetworks:\n  - {name: n, subnets: [10.0.0.0/24], vni: 16777216}\n", []string{`4: "16777216"`}},
		{"a network and VNI twice", inNetwork("subnets: [10.77.0.0/24]") + "  - name: net1\n    vni: 7\n    subnets: [10.77.0.0/24]\n", []string{"7: net1 is listed twice; rename or merge one of them, first at line 4", "8: VNI 7 is used twice"}},
		{"host bits in a subnet", inNetwork("subnets:\n  - 10.77.0.1/24"), []string{"7: write 10.77.0.0/24"}},
		{"subnets without room", inNetwork("subnets: [10.77.0.0/31,\n 'fd00::/127']"), []string{"6: use a /30 or larger", "7: use a /126 or larger"}},
		{"overlapping subnets", inNetwork("subnets: [10.77.0.0/24, 10.77.0.128/25]"), []string{"6: overlaps 10.77.0.0/24"}},
		{"a multicast subnet", inNetwork("subnets: [224.0.0.0/24]"), []string{"6: no subnet for hosts"}},
		{"no subnet", inNetwork("subnets: []"), []string{"6: the list is empty"}},
		{"an address where a subnet belongs", inNetwork("subnets: [10.77.0.0]"), []string{`6: "10.77.0.0"; expected a subnet`}},
		{"a gateway outside", inNetwork("subnets: [10.77.0.0/24]\ngateways: [10.78.0.1]"), []string{"7: 10.78.0.1 is outside the subnets 10.77.0.0/24"}},
		{"two gateways in one subnet", inNetwork("subnets: [10.77.0.0/24]\ngateways: [10.77.0.1, 10.77.0.2]"), []string{"7: second one"}},
		{"a gateway that is the broadcast address", inNetwork("subnets: [10.77.0.0/24]\ngateways: [10.77.0.255]"), []string{"7: stands for the whole subnet"}},
		{"an MTU below IPv4's least", inNetwork("subnets: [10.77.0.0/24]\nmtu: 575"), []string{"7: from 576 to 65535"}},
		{"an MTU below IPv6's least", inNetwork("subnets: ['fd00::/64']\nmtu: 1279"), []string{"7: from 1280 to 65535"}},
		{"a word for spoof that is none", inNetwork("subnets: [10.77.0.0/24]\nspoof: yes"), []string{`7: "yes"; expected one of deny, allow`}},
		{"a word for egress that is none", inNetwork("subnets: [10.77.0.0/24]\negress: all"), []string{`7: network net1: egress: "all"; expected one of internet, full, none`}},
		{"an internal network with a way out", inNetwork("subnets: [10.77.0.0/24]\ninternal: true\negress: full"), []string{"8: network net1: egress: full, but internal is true; expected one of them"}},

		{"no place", inEndpoints("- {name: c, addresses: [10.77.0.2]}"), []string{"8: none of netns, pid and bridge"}},
		{"two places", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n,\n   pid: 1}"), []string{"9: netns and pid are given"}},
		{"a relative namespace", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: c1}"), []string{`8: "c1" is not an absolute path`}},
		{"process 0", inEndpoints("- {name: c, addresses: [10.77.0.2], pid: 0}"), []string{`8: pid: "0"; expected a whole number from 1`}},
		{"a bridge without name", inEndpoints("- {name: c, addresses: [10.77.0.2], bridge: {netns: /n}}"), []string{"8: bridge: name is missing"}},
		{"an interface name of 16 bytes", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n, interface: abcdefghijklmnop}"), []string{`8: "abcdefghijklmnop" is not an interface name`}},
		{"an interface name with a slash", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n, interface: eth/0}"), []string{`8: "eth/0" is not an interface name`}},
		{"one interface for two", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n}\n- {name: d, addresses: [10.77.0.3], netns: /n/}"), []string{"9: eth0 in /n is the interface of two endpoints; give one another interface:, first at line 8"}},
		{"an endpoint twice", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n}\n- {name: c, addresses: [10.77.0.3], netns: /m}"), []string{"9: endpoint c is listed twice"}},
		{"an address owned by two", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n}\n- {name: d, mac: '02:00:00:00:00:01', addresses: [10.77.0.2], netns: /m}"), []string{"9: 10.77.0.2 is owned by endpoint c already, at line 8"}},
		{"a MAC owned by two", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n}\n- {name: d, mac: '02:42:0a:4d:00:02', addresses: [10.77.0.3], netns: /m}"), []string{"9: 02:42:0a:4d:00:02 is owned by endpoint c already, at line 8"}},
		{"a group MAC", inEndpoints("- {name: c, mac: '03:42:0a:4d:00:02', addresses: [10.77.0.3], netns: /m}"), []string{"8: group address"}},
		{"a MAC of eight bytes", inEndpoints("- {name: c, mac: '02:42:0a:4d:00:02:00:00', addresses: [10.77.0.3], netns: /m}"), []string{"8: not an Ethernet address"}},
		{"an address outside", inEndpoints("- {name: c, netns: /m, addresses: [\n   10.78.0.3]}"), []string{"9: 10.78.0.3 is outside"}},
		{"an address equal to the default gateway", inEndpoints("- {name: c, addresses: [10.77.0.1], netns: /m}"), []string{"8: 10.77.0.1 is the gateway of 10.77.0.0/24"}},
		{"an address with a length", inEndpoints("- {name: c, addresses: [10.77.0.2/24], netns: /m}"), []string{"8: write 10.77.0.2"}},
		{"an address with a zone", inEndpoints("- {name: c, mac: '02:00:00:00:00:01', addresses: ['fe80::1%eth0'], netns: /m}"), []string{"8: has a zone"}},
		{"an IPv4 address in IPv6 form", inEndpoints("- {name: c, mac: '02:00:00:00:00:01', addresses: ['::ffff:10.77.0.2'], netns: /m}"), []string{"8: write 10.77.0.2"}},
		{"no address", inEndpoints("- {name: c, mac: '02:00:00:00:00:01', netns: /m}"), []string{"8: addresses is missing"}},
		{"IPv6 without a MAC", inEndpoints("- {name: c, addresses: ['fd00:77::2'], netns: /m}"), []string{"8: mac is missing, and there is no IPv4 address"}},
		{"too many queues", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /m, queues: 257}"), []string{"8: from 1 to 256"}},
		{"persistent as text", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /m, persistent: 'true'}"), []string{"8: without quotes"}},
		{"a route of two families", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /m, routes: [{to: 0.0.0.0/0, via: 'fd00:77::1'}]}"), []string{"8: another address family"}},
		{"a route's next hop outside", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /m, routes: [{to: 0.0.0.0/0, via: 10.78.0.1}]}"), []string{"8: expected a next hop on the network"}},
		{"a route twice", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /m, routes: [{to: 0.0.0.0/0, via: 10.77.0.1},\n    {to: 0.0.0.0/0, via: 10.77.0.9}]}"), []string{"9: 0.0.0.0/0 has two routes"}},
		{"a route without via", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /m, routes: [{to: 0.0.0.0/0}]}"), []string{"8: via is missing"}},
		{"routes behind a bridge", inEndpoints("- {name: c, addresses: [10.77.0.2], bridge: {name: b}, routes: [{to: 0.0.0.0/0, via: 10.77.0.1}]}"), []string{"8: remove the routes"}},
		{"two interfaces on one bridge", inEndpoints("- {name: c, addresses: [10.77.0.2], bridge: {name: b}}\n- {name: d, addresses: [10.77.0.3], bridge: {name: b}, interface: x}"), []string{"9: they share one port"}},
		{"other queues on one bridge", inEndpoints("- {name: c, addresses: [10.77.0.2], bridge: {name: b}}\n- {name: d, addresses: [10.77.0.3], bridge: {name: b}, queues: 2}"), []string{"9: queues and persistent differ"}},
		{"one bridge on two networks", inEndpoints("- {name: c, addresses: [10.77.0.2], bridge: {name: b}}") + "  - {name: net2, vni: 8, subnets: [10.77.0.0/24], endpoints: [{name: c, addresses: [10.77.0.2], bridge: {name: b}}]}\n", []string{"10: would join them"}},

		{"faulty names", inEndpoints("- name: c\n  addresses: [10.77.0.2]\n  netns: /n\n  hostname: a b\n  service: {}\n  aliases: [ok,\n    ok,\n    -x]"),
			[]string{`11: hostname: "a b" is not a name`, "12: service: a mapping; expected a name", "14: aliases: ok is listed twice", `15: aliases: "-x" is not a name`}},
		{"faulty ports", inEndpoints("- name: c\n  addresses: [10.77.0.2]\n  netns: /n\n  ports: [80,\n    0,\n    80/icmp,\n    1-64,\n    {}]"),
			[]string{`12: endpoint c: ports: port "0": a port is a number`, `13: unknown protocol "icmp"`, `14: "1-64" makes more than 64 ports`, "15: ports: a mapping; expected a port such as 80"}},
		{"ports of a remote", inNetwork("subnets: [10.77.0.0/24]\nremotes: [{name: r, addresses: [10.77.0.2], vtep: 192.0.2.2, ports: 80}]"), []string{`7: remote r: ports: "80"; expected a list of ports`}},
		{"a remote without VTEP", inNetwork("subnets: [10.77.0.0/24]\nremotes: [{name: r, addresses: [10.77.0.2]}]"), []string{"7: vtep is missing"}},
		{"a remote at this node", inNetwork("subnets: [10.77.0.0/24]\nremotes: [{name: r, addresses: [10.77.0.2], vtep: 192.0.2.1}]"), []string{"7: this node's own address"}},
		{"a remote in the other family", inNetwork("subnets: [10.77.0.0/24]\nremotes: [{name: r, addresses: [10.77.0.2], vtep: '2001:db8::2'}]"), []string{"7: another address family than the underlay's 192.0.2.1"}},
		{"a remote with an endpoint's address", inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n}") + "    remotes: [{name: r, mac: '02:00:00:00:00:01', addresses: [10.77.0.2], vtep: 192.0.2.2}]\n", []string{"10: 10.77.0.2 is owned by endpoint c already, at line 8"}},
		{"VTEPs: own, foreign and twice", inNetwork("subnets: [10.77.0.0/24]\nvteps:\n  - 192.0.2.1\n  - 2001:db8::1\n  - 192.0.2.3\n  - 192.0.2.3"), []string{"8: own address", "9: another address family", "11: listed twice; remove one, first at line 10"}},
		{"an unknown key inside a remote", inNetwork("subnets: [10.77.0.0/24]\nremotes: [{name: r, addresses: [10.77.0.2], vteps: 192.0.2.2}]"), []string{"7: did you mean vtep?", "7: vtep is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := Parse([]byte(c.file))
			var faults *Error
			if !errors.As(err, &faults) {
				t.Fatalf("gave %+v, %v; expected an *Error for\n%s", cfg, err, c.file)
			}
			if cfg != nil {
				t.Error("a file with faults gave a Config too")
			}
			if len(faults.Faults) != len(c.want) {
				t.Fatalf("%d faults, expected %d:\n%v\n%s", len(faults.Faults), len(c.want), err, c.file)
			}
			for i, f := range faults.Faults {
				line, part, _ := strings.Cut(c.want[i], ": ")
				if fmt.Sprint(f.Line) != line || !strings.Contains(f.Text, part) {
					t.Errorf("fault %d is %d: %s\nexpected %s\n%s", i, f.Line, f.Text, c.want[i], c.file)
				}
			}
		})
	}
}

func TestLoadNamesTheFileAtEachFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte("node: a\nthreads: -1\nunderlay: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	want := path + `:2: threads: "-1"; expected a whole number from 0 to 1024; 0 chooses by the number of cores` + "\n" +
		path + ":3: underlay: address is missing; name an address of this host that the other nodes reach"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nexpected\n%s", err, want)
	}
	if _, err := Load(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gave %v, expected os.ErrNotExist", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(inNetwork("subnets: [10.77.0.0/24]\nvteps:\n  - 192.0.2.1\n  - 2001:db8::1")))
	f.Add([]byte(inEndpoints("- {name: c, addresses: [10.77.0.2], bridge: {name: b}}\n- {name: d, addresses: [10.77.0.3], bridge: {name: b}, queues: 2}")))
	f.Add([]byte(inEndpoints("- {name: c, addresses: [10.77.0.2], netns: /n, aliases: [x], ports: [http=80, 1-70]}")))
	f.Add([]byte("node: &a a\nunderlay: *a\n<<: *a\n"))
	f.Add([]byte("networks: [{subnets: [::/1, 0.0.0.0/1, 255.255.255.252/30], gateways: [255.255.255.255]}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse(data)
		if err != nil {
			var faults *Error
			if !errors.As(err, &faults) || len(faults.Faults) == 0 {
				t.Fatalf("an error without faults: %v", err)
			}
			for _, f := range faults.Faults {
				if f.Line < 1 || f.Text == "" {
					t.Fatalf("a fault without line or text: %+v", f)
				}
			}
			return
		}
		holds(t, cfg)
	})
}

// holds checks what users of a Config rely on.
func holds(t *testing.T, cfg *plan.Config) {
	if cfg.Node == "" || !cfg.Underlay.Address.IsValid() || cfg.Underlay.Port == 0 {
		t.Fatalf("incomplete: %+v", cfg)
	}
	for _, n := range cfg.Networks {
		if n.VNI == 0 || n.VNI > vxlan.MaxVNI || len(n.Subnets) == 0 || len(n.Gateways) != len(n.Subnets) {
			t.Fatalf("incomplete network: %+v", n)
		}
		if n.Egress != plan.EgressInternet && n.Egress != plan.EgressFull && n.Egress != plan.EgressNone {
			t.Fatalf("network %s has egress %q", n.Name, n.Egress)
		}
		for i, p := range n.Subnets {
			if !p.Contains(n.Gateways[i]) {
				t.Fatalf("gateway %s is outside %s", n.Gateways[i], p)
			}
		}
		for _, e := range n.Endpoints {
			if err := endpoint.CheckPorts(e.Names.Ports); err != nil {
				t.Fatal(err)
			}
			if e.MAC == 0 || e.MAC.IsGroup() || e.Interface == "" || len(e.Interface) > 15 || e.Queues < 1 {
				t.Fatalf("incomplete endpoint: %+v", e)
			}
			for _, a := range e.Addresses {
				if !n.Prefix(a).IsValid() {
					t.Fatalf("address %s is outside %v", a, n.Subnets)
				}
			}
		}
		for _, r := range n.Remotes {
			if r.MAC == 0 || !r.VTEP.IsValid() || r.VTEP == cfg.Underlay.Address {
				t.Fatalf("incomplete remote: %+v", r)
			}
		}
	}
}

func ExampleParse() {
	_, err := Parse([]byte(`node: a
underlay: {address: 192.0.2.1}
networks:
  - name: net1
    vni: 4097
    subnets: [10.77.0.0/24]
    endpoints:
      - {name: c1, netns: /run/netns/c1, addresses: [10.77.0.1]}
      - {name: c2, netns: /run/netns/c1, addresses: [10.78.0.2]}
`))
	fmt.Println(err)
	// Output:
	// line 8: network net1: endpoint c1: addresses: 10.77.0.1 is the gateway of 10.77.0.0/24; choose another, or move the gateway with gateways:
	// line 9: network net1: endpoint c2: addresses: 10.78.0.2 is outside the network's subnets 10.77.0.0/24; choose an address inside
	// line 9: network net1: endpoint c2: interface: eth0 in /run/netns/c1 is the interface of two endpoints; give one another interface:, first at line 8
}
