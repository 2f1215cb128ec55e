package api

import (
	"context"
	"net/netip"
	"time"

	"github.com/weftnet/weft/dns"
)

// Resolver is what a node knows of names. Its methods may be called from any goroutine, and return what belongs to the caller. An error
// that is a *Refusal has its status: 404 for a container that the cluster does not have, 409 for one of another node, which it names.
type Resolver interface {
	// Lookup answers as the container r.From would be answered now, and says why.
	Lookup(ctx context.Context, r LookupRequest) (LookupAnswer, error)
	// Records returns what this node answers from, of all its networks if network is empty.
	Records(ctx context.Context, network string) ([]NameRecord, error)
}

// LookupRequest asks what a container is answered (GET /v1/dns/query, GET /v1/dns/explain).
type LookupRequest struct {
	Name string `json:"name"` // with or without the dot at its end; of PTR also an address
	Type string `json:"type"` // A, AAAA, PTR, SRV and so on, in capitals; default A, of an address PTR
	From string `json:"from"` // the container that asks, by its name on this node
}

// LookupAnswer is what it is answered.
type LookupAnswer struct {
	LookupRequest
	Node        string           `json:"node"`  // that answers
	Rcode       string           `json:"rcode"` // NOERROR, NXDOMAIN, SERVFAIL and so on (RFC 1035 §4.1.1)
	Answers     []ResourceRecord `json:"answers"`
	Explanation *Explanation     `json:"explanation,omitempty"` // of explain
}

// ResourceRecord is one record of an answer, as a zone file has it.
type ResourceRecord struct {
	Name string `json:"name"`
	TTL  uint32 `json:"ttl"` // seconds
	Type string `json:"type"`
	Data string `json:"data"`
}

// Explanation says how an answer came about.
type Explanation struct {
	Networks  []AskerNetwork `json:"networks"`            // of the container that asks, in the order in which they are searched
	Rule      string         `json:"rule"`                // the one that matched, a word or two: container, alias, service, reverse, host, own domain, forwarded ...
	Reason    string         `json:"reason,omitempty"`    // a sentence on it
	Records   []NameRecord   `json:"records"`             // all that the name stands for, also those that were left out
	Forwarded *Forwarded     `json:"forwarded,omitempty"` // of a name that is not ours
}

// AskerNetwork is a network of the container that asks.
type AskerNetwork struct {
	Network   string       `json:"network"`
	Addresses []netip.Addr `json:"addresses"`
}

// NameRecord is a container as names lead to it (GET /v1/dns/records).
type NameRecord struct {
	Network   string       `json:"network"`
	Container string       `json:"container"`
	Names     []string     `json:"names"`             // that lead to it on its network, without the cluster's domain; the container's own first
	Service   string       `json:"service,omitempty"` // that it is part of
	Node      string       `json:"node"`
	Addresses []netip.Addr `json:"addresses"`
	Ports     []dns.Port   `json:"ports"` // that it exposes
	Since     time.Time    `json:"since,omitzero"`
	Hidden    bool         `json:"hidden"`             // its node does not answer: no name leads to it
	LeftOut   string       `json:"left_out,omitempty"` // of an explanation: why it is not in the answer
}

// Forwarded is what came of asking the host's servers.
type Forwarded struct {
	Server netip.AddrPort `json:"server,omitzero"` // that answered; none if all failed
	Took   time.Duration  `json:"took"`            // nanoseconds; 0 from the cache
	Cached bool           `json:"cached"`
	Error  string         `json:"error,omitempty"` // why there is no answer
}
