package upstream

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Conf is what a resolv.conf(5) says.
type Conf struct {
	Servers  []netip.AddrPort
	Search   []string      // from search or domain, whichever comes last
	NDots    int           // 0: not said, or 0
	Timeout  time.Duration // for one server before the next one is asked; 0: not said
	Attempts int           // how often each server is asked; 0: not said
	Rotate   bool          // each question begins with another server
	TCP      bool          // use-vc: UDP is not tried
	TrustAD  bool          // trust-ad: the servers, and the way to them, are believed when they say that DNSSEC vouches for an answer
}

// Bounds of what is taken from a file. Those of the options are glibc's (resolv.h).
const (
	maxServers  = 8
	maxSearch   = 32
	maxNDots    = 15
	maxTimeout  = 30
	maxAttempts = 5
	maxName     = 253
)

const port = 53

// Parse reads a resolv.conf. What it cannot make sense of it skips, as every resolver does: a line of nonsense must not cost the names.
func Parse(text []byte) Conf {
	var c Conf
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 2 || f[0][0] == '#' || f[0][0] == ';' {
			continue
		}
		switch f[0] {
		case "nameserver":
			c.server(f[1])
		case "domain":
			c.search(f[1:2])
		case "search":
			c.search(f[1:])
		case "options":
			for _, o := range f[1:] {
				c.option(o)
			}
		}
	}
	return c
}

func (c *Conf) server(s string) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsMulticast() || len(c.Servers) == maxServers {
		return
	}
	if at := netip.AddrPortFrom(a.Unmap(), port); !slices.Contains(c.Servers, at) {
		c.Servers = append(c.Servers, at)
	}
}

// search replaces the list: the last line counts. A comment may end it.
func (c *Conf) search(names []string) {
	c.Search = nil
	for _, n := range names {
		if n[0] == '#' || n[0] == ';' || len(c.Search) == maxSearch {
			return
		}
		if n = strings.TrimSuffix(n, "."); plain(n) { // the root, as systemd-resolved writes it, is nothing to search in
			c.Search = append(c.Search, n)
		}
	}
}

// plain reports whether a name can be written into another resolv.conf as it is.
func plain(name string) bool {
	if name == "" || len(name) > maxName || strings.HasSuffix(name, ".") || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return false
	}
	_, ok := dns.IsDomainName(name)
	return ok
}

func (c *Conf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.ParseUint(value, 10, 16)
	number := func(most int) int { return min(int(n), most) }
	switch {
	case o == "rotate":
		c.Rotate = true
	case o == "use-vc" || o == "usevc":
		c.TCP = true
	case o == "trust-ad":
		c.TrustAD = true
	case err != nil:
	case name == "ndots":
		c.NDots = number(maxNDots)
	case name == "timeout":
		c.Timeout = time.Duration(number(maxTimeout)) * time.Second
	case name == "attempts":
		c.Attempts = number(maxAttempts)
	}
}

// asks reports whether two files have the same servers asked in the same way.
func (c *Conf) asks(o *Conf) bool {
	return slices.Equal(c.Servers, o.Servers) && c.Timeout == o.Timeout && c.Attempts == o.Attempts &&
		c.Rotate == o.Rotate && c.TCP == o.TCP && c.TrustAD == o.TrustAD
}

// ParseServer reads a name server as people write it: 192.0.2.1, 192.0.2.1:5353, 2001:db8::1, [2001:db8::1]:5353, fe80::1%eth0.
func ParseServer(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("upstream: %q is no name server: expected an address, with a port or without: 192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:5353", s)
		}
		at = netip.AddrPortFrom(a, port)
	}
	switch a := at.Addr().Unmap(); {
	case at.Port() == 0:
		return netip.AddrPort{}, fmt.Errorf("upstream: name server %q has port 0: expected one of 1 to 65535, or none, which is %d", s, port)
	case a.IsMulticast(), a.IsUnspecified():
		return netip.AddrPort{}, fmt.Errorf("upstream: name server %q is no address of one host: expected such", s)
	default:
		return netip.AddrPortFrom(a, at.Port()), nil
	}
}
