package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/stack/frame"
)

// parseAttachment reads a wish for one network, as --network of weft run and weft attach takes it:
//
//	NET[:KEY=VALUE[,KEY=VALUE]...]      web:ip=10.0.1.9,alias=db,alias=cache
//
// The keys are ip (an address of either family), ip6, alias, mac and ifname; alias may come more than once, ip once for
// each family.
func parseAttachment(s string) (api.Attachment, error) {
	network, options, given := strings.Cut(s, ":")
	a := api.Attachment{Network: network}
	if network == "" || strings.ContainsAny(network, "/,= \t\n") {
		return a, fmt.Errorf("network %q; expected NET, or NET:ip=ADDRESS,alias=NAME and so on", s)
	}
	if !given {
		return a, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if err := setAttachment(&a, key, value); err != nil {
			return a, fmt.Errorf("network %q: %w", s, err)
		}
	}
	return a, nil
}

func setAttachment(a *api.Attachment, key, value string) error {
	if value == "" {
		return fmt.Errorf("%q; expected ip=ADDRESS, ip6=ADDRESS, alias=NAME, mac=MAC or ifname=NAME", key)
	}
	switch key {
	case "ip", "ip6":
		return addAddress(a, key, value)
	case "alias":
		if strings.ContainsAny(value, "/:= \t\n") {
			return fmt.Errorf("alias %q; expected a name of letters, digits, dots, - and _", value)
		}
		a.Aliases = append(a.Aliases, value)
	case "mac":
		mac, err := frame.ParseMAC(value)
		if err != nil {
			return fmt.Errorf("mac %w", err)
		}
		if mac.IsGroup() || mac == 0 || a.MAC != nil {
			return fmt.Errorf("mac %s; expected the address of one station, once", value)
		}
		a.MAC = &mac
	case "ifname":
		if a.Interface != "" || !deviceName(value) {
			return fmt.Errorf("ifname %q; expected up to 15 characters without / : and spaces, once", value)
		}
		a.Interface = value
	default:
		return fmt.Errorf("unknown key %q; expected ip, ip6, alias, mac or ifname", key)
	}
	return nil
}

// addAddress adds an address, of which an endpoint has at most one in each family.
func addAddress(a *api.Attachment, key, value string) error {
	addr, err := netip.ParseAddr(value)
	if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified() || addr.IsMulticast() || key == "ip6" && addr.Is4() {
		like := "10.0.1.9"
		if key == "ip6" {
			like = "fd00::9"
		}
		return fmt.Errorf("%s %q; expected an address such as %s", key, value, like)
	}
	for _, other := range a.Addresses {
		if other.Is4() == addr.Is4() {
			return fmt.Errorf("%s %s beside %s; expected at most one address of each family", key, addr, other)
		}
	}
	a.Addresses = append(a.Addresses, addr)
	return nil
}

// deviceName reports whether the kernel takes s as the name of an interface (net/core/dev.c, dev_valid_name).
func deviceName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/:, \t\n\v\f\r")
}
