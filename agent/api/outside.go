package api

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Outside is what leads out of a node's networks. Its method may be called from any goroutine, and returns what belongs to the caller.
type Outside interface {
	Flows(ctx context.Context) ([]OutsideFlow, error) // of all containers of this node
}

// OutsideFlow is a container's connection, or its exchange of datagrams, with something beyond its network (GET /v1/egress/flows).
type OutsideFlow struct {
	Network   string         `json:"network"`
	Container string         `json:"container,omitempty"` // empty if none has the address any more
	Protocol  string         `json:"protocol"`            // tcp, udp, icmp or ipv6-icmp
	State     string         `json:"state"`               // tcp: dialing, established, closing; else: unreplied, replied
	Source    netip.AddrPort `json:"source"`              // the container's; of an echo its identifier is the port
	Target    netip.AddrPort `json:"target"`              // that it wrote to
	Outer     netip.AddrPort `json:"outer,omitzero"`      // the same flow's end on this host; of the host's own sockets
	Started   time.Time      `json:"started"`
	Idle      time.Duration  `json:"idle"` // nanoseconds since something passed
	Sent      uint64         `json:"sent"` // octets of payload from the container, as the next to it
	Received  uint64         `json:"received"`
}

// OutsideStats are the counters of a network's router: of what goes on beyond the network, and of what the router itself refused.
type OutsideStats struct {
	Connections int               `json:"connections"` // TCP: open now, or being dialed
	Opened      uint64            `json:"opened"`      // dialed so far, with whatever result
	Limited     uint64            `json:"limited"`     // not dialed: the container had as many flows as it may
	Sent        uint64            `json:"sent"`        // octets of connections from containers, and the next to them
	Received    uint64            `json:"received"`
	Forbidden   map[string]uint64 `json:"forbidden"`   // connections, datagrams and pings, by why they are not let out
	Failed      map[string]uint64 `json:"failed"`      // connections that came to nothing, by why
	Retransmits uint64            `json:"retransmits"` // TCP segments to containers that were sent again
	Drops       map[string]uint64 `json:"drops"`       // packets, by reason
}

// flowsOf keeps the flows of a container, all if it is empty.
func flowsOf(all []OutsideFlow, container string) []OutsideFlow {
	if container == "" {
		return all
	}
	return slices.DeleteFunc(all, func(f OutsideFlow) bool { return f.Container != container })
}

// Flows asks for what containers have going on beyond their networks: of one network, of one container, or of all where they are empty.
func (c *Client) Flows(ctx context.Context, network, container string) (v []OutsideFlow, err error) {
	q := url.Values{}
	if network != "" {
		q.Set("network", network)
	}
	if container != "" {
		q.Set("container", container)
	}
	return v, c.get(ctx, "/v1/egress/flows", q, &v)
}
