package object_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/agent/api/object"
	"github.com/weftnet/weft/stack/frame"
)

type part struct {
	Addresses []netip.Addr `json:"addresses,omitempty"`
	MAC       *frame.MAC   `json:"mac,omitempty"`
}

type whole struct {
	Name   string            `json:"name"`
	Count  int               `json:"count,omitempty"`
	On     bool              `json:"on,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Parts  []part            `json:"parts,omitempty"`
	Octets []byte            `json:"octets,omitempty"`
}

func Example() {
	var v struct {
		Networks []part `json:"networks"`
	}
	fmt.Println(object.Decode([]byte(`{"networks": [{"addresses": ["10.0.1.300"]}]}`), &v))
	// Output: field "networks[0].addresses[0]" is "10.0.1.300"; expected an address such as "10.0.1.9"
}

func TestWhatIsRightIsRead(t *testing.T) {
	mac := frame.MAC(0x02420a000109)
	for text, want := range map[string]whole{
		`{}`:                     {},
		`{"name":"a","on":true}`: {Name: "a", On: true},
		`{"count":null,"parts":null,"labels":null}`:                         {},
		`{"count":-3,"octets":"AAEC","labels":{"k":"v"}}`:                   {Count: -3, Octets: []byte{0, 1, 2}, Labels: map[string]string{"k": "v"}},
		` {"parts":[{"addresses":["10.0.0.1"],"mac":"02:42:0a:00:01:09"}]}`: {Parts: []part{{[]netip.Addr{netip.MustParseAddr("10.0.0.1")}, &mac}}},
	} {
		var got whole
		if err := object.Decode([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v (%v), expected %+v", text, got, err, want)
		}
	}
}

func TestWhatIsWrongIsNamedWithItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		``:                                  "the body is empty; expected a JSON object",
		`{`:                                 "the body is no JSON",
		`{} {}`:                             "the body is no JSON",
		`[]`:                                "the body is []; expected a JSON object",
		`null`:                              "the body is null; expected a JSON object",
		`{"Name":"a"}`:                      `unknown field "Name"; expected count, labels, name, octets, on, parts`,
		`{"name":7}`:                        `field "name" is 7; expected a string`,
		`{"on":"yes"}`:                      `field "on" is "yes"; expected true or false`,
		`{"count":1e3}`:                     `field "count" is 1e3; expected a whole number`,
		`{"octets":"?"}`:                    `field "octets" is "?"; expected octets in base64`,
		`{"labels":{"a":{}}}`:               `field "labels.a" is {}; expected a string`,
		`{"parts":{}}`:                      `field "parts" is {}; expected a list`,
		`{"parts":[7]}`:                     `field "parts[0]" is 7; expected an object`,
		`{"parts":[{},{"mac":"x"}]}`:        `field "parts[1].mac" is "x"; expected an Ethernet address`,
		`{"parts":[{"addresses":["a",1]}]}`: `field "parts[0].addresses[0]" is "a"; expected an address`,
		`{"parts":[{"x":1}]}`:               `unknown field "parts[0].x"; expected addresses, mac`,
		`{"count":"` + strings.Repeat("9", 100) + `"}`: strings.Repeat("9", 59) + "...; expected a whole number",
	} {
		if err := object.Decode([]byte(text), new(whole)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","count":1,"on":true,"labels":{"k":"v"},"parts":[{"addresses":["10.0.0.1"],"mac":"02:42:0a:00:00:01"}],"octets":"AAEC"}`))
	f.Add([]byte(`{"parts":[null,{}]}`))
	f.Add([]byte(`[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, usual whole
		if object.Decode(b, &got) != nil {
			return
		}
		if err := json.Unmarshal(b, &usual); err != nil {
			t.Fatalf("%q is taken as %+v, and encoding/json refuses it: %v", b, got, err)
		}
	})
}
