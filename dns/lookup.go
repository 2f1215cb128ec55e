package dns

import (
	"bytes"
	"net/netip"
	"strings"

	mdns "github.com/miekg/dns"
)

// Codes of RFC 1035 §4.1.1 and RFC 6891 §9.
const (
	rcodeSuccess        = mdns.RcodeSuccess
	rcodeFormatError    = mdns.RcodeFormatError
	rcodeServerFailure  = mdns.RcodeServerFailure
	rcodeNXDomain       = mdns.RcodeNameError
	rcodeNotImplemented = mdns.RcodeNotImplemented
	rcodeRefused        = mdns.RcodeRefused
	rcodeBadVersion     = mdns.RcodeBadVers
)

// result is what a zone decides on a question. The rcode is Success for all names that exist.
type result struct {
	rule    rule
	rcode   int
	network *network
	entry   *entry  // for A, AAAA and SRV
	member  *member // for PTR
	port    []byte  // for SRV: what of the entry's members; a part of the question's key
	proto   []byte
	zone    int  // where in the key the name of the SOA's owner starts; the key's length for the root
	apex    bool // the SOA is what the name has
}

// member of localhost; it has no network.
var (
	loopbackV4      = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	localhostEntry  = single(&member{name: "localhost"}, "localhost", []netip.Addr{loopbackV4, netip.IPv6Loopback()})
	localhostMember = localhostEntry.sources[0].member
)

// parent returns where the name above the key's starts.
func parent(key []byte) int {
	if i := bytes.IndexByte(key, '.'); i >= 0 {
		return i + 1
	}
	return len(key)
}

// under returns what stands before a suffix and its dot.
func under(key []byte, suffix string) (rest []byte, ok bool) {
	n := len(key) - len(suffix)
	if n < 1 || key[n-1] != '.' || string(key[n:]) != suffix {
		return nil, false
	}
	return key[:n-1], true
}

// resolve decides on a question. The key is its name in lower case, with dots between labels and none at its end.
func (z *Zone) resolve(a *asker, key []byte, qtype uint16) result {
	if len(key) == 0 {
		return z.forward(a)
	}
	if string(key) == z.domain {
		return result{rule: ruleApex, apex: true}
	}
	if rest, ok := under(key, z.domain); ok {
		return z.inDomain(a, rest)
	}
	if _, ok := under(key, "localhost"); ok || string(key) == "localhost" {
		return result{rule: ruleLocalhost, entry: localhostEntry, zone: parent(key)}
	}
	if r, ok := z.reverse(a, key); ok {
		return r
	}
	r, base := a.find(key)
	r.zone = parent(key)
	switch {
	case r.rule != ruleForward:
		return r
	case z.claimed(base):
		r.rule, r.rcode = ruleClaimed, rcodeNXDomain
		return r
	case bytes.IndexByte(base, '.') >= 0:
		return z.forward(a)
	case len(base) == len(key) && ofTop(qtype) && !z.known(base):
		return z.forward(a)
	}
	r.rule, r.rcode = ruleDotless, rcodeNXDomain
	return r
}

// inDomain decides on a name under the domain: rest is what stands before it.
func (z *Zone) inDomain(a *asker, rest []byte) result {
	if string(rest) == asHost {
		return result{rule: ruleHost, entry: z.host, zone: len(rest) + 1}
	}
	r, _ := a.find(rest)
	if r.rule == ruleForward {
		r.rule, r.rcode = ruleUnknown, rcodeNXDomain
	}
	r.zone = len(rest) + 1
	return r
}

// forward has others asked, where the asker may reach them.
func (z *Zone) forward(a *asker) result {
	if a.internal {
		return result{rule: ruleInternal, rcode: rcodeRefused}
	}
	return result{rule: ruleForward}
}

// ofTop reports whether a type is one that validating resolvers ask of top-level domains.
func ofTop(qtype uint16) bool {
	switch qtype {
	case mdns.TypeNS, mdns.TypeSOA, mdns.TypeDS, mdns.TypeDNSKEY:
		return true
	}
	return false
}

// known reports whether any network has a name without a dot, or is called so.
func (z *Zone) known(name []byte) bool {
	for _, n := range z.networks {
		if n.names[string(name)] != nil || !n.public && n.folded == string(name) {
			return true
		}
	}
	return false
}

// claimed reports whether a name is kept from the outside though the asker's networks do not have it.
func (z *Zone) claimed(name []byte) bool {
	if _, ok := z.private[string(name)]; ok {
		return true
	}
	for i, c := range name {
		if c == '.' {
			if _, ok := z.claims[string(name[i+1:])]; ok {
				return true
			}
		}
	}
	return false
}

// find looks a name up on the asker's networks, as a name of a service's port too. If nothing is found the rule is ruleForward,
// and base is the name without the labels of a port.
func (a *asker) find(key []byte) (r result, base []byte) {
	port, proto, base := cutPort(key)
	if proto == nil {
		return a.named(key), key
	}
	r = a.named(base)
	if r.entry == nil {
		return r, base
	}
	if port == nil {
		return result{rule: ruleApex, network: r.network}, base
	}
	r.rule, r.port, r.proto = ruleService, port, proto
	for _, s := range r.entry.sources {
		if _, ok := s.exposes(port, proto); ok {
			return r, base
		}
	}
	r.rcode = rcodeNXDomain
	return r, base
}

// named looks up a name that says its network, and then one that does not.
func (a *asker) named(key []byte) (r result) {
	for _, n := range a.networks {
		name, ok := under(key, n.folded)
		if !ok || r.network != nil && len(r.network.folded) >= len(n.folded) {
			continue
		}
		if e := n.find(name); e != nil {
			r = result{rule: ruleQualified, network: n, entry: e}
		}
	}
	if r.entry != nil {
		return r
	}
	for _, n := range a.networks {
		if e := n.names[string(key)]; e != nil {
			return result{rule: ruleName, network: n, entry: e}
		}
	}
	for _, n := range a.networks {
		if n.folded == string(key) && !n.public {
			return result{rule: ruleApex, network: n}
		}
	}
	return r
}

// find looks up a name that was said to be of this network.
func (n *network) find(name []byte) *entry {
	if e := n.names[string(name)]; e != nil {
		return e
	}
	if string(name) == asGateway {
		return n.gateway
	}
	return nil
}

// cutPort takes the labels of RFC 2782 from a name. Without proto it has none; without port only the second.
func cutPort(key []byte) (port, proto, base []byte) {
	if len(key) == 0 || key[0] != '_' {
		return nil, nil, key
	}
	first, rest, ok := bytes.Cut(key, []byte{'.'})
	if !ok {
		return nil, nil, key
	}
	if isProto(first[1:]) {
		return nil, first[1:], rest
	}
	second, rest, ok := bytes.Cut(rest, []byte{'.'})
	if !ok || len(second) == 0 || second[0] != '_' || !isProto(second[1:]) {
		return nil, nil, key
	}
	return first[1:], second[1:], rest
}

func isProto(b []byte) bool { return string(b) == "tcp" || string(b) == "udp" || string(b) == "sctp" }

// exposes returns the number of a member's port by its number or name.
func (m *member) exposes(port, proto []byte) (uint16, bool) {
	number, numeric := decimal(port)
	for i := range m.ports {
		p := &m.ports[i]
		if p.Protocol != "" && !strings.EqualFold(p.Protocol, string(proto)) || p.Protocol == "" && string(proto) != "tcp" {
			continue
		}
		if numeric && p.Number == number || p.Name != "" && strings.EqualFold(p.Name, string(port)) {
			return p.Number, true
		}
	}
	return 0, false
}

// decimal reads a port's number. Unlike strconv's, its failure, which is a name as often as not, costs nothing.
func decimal(b []byte) (uint16, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 0xffff {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), len(b) > 0 && n <= 0xffff
}
