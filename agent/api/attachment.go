package api

import (
	"net/netip"
	"time"

	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// NetworkRequest makes a network (POST /v1/networks).
type NetworkRequest struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver,omitempty"`  // overlay (default) or bridge
	Subnets    []Subnet          `json:"subnets,omitempty"` // default: one out of the cluster's pools
	IPv6       bool              `json:"ipv6,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	MTU        int               `json:"mtu,omitempty"`
	VNI        vxlan.VNI         `json:"vni,omitempty"`
	Encrypted  bool              `json:"encrypted,omitempty"`
	Spoof      bool              `json:"spoof,omitempty"`
	Egress     string            `json:"egress,omitempty"` // internet (default), full, or none, which an internal network has in any case
}

// Subnet is one range of addresses of a network.
type Subnet struct {
	Prefix  netip.Prefix          `json:"prefix"`
	Range   netip.Prefix          `json:"range,omitzero"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Aux     map[string]netip.Addr `json:"aux,omitempty"`
}

// NetworkDetail is a network of the cluster (GET /v1/networks/{network}), and what this node has of it.
type NetworkDetail struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	Driver     string            `json:"driver"`
	Scope      string            `json:"scope"`          // swarm for overlay networks, local for bridges, as Docker prints them
	Node       string            `json:"node,omitempty"` // of a bridge
	VNI        vxlan.VNI         `json:"vni"`
	Subnets    []Subnet          `json:"subnets"`
	IPv6       bool              `json:"ipv6"`
	Internal   bool              `json:"internal"`
	Attachable bool              `json:"attachable"`
	Ingress    bool              `json:"ingress"`
	Encrypted  bool              `json:"encrypted"`
	Spoof      string            `json:"spoof"`
	Egress     string            `json:"egress"` // internet, full or none
	MTU        int               `json:"mtu"`    // on this node
	Labels     map[string]string `json:"labels"`
	Peers      []NetworkPeer     `json:"peers"`     // nodes that take part
	Endpoints  []Endpoint        `json:"endpoints"` // on all nodes, as far as this node takes part
}

// NetworkPeer is a node that takes part in a network.
type NetworkPeer struct {
	Node      string     `json:"node"`
	VTEP      netip.Addr `json:"vtep"`
	Leased    int        `json:"leased"` // addresses
	Status    string     `json:"status"`
	Endpoints int        `json:"endpoints"`
}

// AttachRequest attaches one container to networks, to all of them or to none (POST /v1/endpoints). Exactly one of PID,
// NetNS and Bridge says where its interfaces go. The answer, []Endpoint, comes when this node knows the networks' records.
type AttachRequest struct {
	Name       string       `json:"name"` // the container's, unique on its node; on a network, names may repeat
	Hostname   string       `json:"hostname,omitempty"`
	Service    string       `json:"service,omitempty"`
	Networks   []Attachment `json:"networks"`
	Ports      []dns.Port   `json:"ports,omitempty"` // that it exposes: names lead to them by SRV, nothing is opened or closed
	PID        int          `json:"pid,omitempty"`
	NetNS      string       `json:"netns,omitempty"`
	Bridge     string       `json:"bridge,omitempty"`     // a Linux bridge in the agent's namespace
	Supervisor int          `json:"supervisor,omitempty"` // of a container that weft run made: the PID that waits for it
}

// Attachment is a container's wish for one network.
type Attachment struct {
	Network   string       `json:"network"`             // name, ID or a unique beginning of the ID
	Addresses []netip.Addr `json:"addresses,omitempty"` // at most one of each family; default: free ones
	Aliases   []string     `json:"aliases,omitempty"`
	Interface string       `json:"interface,omitempty"` // default eth0, eth1, ... in the order of the networks
	MAC       *frame.MAC   `json:"mac,omitempty"`       // default 02:42 and the IPv4 address
}

// Endpoint is a container's end of one network (GET /v1/endpoints).
type Endpoint struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"` // the container's
	Hostname  string         `json:"hostname,omitempty"`
	Service   string         `json:"service,omitempty"`
	Network   string         `json:"network"`
	NetworkID string         `json:"network_id"`
	Node      string         `json:"node"`
	Interface string         `json:"interface,omitempty"` // local ones only, as the next
	Namespace string         `json:"namespace,omitempty"` // "pid N", a path, or "bridge NAME"
	MAC       frame.MAC      `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	Aliases   []string       `json:"aliases"`
	Ports     []dns.Port     `json:"ports"` // that it exposes
	State     string         `json:"state"` // up, gone (see Error), or hidden (its node is down)
	Error     string         `json:"error,omitempty"`
	Created   time.Time      `json:"created"`
	Local     bool           `json:"local"`
	Warning   string         `json:"warning,omitempty"` // of attaching: what was not waited for
}

// StateHidden is the state of an endpoint whose node is down.
const StateHidden = "hidden"

// Usage is how full a network's ranges are (GET /v1/ipam/usage).
type Usage struct {
	Network  string       `json:"network"`
	Prefix   netip.Prefix `json:"prefix"`
	Range    netip.Prefix `json:"range"`
	Size     uint64       `json:"size"`     // addresses that can be handed out
	Leased   uint64       `json:"leased"`   // to nodes
	Used     uint64       `json:"used"`     // by endpoints, on all nodes, as far as this node takes part
	Free     uint64       `json:"free"`     // not leased
	Reserved uint64       `json:"reserved"` // gateway, auxiliary, network and broadcast addresses
}

// Audit is one address that is not accounted for (GET /v1/ipam/audit).
type Audit struct {
	Network string     `json:"network"`
	Address netip.Addr `json:"address,omitzero"`
	Node    string     `json:"node"`
	Finding string     `json:"finding"`
}
