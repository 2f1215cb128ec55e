package main

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/stack/frame"
)

func TestAttachmentsAreRead(t *testing.T) {
	mac := frame.MAC(0x02420a000109)
	for text, want := range map[string]api.Attachment{
		"web":                          {Network: "web"},
		"web:ip=10.0.1.9":              {Network: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.9")}},
		"web:ip=fd00::9":               {Network: "web", Addresses: []netip.Addr{netip.MustParseAddr("fd00::9")}},
		"web:ip=10.0.1.9,ip6=fd00::9":  {Network: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.9"), netip.MustParseAddr("fd00::9")}},
		"web:alias=a,alias=b":          {Network: "web", Aliases: []string{"a", "b"}},
		"w:mac=02:42:0a:00:01:09":      {Network: "w", MAC: &mac},
		"w:ifname=lan0,alias=db.local": {Network: "w", Interface: "lan0", Aliases: []string{"db.local"}},
	} {
		if got, err := parseAttachment(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %+v, %v; expected %+v", text, got, err, want)
		}
	}
}

func TestFaultyAttachmentsAreRefusedWithAReason(t *testing.T) {
	for text, part := range map[string]string{
		"":                                   "expected NET",
		":ip=10.0.0.1":                       "expected NET",
		"a b":                                "expected NET",
		"web:":                               "expected ip=ADDRESS",
		"web:ip":                             `"ip"; expected ip=ADDRESS`,
		"web:ip=":                            "expected ip=ADDRESS",
		"web:ip=10.0.0":                      `ip "10.0.0"; expected an address`,
		"web:ip=fe80::1%eth0":                "expected an address",
		"web:ip6=10.0.0.1":                   "such as fd00::9",
		"web:ip=10.0.0.1,ip=10.0.0.2":        "at most one address of each family",
		"web:mac=01:00:5e:00:00:01":          "one station",
		"web:mac=nonsense":                   "Ethernet address",
		"web:ifname=a/b":                     "up to 15 characters",
		"web:ifname=sixteencharacter":        "up to 15 characters",
		"web:port=80":                        `unknown key "port"`,
		"web:alias=a:b":                      `alias "a:b"`,
		"web:ip=10.0.0.1,":                   "expected ip=ADDRESS",
		"web:mac=02:0:0:0:0:1,mac=02:0:0:0:": "Ethernet address",
	} {
		if got, err := parseAttachment(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q gave %+v, %v; expected %q", text, got, err, part)
		}
	}
}

// written is the inverse of parseAttachment.
func written(a api.Attachment) string {
	var options []string
	for _, addr := range a.Addresses {
		options = append(options, "ip="+addr.String())
	}
	for _, alias := range a.Aliases {
		options = append(options, "alias="+alias)
	}
	if a.MAC != nil {
		options = append(options, fmt.Sprint("mac=", a.MAC))
	}
	if a.Interface != "" {
		options = append(options, "ifname="+a.Interface)
	}
	if len(options) == 0 {
		return a.Network
	}
	return a.Network + ":" + strings.Join(options, ",")
}

func FuzzParseAttachment(f *testing.F) {
	f.Add("web")
	f.Add("web:ip=10.0.1.9,ip6=fd00::9,alias=db,alias=x,mac=02:42:0a:00:01:09,ifname=lan0")
	f.Add("web:ip=::ffff:10.0.0.1")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAttachment(text)
		if err != nil {
			return
		}
		if again, err := parseAttachment(written(a)); err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%q is %+v, but %q gives %+v, %v", text, a, written(a), again, err)
		}
	})
}
