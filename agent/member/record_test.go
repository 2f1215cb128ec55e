package member

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/dns"
)

func addrs(text ...string) (all []netip.Addr) {
	for _, s := range text {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestRecordIsReadBack(t *testing.T) {
	exposed, err := endpoint.ParsePorts([]string{"http=80", "8000-8003", "53/udp", "53"})
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint.Endpoint{
		ID: "1", Container: endpoint.Container{Name: "c1", Hostname: "h", Service: "s", Ports: exposed}, MAC: 0x02420a000002,
		Addresses: addrs("10.0.0.2", "fd00::2"), Aliases: []string{"db"}, Created: time.Unix(1e9, 0).UTC(),
	}
	b, err := encode(e)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decode(b)
	want := record{"c1", "h", "s", e.MAC, e.Addresses, e.Aliases, exposed, e.Created}
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v, %v; expected %+v", r, err, want)
	}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func TestExposedPortsTakeLittleRoom(t *testing.T) {
	for _, c := range []struct {
		specs []string
		want  string
	}{
		{nil, ""},
		{[]string{"80"}, "80"},
		{[]string{"HTTP=80", "53/udp", "53"}, "http=80,53/udp,53"},
		{[]string{"8000-8062", "9/sctp"}, "8000-8062,9/sctp"},
		{[]string{"65534-65535", "1"}, "65534-65535,1"},
		{[]string{"a=1", "b=2", "b=3/udp", "b=4/udp"}, "a=1,b=2,b=3-4/udp"},
	} {
		all, err := endpoint.ParsePorts(c.specs)
		if err != nil {
			t.Fatal(err)
		}
		text, err := ports(all).MarshalText()
		if err != nil || string(text) != c.want {
			t.Errorf("%v: %q, %v; expected %q", c.specs, text, err, c.want)
		}
		back := ports{{Number: 1}}
		if err := back.UnmarshalText(text); err != nil || !reflect.DeepEqual([]dns.Port(back), all) {
			t.Errorf("%q is read as %v, %v; expected %v", text, back, err, all)
		}
	}
}

func TestFaultyRecordsAreRefused(t *testing.T) {
	for text, part := range map[string]string{
		`{`: "unexpected end",
		`{"m":"02:42:0a:00:00:02","a":["10.0.0.2"]}`:                    "names",
		`{"n":"c\u001b[2J","m":"02:42:0a:00:00:02","a":["10.0.0.2"]}`:   "names",
		`{"n":"c","l":[" "],"m":"02:42:0a:00:00:02","a":["10.0.0.2"]}`:  "names",
		`{"n":"c","m":"01:42:0a:00:00:02","a":["10.0.0.2"]}`:            "MAC",
		`{"n":"c","m":"02:42:0a:00:00:02"}`:                             "no addresses",
		`{"n":"c","m":"02:42:0a:00:00:02","a":["10.0.0.2"],"p":"0"}`:    "port",
		`{"n":"c","m":"02:42:0a:00:00:02","a":["10.0.0.2"],"p":"1-99"}`: "more than 64",
		`{"n":"c","m":"02:42:0a:00:00:02","a":["10.0.0.2"],"p":["80"]}`: "cannot unmarshal",
		`{"n":"c","m":"02:42:0a:00:00:02","a":["10.0.0"]}`:              "10.0.0",
	} {
		if _, err := decode([]byte(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, expected %q", text, err, part)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"n":"c","m":"02:42:0a:00:00:02","a":["10.0.0.2"],"p":"http=80,8000-8003/udp"}`))
	f.Add([]byte(`{"n":"c","m":"02:42:0a:00:00:02","a":["10.0.0.2"],"c":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err == nil && endpoint.CheckPorts(r.Ports) != nil {
			t.Errorf("accepted ports %v", r.Ports)
		}
		if err == nil && (r.Name == "" || r.MAC == 0 || r.MAC.IsGroup() || len(r.Addresses) == 0) {
			t.Errorf("accepted %+v", r)
		}
	})
}

func TestAddressOutsideTheLeaseIsNamed(t *testing.T) {
	lease := &state.Lease{Addresses: addrs("10.0.0.2", "10.0.0.3", "fd00::3")}
	for _, c := range []struct {
		lease *state.Lease
		addrs []netip.Addr
		bad   string
	}{
		{lease, addrs("10.0.0.3", "fd00::3"), ""},
		{lease, addrs("10.0.0.2", "10.0.0.4"), "10.0.0.4"},
		{nil, addrs("10.0.0.2"), "10.0.0.2"},
		{nil, nil, ""},
	} {
		bad, ok := within(c.lease, c.addrs)
		if ok != (c.bad == "") || !ok && bad.String() != c.bad {
			t.Errorf("%v within %v: %v, %v; expected %q", c.addrs, c.lease, bad, ok, c.bad)
		}
	}
}

func TestMACIsByRightIfItFollowsFromTheAddress(t *testing.T) {
	r := record{MAC: 0x02420a000002, Addresses: addrs("10.0.0.2", "fd00::9")}
	if !r.byRight() {
		t.Errorf("%s of %v is by wish", r.MAC, r.Addresses)
	}
	if r.MAC++; r.byRight() {
		t.Errorf("%s of %v is by right", r.MAC, r.Addresses)
	}
}

func TestMACFollowsFromTheAddress(t *testing.T) {
	for addr, want := range map[string]string{"10.0.0.2": "02:42:0a:00:00:02", "fd00::1:2": "02:42:00:01:00:02"} {
		if got := macOf(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s gives %s, expected %s", addr, got, want)
		}
	}
}
