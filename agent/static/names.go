package static

import (
	"slices"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/dns"
)

// egresses are the words of the file for what a network's containers reach beyond it.
var egresses = []string{string(plan.EgressInternet), string(plan.EgressFull), string(plan.EgressNone)}

// egress reads what the containers of the network reach beyond it.
func (s *segment) egress() {
	s.net.Egress = plan.Egress(egresses[s.choice("egress", egresses)])
	if !s.truth("internal") {
		return
	}
	if s.get("egress") != nil && s.net.Egress != plan.EgressNone {
		s.fault(s.at("egress"), "%s: %s, but internal is true; expected one of them: an internal network has no way out", s.path("egress"), s.net.Egress)
	}
	s.net.Egress = plan.EgressNone
}

// nameKeys are those of what names reads.
var nameKeys = []string{"hostname", "service", "aliases", "ports"}

// names reads what a member of the network is found by besides its name.
func (t table) names(node string) dns.Names {
	n := dns.Names{Hostname: t.word("hostname"), Service: t.word("service"), Node: node}
	for _, at := range t.list("aliases", "names") {
		alias, ok := t.scalar(at, "aliases", "a name")
		switch {
		case !ok:
		case !nameForm.MatchString(alias):
			t.fault(at, "%s: %q is not a name; expected up to 63 letters, digits, '_', '.' and '-', the first a letter or digit", t.path("aliases"), alias)
		case slices.Contains(n.Aliases, alias):
			t.fault(at, "%s: %s is listed twice; remove one", t.path("aliases"), alias)
		default:
			n.Aliases = append(n.Aliases, alias)
		}
	}
	var specs []string
	for _, at := range t.list("ports", "ports") {
		spec, ok := t.scalar(at, "ports", "a port such as 80, http=8080 or 8000-8010/udp")
		if !ok {
			continue
		}
		all, err := endpoint.ParsePorts(append(specs, spec))
		if err != nil {
			t.fault(at, "%s: %v", t.path("ports"), err)
			continue
		}
		specs, n.Ports = append(specs, spec), all
	}
	return n
}

// word returns the name at key, which may be left out.
func (t table) word(key string) string {
	if t.get(key) == nil {
		return ""
	}
	s, _ := t.ident(key, "")
	return s
}
