package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/dns"
)

// Resolver is what a node knows of names. Its methods may be called from any goroutine, and return what belongs to the caller. A request's
// form has been checked before they see it, and with a Control also that the container is on this node. An error that is a *Refusal has its
// status.
type Resolver interface {
	// Lookup answers as the container r.From would be answered now, and says why.
	Lookup(ctx context.Context, r LookupRequest) (LookupAnswer, error)
	// Records returns what this node answers from, of all its networks if network is empty.
	Records(ctx context.Context, network string) ([]NameRecord, error)
}

// LookupRequest asks what a container is answered (GET /v1/dns/query, GET /v1/dns/explain).
type LookupRequest struct {
	Name string `json:"name"` // with or without the dot at its end; an address is asked for as its name below arpa
	Type string `json:"type"` // A, AAAA, PTR, SRV and so on (miekg/dns.StringToType); default A, of an address PTR
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
	Rule      string         `json:"rule"`                // the one that matched, a word or two
	Reason    string         `json:"reason,omitempty"`    // the same as a sentence
	Network   string         `json:"network,omitempty"`   // that the answer is of
	TTL       uint32         `json:"ttl"`                 // seconds that the answer may be kept
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
	Container string       `json:"container,omitempty"` // empty for the gateway, this host, and a service's virtual address
	As        string       `json:"as,omitempty"`        // of an explanation: what the name asked for is to it, such as alias
	Names     []string     `json:"names,omitempty"`     // that lead to it on its network, without the cluster's domain; the container's own first
	Service   string       `json:"service,omitempty"`   // that it is part of
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

// NameStats count what containers asked, and what was asked for them.
type NameStats struct {
	UDP         uint64            `json:"udp"` // questions that came by it, as the next
	TCP         uint64            `json:"tcp"`
	Rules       map[string]uint64 `json:"rules"`       // questions, by the rule that decided
	Rcodes      map[string]uint64 `json:"rcodes"`      // answers
	Drops       map[string]uint64 `json:"drops"`       // what got no answer, or SERVFAIL, by reason
	Outstanding int               `json:"outstanding"` // questions that others have been asked just now
	Cached      uint64            `json:"cached"`      // answered from the cache
	Servers     []NameServer      `json:"servers"`     // that are asked
}

// NameServer is one that is asked for names that are not the cluster's.
type NameServer struct {
	Address netip.AddrPort `json:"address"`
	Asked   uint64         `json:"asked"`
	Answers uint64         `json:"answers"`
	Failed  uint64         `json:"failed"` // no answer in time, or none possible
	Down    bool           `json:"down"`   // it did not answer of late: others are asked first
}

// lookup does what both kinds of look-up do.
func (s *Server) lookup(r *http.Request) (a LookupAnswer, err error) {
	if s.Resolver == nil {
		return a, errNoNames
	}
	q := r.URL.Query()
	ask := LookupRequest{q.Get("name"), q.Get("type"), q.Get("from")}
	if err := ask.complete(); err != nil {
		return a, &Refusal{http.StatusBadRequest, err}
	}
	if err := s.here(r.Context(), ask.From); err != nil {
		return a, err
	}
	a, err = s.Resolver.Lookup(r.Context(), ask)
	a.Answers = list(a.Answers)
	if e := a.Explanation; e != nil {
		e.Networks, e.Records = list(e.Networks), list(e.Records)
	}
	return a, err
}

// here refuses a container that is on another node, as far as this node knows its networks, and says on which.
func (s *Server) here(ctx context.Context, container string) error {
	if s.Control == nil {
		return nil // there is no other node that could be asked
	}
	all, err := s.Control.Endpoints(ctx, "")
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e Endpoint) bool { return e.Name != container })
	switch {
	case slices.ContainsFunc(all, func(e Endpoint) bool { return e.Local }):
		return nil
	case len(all) > 0:
		return Refuse(http.StatusConflict, "container %s is on node %s; ask the agent there: what it is answered is that node's to know", container, all[0].Node)
	}
	return Refuse(http.StatusNotFound, "no container %q on this node, nor on others of its networks; see weft endpoint ls", container)
}

// complete checks what is asked, and fills in the type.
func (q *LookupRequest) complete() error {
	if q.From == "" {
		return errors.New("from whom is asked is missing; name a container of this node: what is answered hangs on who asks")
	}
	q.Type = strings.ToUpper(q.Type)
	if addr, err := netip.ParseAddr(q.Name); err == nil && (q.Type == "" || q.Type == "PTR") {
		q.Type = "PTR"
		if q.Name, err = mdns.ReverseAddr(addr.Unmap().WithZone("").String()); err != nil {
			return err
		}
	}
	if q.Type == "" {
		q.Type = "A"
	}
	if _, ok := mdns.StringToType[q.Type]; !ok {
		return fmt.Errorf("type %.32q; expected A, AAAA, PTR, SRV, TXT, MX or another of DNS", q.Type)
	}
	if _, ok := mdns.IsDomainName(q.Name); !ok || q.Name == "" || strings.ContainsAny(q.Name, " \t\r\n") {
		return fmt.Errorf("name %.64q; expected up to 253 characters in labels of up to 63, joined by dots", q.Name)
	}
	return nil
}

// Query asks what a container is answered.
func (c *Client) Query(ctx context.Context, r LookupRequest) (v LookupAnswer, err error) {
	return v, c.get(ctx, "/v1/dns/query", r.query(), &v)
}

// Explain asks what a container is answered, and why.
func (c *Client) Explain(ctx context.Context, r LookupRequest) (v LookupAnswer, err error) {
	return v, c.get(ctx, "/v1/dns/explain", r.query(), &v)
}

func (q LookupRequest) query() url.Values {
	v := url.Values{"name": {q.Name}, "from": {q.From}}
	if q.Type != "" {
		v.Set("type", q.Type)
	}
	return v
}

// Records asks for what the node answers from, in a network, in all if it is empty.
func (c *Client) Records(ctx context.Context, network string) (v []NameRecord, err error) {
	return v, c.get(ctx, "/v1/dns/records", ofNetwork(network), &v)
}
