package dns

import (
	"net/netip"
	"time"
)

// Explanation says why a container gets the answer that it gets.
type Explanation struct {
	Name      string     `json:"name"`
	Type      string     `json:"type"`
	Container string     `json:"container"`
	Networks  []string   `json:"networks"` // of the container, in order of search
	Rule      string     `json:"rule"`     // which decided; see Rule
	Reason    string     `json:"reason"`   // the same as a sentence
	Rcode     string     `json:"rcode"`
	TTL       uint32     `json:"ttl"`
	Network   string     `json:"network,omitempty"` // that the answer is of
	Records   []Evidence `json:"records,omitempty"`
	Forwarded *Forwarded `json:"forwarded,omitempty"`
}

// Evidence is a record that the name leads to, and what became of it.
type Evidence struct {
	Container string       `json:"container,omitempty"`
	Service   string       `json:"service,omitempty"`
	Node      string       `json:"node,omitempty"`
	Network   string       `json:"network,omitempty"`
	As        string       `json:"as"` // what the name is to it: name, hostname, alias, service, task, vip, gateway, host
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     []Port       `json:"ports,omitempty"`
	Since     time.Time    `json:"since,omitzero"`
	Hidden    bool         `json:"hidden,omitempty"`
	LeftOut   string       `json:"left_out,omitempty"` // why it is not in the answer
}
