// Package etc writes the files of /etc that a container has in the place of its host's: whom it asks for names, and its own.
//
//	resolv.conf (resolv.conf(5))          hosts (hosts(5))
//	   nameserver 10.0.1.1    gateway        127.0.0.1  localhost
//	   search example.org     host's         ::1        localhost ip6-localhost ip6-loopback
//	   options ndots:0                       10.0.1.2   db.example db-1      its own
//	                                         192.0.2.1  build                --add-host
package etc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Resolv is what a user wants of a container's resolv.conf. The zero Resolv wants nothing.
type Resolv struct {
	Servers []netip.Addr `json:"servers,omitempty"` // in the place of the gateway, which then is not asked
	Search  []string     `json:"search,omitempty"`  // domains; empty: the host's; a single dot: none
	Options []string     `json:"options,omitempty"`
}

// MaxServers is how many name servers C libraries take (glibc's and musl's MAXNS).
const MaxServers = 3

// Check says what in r no resolv.conf can hold.
func (r Resolv) Check() error {
	if len(r.Servers) > MaxServers {
		return fmt.Errorf("%d name servers; expected at most %d, which is as many as programs ask", len(r.Servers), MaxServers)
	}
	for _, s := range r.Servers {
		if !s.IsValid() || s.IsUnspecified() || s.IsMulticast() {
			return fmt.Errorf("name server %s; expected the address of one, such as 192.0.2.53", s)
		}
	}
	for _, d := range r.Search {
		if d == "." && len(r.Search) > 1 {
			return fmt.Errorf("search domain %q beside others; expected it alone, for none", d)
		}
		if d == "" || len(d) > 254 || !word(d) || d[0] == '#' || d[0] == ';' {
			return fmt.Errorf("search domain %.64q; expected one such as example.org, or . for none", d)
		}
	}
	for _, o := range r.Options {
		if o == "" || len(o) > 64 || !word(o) {
			return fmt.Errorf("option %.64q; expected a word of resolv.conf(5), such as timeout:2", o)
		}
	}
	return nil
}

// word reports whether s is a single word of ASCII.
func word(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// Text is the container's resolv.conf, given the gateway that it asks (see Server) and the host's own resolv.conf. Without either a gateway
// or name servers it is the host's.
func (r Resolv) Text(gateway netip.Addr, host string) string {
	servers, options := r.Servers, r.Options
	if len(servers) == 0 {
		if !gateway.IsValid() {
			return host
		}
		servers = []netip.Addr{gateway}
		// Names of containers have no dots, or one: they are names as they stand, before the search domains are tried.
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append([]string{"ndots:0"}, options...)
		}
	}
	search := r.Search
	if len(search) == 0 {
		search = searched(host)
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && !slices.Equal(search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}

// searched returns the search domains of a resolv.conf: of the search and domain lines the last one holds.
func searched(conf string) (domains []string) {
	for line := range strings.Lines(conf) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "search" && words[0] != "domain" {
			continue
		}
		domains = slices.DeleteFunc(words[1:], func(d string) bool { return d == "." || !word(d) })
	}
	return domains
}

// Server returns the gateway that a container asks, given those of each of its networks in order; the zero address if there is none. All
// of them give the same answers, and programs like musl's ask each server that is listed: so it is one, of the first network that has
// any, and IPv4's if there is one, as there are programs that know no other.
func Server(networks ...[]netip.Addr) netip.Addr {
	for _, gateways := range networks {
		if i := slices.IndexFunc(gateways, netip.Addr.Is4); i >= 0 {
			return gateways[i]
		}
		if len(gateways) > 0 {
			return gateways[0]
		}
	}
	return netip.Addr{}
}
