package gateway

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/stack/frame"
)

// Lookup answers as a container here would be answered, and says why (api.Resolver).
func (s *Set) Lookup(ctx context.Context, r api.LookupRequest) (api.LookupAnswer, error) {
	p := s.planned()
	if err := here(p, r.From); err != nil {
		return api.LookupAnswer{}, err
	}
	kind, ok := mdns.StringToType[r.Type]
	if !ok {
		return api.LookupAnswer{}, api.Refuse(http.StatusBadRequest, "type %q is not known; expected A, AAAA, PTR, SRV or another of DNS", r.Type)
	}
	name := r.Name
	if addr, err := netip.ParseAddr(name); err == nil && kind == mdns.TypePTR {
		if name, err = mdns.ReverseAddr(addr.String()); err != nil {
			return api.LookupAnswer{}, api.Refuse(http.StatusBadRequest, "name %q: %w", r.Name, err)
		}
	}
	m, why, err := s.names.Query(ctx, r.From, name, kind)
	if err != nil {
		return api.LookupAnswer{}, api.Refuse(http.StatusBadRequest, "%w", err)
	}
	a := api.LookupAnswer{LookupRequest: r, Node: p.Node, Rcode: mdns.RcodeToString[m.Rcode], Answers: []api.ResourceRecord{}, Explanation: explanation(p, &why)}
	for _, rr := range m.Answer {
		h := rr.Header()
		a.Answers = append(a.Answers, api.ResourceRecord{
			Name: h.Name, TTL: h.Ttl, Type: mdns.TypeToString[h.Rrtype], Data: strings.TrimPrefix(rr.String(), h.String()),
		})
	}
	return a, nil
}

// here refuses a container that is not on this node.
func here(p *plan.Config, container string) error {
	elsewhere := ""
	for i := range p.Networks {
		n := &p.Networks[i]
		if slices.ContainsFunc(n.Endpoints, func(e plan.Endpoint) bool { return e.Name == container }) {
			return nil
		}
		for _, r := range n.Remotes {
			if r.Name == container {
				elsewhere = cmp.Or(r.Names.Node, r.VTEP.String())
			}
		}
	}
	if elsewhere != "" {
		return api.Refuse(http.StatusConflict, "container %s is on node %s; ask there, since the answer is that node's", container, elsewhere)
	}
	return api.Refuse(http.StatusNotFound, "no container %q is attached to a network of this node; see weft endpoint ls", container)
}

func explanation(p *plan.Config, why *dns.Explanation) *api.Explanation {
	x := &api.Explanation{Rule: why.Rule, Reason: why.Reason, Network: why.Network, TTL: why.TTL, Networks: []api.AskerNetwork{}, Records: []api.NameRecord{}}
	for _, name := range why.Networks {
		x.Networks = append(x.Networks, api.AskerNetwork{Network: name, Addresses: addresses(p, name, why.Container)})
	}
	for _, e := range why.Records {
		x.Records = append(x.Records, api.NameRecord{
			Network: e.Network, Container: e.Container, As: e.As, Service: e.Service, Node: e.Node, Addresses: e.Addresses,
			Ports: append([]dns.Port{}, e.Ports...), Since: e.Since, Hidden: e.Hidden, LeftOut: e.LeftOut,
		})
	}
	if f := why.Forwarded; f != nil {
		x.Forwarded = &api.Forwarded{Server: f.Server, Took: f.Took, Cached: f.Cached, Error: f.Error}
	}
	return x
}

// addresses returns those of a container here on a network.
func addresses(p *plan.Config, network, container string) []netip.Addr {
	for i := range p.Networks {
		n := &p.Networks[i]
		for _, e := range n.Endpoints {
			if n.Name == network && e.Name == container {
				return e.Addresses
			}
		}
	}
	return []netip.Addr{}
}

// Records returns what this node answers from (api.Resolver).
func (s *Set) Records(_ context.Context, network string) ([]api.NameRecord, error) {
	all, found := []api.NameRecord{}, network == ""
	for _, n := range zone(s.planned(), s.c.TTL, nil).Networks {
		if network != "" && n.Name != network {
			continue
		}
		found = true
		for _, r := range n.Records {
			all = append(all, api.NameRecord{
				Network: n.Name, Container: r.Name, Names: names(&r), Service: r.Service, Node: r.Node, Addresses: r.Addresses,
				Ports: append([]dns.Port{}, r.Ports...), Since: r.Since, Hidden: r.Hidden,
			})
		}
	}
	if !found {
		return nil, api.Refuse(http.StatusNotFound, "this node has no container on a network %q; see weft network ls", network)
	}
	slices.SortFunc(all, func(a, b api.NameRecord) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Node, b.Node))
	})
	return all, nil
}

// names returns those that lead to a container, its own first.
func names(r *dns.Record) []string {
	all := []string{r.Name}
	for _, other := range append([]string{r.Hostname}, r.Aliases...) {
		if other != "" && !slices.Contains(all, other) {
			all = append(all, other)
		}
	}
	return all
}

var protocols = map[uint8]string{frame.ProtoTCP: "tcp", frame.ProtoUDP: "udp", frame.ProtoICMP: "icmp", frame.ProtoICMPv6: "ipv6-icmp"}

// Flows lists what containers have going on beyond their networks (api.Outside).
func (s *Set) Flows(context.Context) ([]api.OutsideFlow, error) {
	p, now, all := s.planned(), time.Now(), []api.OutsideFlow{}
	for _, f := range s.egress.Flows() {
		all = append(all, api.OutsideFlow{
			Network: f.Network, Container: owner(p, f.Network, f.Container.Addr()), Protocol: protocols[f.Protocol], State: f.State,
			Source: f.Container, Target: f.Remote, Outer: f.Local, Started: now.Add(-f.Age), Idle: f.Idle, Sent: f.Up, Received: f.Down,
		})
	}
	return all, nil
}

// owner returns the container here that has an address on a network, empty if none has it any more.
func owner(p *plan.Config, network string, a netip.Addr) string {
	for i := range p.Networks {
		n := &p.Networks[i]
		for _, e := range n.Endpoints {
			if n.Name == network && slices.Contains(e.Addresses, a) {
				return e.Name
			}
		}
	}
	return ""
}

// planned returns the plan in force.
func (s *Set) planned() *plan.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan
}
