package etc

import (
	"fmt"
	"net/netip"
	"strings"
)

// Host is a name that a container's hosts file shall have besides the container's own.
type Host struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// Gateway stands for the address of the container's node in what ParseHost reads, as in Docker.
const Gateway = "host-gateway"

// ParseHost reads NAME:ADDRESS or NAME=ADDRESS, as docker run --add-host. The address may be in brackets. For Gateway it is the zero
// address, and gateway is true.
func ParseHost(s string) (h Host, gateway bool, err error) {
	wrong := func(what string) error {
		return fmt.Errorf("host %q: %s; expected NAME:ADDRESS, such as build:192.0.2.9, or NAME:%s for this node's own", s, what, Gateway)
	}
	i := strings.IndexAny(s, ":=")
	if i < 0 {
		return h, false, wrong("there is no address")
	}
	name, text := s[:i], s[i+1:]
	if name == "" || len(name) > 253 || !word(name) || strings.ContainsAny(name, "#/[]") {
		return h, false, wrong("no name for a host")
	}
	if text == Gateway {
		return Host{Name: name}, true, nil
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			text = inner
		}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return h, false, wrong(fmt.Sprintf("%q is no address", text))
	}
	return Host{name, a}, false, nil
}

// Hosts is the text of the hosts file of a container with these names and addresses.
func Hosts(names []string, own []netip.Addr, more []Host) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	if len(own) == 0 {
		own = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 1, 1})} // as Debian has it
	}
	for _, a := range own {
		fmt.Fprintf(&b, "%s\t%s\n", a, strings.Join(names, " "))
	}
	for _, h := range more {
		fmt.Fprintf(&b, "%s\t%s\n", h.Address, h.Name)
	}
	return b.String()
}

// Names are those of a container in its hosts file: its host name, and its own if that is another.
func Names(hostname, name string) []string {
	switch hostname {
	case "", name:
		return []string{name}
	}
	return []string{hostname, name}
}
