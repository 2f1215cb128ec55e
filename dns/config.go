package dns

import (
	"net/netip"
	"time"
)

// Defaults of a Config.
const (
	DefaultDomain = "weft.internal"
	DefaultTTL    = time.Second
)

// Config is what a node knows of names: all networks that it takes part in, and who of its own containers is on which.
type Config struct {
	Domain     string        // the cluster's own; empty: DefaultDomain
	TTL        time.Duration // of answers, cut to seconds; 0: DefaultTTL; less than a second, such as 1ns: nobody may keep them
	Host       []netip.Addr  // this node's addresses, host.<domain>
	Networks   []Network
	Containers []Container    // of this node
	Foreign    []netip.Prefix // subnets of all of the cluster's networks: the names of their addresses are asked of nobody outside
}

// Network is one network's names.
type Network struct {
	Name     string
	Internal bool // without egress: questions of containers that are on such networks alone are not forwarded (CVE-2024-29018)
	Subnets  []netip.Prefix
	Gateways []netip.Addr // Gateways[i] is that of Subnets[i]
	Records  []Record     // all containers of the network, of whichever node
	Services []Service
}

// Record is a container on a network.
type Record struct {
	Name string // the container's
	Names
	Addresses []netip.Addr
	Hidden    bool // its node does not answer: its names exist, and lead nowhere
}

// Service is a service on a network. Its tasks are the records that name it.
type Service struct {
	Name string
	VIPs []netip.Addr // none: its name leads to its tasks
}

// Container is a container of this node. It may ask.
type Container struct {
	Name     string
	Networks []Membership // in order of attachment, which is the order of search
}

// Membership is a container's place on a network.
type Membership struct {
	Network   string
	Addresses []netip.Addr
}
