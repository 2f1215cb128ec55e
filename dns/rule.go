package dns

import "fmt"

// rule says what decided on a question.
type rule uint8

const (
	ruleForward   rule = iota // asked of others
	ruleName                  // a name on one of the asker's networks
	ruleQualified             // <name>.<network>
	ruleService               // _port._proto.<name>
	ruleReverse               // an address in a subnet of the asker's
	ruleHost                  // host.<domain>
	ruleLocalhost             // loopback
	ruleApex                  // the domain itself, or a name that only stands above others
	ruleUnknown               // nothing in the domain has that name
	ruleClaimed               // only networks that the asker is not on could have it
	ruleDotless               // no asker's network has it, and nothing outside can
	ruleForeign               // an address in a subnet that the asker is not on
	ruleInternal              // would be asked of others, but the asker's networks are internal
	ruleRefused               // a type, class or opcode that is answered to nobody
	ruleMalformed             // no question at all
	ruleVersion               // a version of EDNS that is not known

	numRules = int(iota)
)

var ruleNames = [numRules]string{
	ruleForward:   "forward",
	ruleName:      "name",
	ruleQualified: "qualified",
	ruleService:   "service",
	ruleReverse:   "reverse",
	ruleHost:      "host",
	ruleLocalhost: "localhost",
	ruleApex:      "apex",
	ruleUnknown:   "unknown",
	ruleClaimed:   "claimed",
	ruleDotless:   "dotless",
	ruleForeign:   "foreign",
	ruleInternal:  "internal",
	ruleRefused:   "refused",
	ruleMalformed: "malformed",
	ruleVersion:   "version",
}

func (r rule) String() string { return ruleNames[r] }

// sentence says to a person what a result means.
func (r *result) sentence(z *Zone) string {
	network := ""
	if r.network != nil {
		network = r.network.name
	}
	none := r.rcode == rcodeNXDomain
	switch r.rule {
	case ruleName:
		return fmt.Sprintf("network %s is the first of the container's networks that has the name", network)
	case ruleQualified:
		return fmt.Sprintf("the name says itself that it is of network %s", network)
	case ruleService:
		if none {
			return fmt.Sprintf("nothing of that name on network %s exposes that port; expose it with --expose", network)
		}
		return fmt.Sprintf("what has the name on network %s exposes the port", network)
	case ruleReverse:
		if none {
			return fmt.Sprintf("network %s has the subnet, but nobody there has the address", network)
		}
		return fmt.Sprintf("the address is one of network %s", network)
	case ruleHost:
		return "the name means the node that the container runs on"
	case ruleLocalhost:
		return "the name is loopback's (RFC 6761)"
	case ruleApex:
		return "the name stands above others and has nothing itself"
	case ruleUnknown:
		return fmt.Sprintf("nothing under %s that the container may see has the name, and nothing under it is asked of others", z.domain)
	case ruleClaimed:
		return "the name belongs to the cluster's networks; none that the container is on has it, and it is not asked of others"
	case ruleDotless:
		return "no network of the container's has the name, and names without a dot are not asked of others"
	case ruleForeign:
		return "the address is in a subnet of a network that the container is not on; such names are not asked of others"
	case ruleInternal:
		return "the name is not the cluster's, and the container's networks are all internal: nothing is asked of others for it"
	case ruleRefused:
		return "this type of question is answered to nobody"
	}
	return "the name is not the cluster's: the node's resolvers are asked"
}
