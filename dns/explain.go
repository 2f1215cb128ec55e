package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	mdns "github.com/miekg/dns"
)

// Explanation says why a container gets the answer that it gets.
type Explanation struct {
	Name      string     `json:"name"`
	Type      string     `json:"type"`
	Container string     `json:"container"`
	Networks  []string   `json:"networks"` // of the container, in order of search
	Rule      string     `json:"rule"`     // what decided, in a word
	Reason    string     `json:"reason"`   // the same as a sentence
	Rcode     string     `json:"rcode"`
	TTL       uint32     `json:"ttl"`               // of the cluster's own answers, in seconds
	Network   string     `json:"network,omitempty"` // that the answer is of
	Records   []Evidence `json:"records,omitempty"`
	Forwarded *Forwarded `json:"forwarded,omitempty"`
}

// Evidence is something that the name leads to, or that only seems so, and what became of it.
type Evidence struct {
	Container string       `json:"container,omitempty"`
	Service   string       `json:"service,omitempty"`
	Node      string       `json:"node,omitempty"`
	Network   string       `json:"network,omitempty"`
	As        string       `json:"as"` // what the name is to it: name, hostname, alias, service, task, vip, gateway, host, address
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     []Port       `json:"ports,omitempty"`
	Since     time.Time    `json:"since,omitzero"`
	Hidden    bool         `json:"hidden,omitempty"`
	LeftOut   string       `json:"left_out,omitempty"` // why it is not in the answer
}

// Query answers as the server would answer a container of this node that asks by TCP at its first network's gateway, and says why.
func (s *Server) Query(ctx context.Context, container, name string, qtype uint16) (*mdns.Msg, Explanation, error) {
	z := s.zone.Load()
	a := z.containers[container]
	if a == nil {
		return nil, Explanation{}, fmt.Errorf("dns: no container %q on this node; ask on the node that it runs on", container)
	}
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), qtype)
	wire, err := q.Pack()
	if err != nil {
		return nil, Explanation{}, fmt.Errorf("dns: %q cannot be asked: labels of 1 to 63 bytes with dots between, 253 in all, are a name: %w", name, err)
	}
	r := &responder{}
	e := Explanation{Name: q.Question[0].Name, Type: mdns.Type(qtype).String(), Container: container}
	for _, n := range a.networks {
		e.Networks = append(e.Networks, n.name)
	}
	switch r.query.parse(wire) {
	case good:
	case refused:
		return e.because(z, &result{rule: ruleRefused, rcode: rcodeRefused}, r.refuse(rcodeRefused, noError))
	default:
		return nil, e, fmt.Errorf("dns: type %s of %q cannot be asked", e.Type, name)
	}
	res := z.resolve(a, r.query.key, qtype)
	if res.rule == ruleForward {
		return s.trace(ctx, z, &r.query, &res, e)
	}
	b := r.answer(z, &res, maxTCP)
	e.TTL = r.ttl
	e.gather(z, a, &res, &r.query)
	return e.because(z, &res, b)
}

// because completes the explanation of an answer of ours.
func (e Explanation) because(z *Zone, res *result, wire []byte) (*mdns.Msg, Explanation, error) {
	m := new(mdns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, e, fmt.Errorf("dns: the answer to %s: %w", e.Name, err)
	}
	e.Rule, e.Reason, e.Rcode = res.rule.String(), res.sentence(z), rcodeName(res.rcode)
	if res.network != nil {
		e.Network = res.network.name
	}
	return m, e, nil
}

// trace explains an answer of others. A failure of theirs is the explanation's, and the answer SERVFAIL, as the container would see it.
func (s *Server) trace(ctx context.Context, z *Zone, q *query, res *result, e Explanation) (*mdns.Msg, Explanation, error) {
	e.Rule, e.Reason, e.Forwarded = res.rule.String(), res.sentence(z), &Forwarded{}
	f, ok := newForward(q, "", true)
	if !ok {
		return nil, e, fmt.Errorf("dns: %q cannot be asked of others", e.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	start := time.Now()
	m, err := f.failure(), error(nil)
	switch {
	case s.config.Trace != nil:
		var answer *mdns.Msg
		if answer, *e.Forwarded, err = s.config.Trace(ctx, &f.query); err == nil && answer != nil {
			m = answer
		}
	case s.config.Forwarder != nil:
		var answer *mdns.Msg
		if answer, err = s.config.Forwarder.Forward(ctx, &f.query, true); err == nil && answer != nil {
			m = answer
		}
		e.Forwarded.Took = time.Since(start)
	default:
		err = fmt.Errorf("there is nobody to ask")
	}
	if err != nil {
		e.Forwarded.Error = err.Error()
	}
	f.fit(m)
	e.Rcode = rcodeName(m.Rcode)
	e.Forwarded.Rcode = e.Rcode
	return m, e, nil
}

// gather lists what the answer was made of, and then what has the name but is on networks that come later, or never.
func (e *Explanation) gather(z *Zone, a *asker, res *result, q *query) {
	if res.member != nil {
		e.Records = append(e.Records, res.member.evidence("address", ""))
		return
	}
	if res.rule == ruleLocalhost || res.rule == ruleReverse || res.rule == ruleForeign || res.rule == ruleInternal {
		return
	}
	if res.entry != nil {
		for _, s := range res.entry.sources {
			e.Records = append(e.Records, s.evidence(s.as, s.why(res, q.qtype)))
		}
	}
	key := q.key
	if rest, ok := under(key, z.domain); ok {
		key = rest
	}
	if _, proto, base := cutPort(key); proto != nil {
		key = base
	}
	e.elsewhere(z, a, res, key)
}

// elsewhere lists what has the name on other networks than the one that decided.
func (e *Explanation) elsewhere(z *Zone, a *asker, res *result, key []byte) {
	all := slices.Clone(a.networks)
	for _, n := range sorted(z.networks) {
		if !a.on(n) {
			all = append(all, n)
		}
	}
	for _, n := range all {
		found := []*entry{n.names[string(key)]}
		if name, ok := under(key, n.folded); ok {
			found = append(found, n.find(name))
		}
		why := fmt.Sprintf("%s is not on network %s", e.Container, n.name)
		if a.on(n) && res.network != nil {
			why = fmt.Sprintf("network %s has the name too, and comes first", res.network.name)
			if res.network == n {
				why = "a name that says its network comes first"
			}
		}
		for _, f := range found {
			if f == nil || f == res.entry {
				continue
			}
			for _, s := range f.sources {
				e.Records = append(e.Records, s.evidence(s.as, why))
			}
		}
	}
}

// sorted returns networks by name.
func sorted(networks map[string]*network) []*network {
	all := make([]*network, 0, len(networks))
	for _, n := range networks {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *network) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}

// why returns why a source gives nothing to an answer; empty: it does.
func (s *source) why(res *result, qtype uint16) string {
	if s.hidden() {
		return "its node does not answer"
	}
	if res.port != nil {
		if _, ok := s.exposes(res.port, res.proto); !ok {
			return fmt.Sprintf("it does not expose port %s/%s", res.port, res.proto)
		}
		if qtype != mdns.TypeSRV {
			return "names of ports have SRV records alone"
		}
		return ""
	}
	switch {
	case qtype == mdns.TypeA && len(s.v4) == 0:
		return "it has no IPv4 address"
	case qtype == mdns.TypeAAAA && len(s.v6) == 0:
		return "it has no IPv6 address"
	case qtype != mdns.TypeA && qtype != mdns.TypeAAAA:
		return fmt.Sprintf("names have no %s records", mdns.Type(qtype))
	}
	return ""
}

// evidence describes a member.
func (m *member) evidence(as, leftOut string) Evidence {
	v := Evidence{As: as, Addresses: slices.Concat(m.v4, m.v6), Ports: m.ports, Hidden: m.hidden(), LeftOut: leftOut}
	if v.Hidden && leftOut == "" {
		v.LeftOut = "its node does not answer"
	}
	if m.network != nil {
		v.Network = m.network.name
	}
	switch r := m.record; {
	case r != nil:
		v.Container, v.Service, v.Node, v.Since = r.Name, r.Service, r.Node, r.Since
	case as == asVIP:
		v.Service = m.name
	}
	return v
}
