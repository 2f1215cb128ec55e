package endpoint

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/dns"
)

func TestExposedPortsAreReadAsDockersAre(t *testing.T) {
	for _, c := range []struct {
		specs []string
		want  []dns.Port
	}{
		{nil, nil},
		{[]string{"80"}, []dns.Port{{Number: 80, Protocol: "tcp"}}},
		{[]string{"53/udp", "53"}, []dns.Port{{Number: 53, Protocol: "udp"}, {Number: 53, Protocol: "tcp"}}},
		{[]string{"8000-8002/SCTP"}, []dns.Port{{Number: 8000, Protocol: "sctp"}, {Number: 8001, Protocol: "sctp"}, {Number: 8002, Protocol: "sctp"}}},
		{[]string{"http=8080"}, []dns.Port{{Name: "http", Number: 8080, Protocol: "tcp"}}},
		{[]string{"X-1=65535/tcp"}, []dns.Port{{Name: "x-1", Number: 65535, Protocol: "tcp"}}},
		{[]string{"80", "79-81", "http=80"}, []dns.Port{{Number: 80, Protocol: "tcp"}, {Number: 79, Protocol: "tcp"}, {Number: 81, Protocol: "tcp"}, {Name: "http", Number: 80, Protocol: "tcp"}}},
	} {
		if got, err := ParsePorts(c.specs); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v; expected %+v", c.specs, got, err, c.want)
		}
	}
}

func TestFaultyPortsAreRefusedWithTheForm(t *testing.T) {
	for spec, want := range map[string]string{
		"":                    "number from 1 to 65535",
		"0":                   "number from 1 to 65535",
		"65536":               "number from 1 to 65535",
		"+80":                 "number from 1 to 65535",
		" 80":                 "number from 1 to 65535",
		"80-":                 "number from 1 to 65535",
		"-80":                 "number from 1 to 65535",
		"80-79":               "ends before it begins",
		"80/icmp":             `unknown protocol "icmp"`,
		"80/":                 `unknown protocol ""`,
		"80/tcp/udp":          `unknown protocol "tcp/udp"`,
		"=80":                 `"" is no service's name`,
		"7=80":                `"7" is no service's name`,
		"-a=80":               "no service's name",
		"a-=80":               "no service's name",
		"a--b=80":             "no service's name",
		"a_b=80":              "no service's name",
		"sixteenlettersxx=80": "no service's name",
		"é=80":                "no service's name",
	} {
		if got, err := ParsePorts([]string{spec}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "expected [NAME=]PORT[-PORT]") {
			t.Errorf("%q: %+v, %v; expected %q and the form", spec, got, err, want)
		}
	}
}

func TestPortsOfOneContainerAreBounded(t *testing.T) {
	if all, err := ParsePorts([]string{"1-64", "1-64", "60"}); err != nil || len(all) != MaxPorts || CheckPorts(all) != nil {
		t.Errorf("64 ports, some twice: %d, %v", len(all), err)
	}
	for _, specs := range [][]string{{"1-65"}, {"1-65535"}, {"1-64", "65"}, {"1-64", "http=1"}} {
		if _, err := ParsePorts(specs); err == nil || !strings.Contains(err.Error(), "more than 64 ports") {
			t.Errorf("%q: %v", specs, err)
		}
	}
	if err := CheckPorts(make([]dns.Port, MaxPorts+1)); err == nil || !strings.Contains(err.Error(), "65 exposed ports; expected at most 64") {
		t.Errorf("65 of others: %v", err)
	}
}

func TestPortsThatOthersTellAreChecked(t *testing.T) {
	for _, c := range []struct {
		port dns.Port
		want string // none: it is sound
	}{
		{dns.Port{Number: 80, Protocol: "tcp"}, ""},
		{dns.Port{Name: "http", Number: 65535, Protocol: "sctp"}, ""},
		{dns.Port{Protocol: "tcp"}, "has no number"},
		{dns.Port{Number: 80}, "protocol"},
		{dns.Port{Number: 80, Protocol: "TCP"}, "protocol"},
		{dns.Port{Number: 80, Protocol: "tcp", Name: "a.b"}, `name "a.b"`},
		{dns.Port{Number: 80, Protocol: "tcp", Name: "\x1b[2J"}, "name"},
	} {
		err := CheckPorts([]dns.Port{c.port})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, expected %q", c.port, err, c.want)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"80", "http=8000-8010/udp", "53/UDP", "a=1-70", "-", "=/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		all, err := ParsePorts([]string{spec})
		if err != nil {
			return
		}
		if err := CheckPorts(all); err != nil {
			t.Fatalf("%q is taken, but not what it makes: %v", spec, err)
		}
		var written []string
		for _, p := range all {
			s := fmt.Sprintf("%d/%s", p.Number, p.Protocol)
			if p.Name != "" {
				s = p.Name + "=" + s
			}
			written = append(written, s)
		}
		if again, err := ParsePorts(written); err != nil || !reflect.DeepEqual(again, all) {
			t.Fatalf("%q is %+v, but %q is %+v, %v", spec, all, written, again, err)
		}
	})
}

func ExampleParsePorts() {
	ports, err := ParsePorts([]string{"http=8080", "53/udp"})
	fmt.Printf("%+v %v\n", ports, err)
	// Output: [{Name:http Number:8080 Protocol:tcp} {Name: Number:53 Protocol:udp}] <nil>
}
