package api

import (
	"net/netip"
	"time"

	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// Status is the node as a whole.
type Status struct {
	Node     string         `json:"node"`
	Version  string         `json:"version,omitempty"`
	PID      int            `json:"pid"`
	Started  time.Time      `json:"started"`
	Underlay netip.AddrPort `json:"underlay"` // where the tunnel receives
	Threads  int            `json:"threads"`  // forwarding threads
	Networks int            `json:"networks"`
	Ports    PortCount      `json:"ports"`
	Problems []string       `json:"problems"` // what does not work as configured, a sentence each; empty if all does
}

// PortCount counts ports by state.
type PortCount struct {
	Up   int `json:"up"`
	Gone int `json:"gone"`
}

// Network is one layer-2 segment as this node has it.
type Network struct {
	Name      string         `json:"name"`
	VNI       vxlan.VNI      `json:"vni"`
	Subnets   []netip.Prefix `json:"subnets"`
	Gateways  []netip.Addr   `json:"gateways"`
	MTU       int            `json:"mtu"`
	Spoof     string         `json:"spoof"` // deny or allow
	Ports     int            `json:"ports"`
	Endpoints int            `json:"endpoints"` // containers here
	Remotes   int            `json:"remotes"`   // containers elsewhere
	VTEPs     []netip.Addr   `json:"vteps"`     // static ones
}

// Values of FDBEntry.Where.
const (
	Local  = "local"  // a container of this node
	Remote = "remote" // a container of another node
	Static = "static" // a VTEP that gets what nobody is known to own; the entry has no MAC
)

// FDBEntry says where frames for one MAC go.
type FDBEntry struct {
	Network   string       `json:"network"`
	VNI       vxlan.VNI    `json:"vni"`
	MAC       *frame.MAC   `json:"mac,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	Where     string       `json:"where"`
	Port      string       `json:"port,omitempty"` // local: the port
	VTEP      *netip.Addr  `json:"vtep,omitempty"` // remote, static: the other end of the tunnel
	Name      string       `json:"name,omitempty"` // the container's
}

// Values of PortStatus.
const (
	KindTAP    = "tap"    // the container's own interface
	KindBridge = "bridge" // a TAP on a Linux bridge that holds containers

	ModeOffloaded = "offloaded" // superframes and partial checksums, by virtio_net_hdr
	ModePlain     = "plain"     // one wire frame at a time

	StateUp   = "up"
	StateGone = "gone" // the container ended, or could not be attached: see Error
)

// PortStatus is one port of the switch. Counters are as the switch sees them: rx is from the container, tx to it.
type PortStatus struct {
	Network   string            `json:"network"`
	Name      string            `json:"name"`
	Kind      string            `json:"kind"`
	Interface string            `json:"interface"`
	Namespace string            `json:"namespace"` // path, "pid N", or empty for the agent's own
	Bridge    string            `json:"bridge,omitempty"`
	State     string            `json:"state"`
	Error     string            `json:"error,omitempty"`
	Mode      string            `json:"mode,omitempty"`
	Offloads  []string          `json:"offloads"` // of checksum, tso4, tso6, tso-ecn, uso
	MTU       int               `json:"mtu"`
	Queues    int               `json:"queues"`
	Owners    []Owner           `json:"owners"` // who may send from here
	RxFrames  uint64            `json:"rx_frames"`
	RxBytes   uint64            `json:"rx_bytes"`
	RxReads   uint64            `json:"rx_reads"` // superframes, and frames that came alone
	TxFrames  uint64            `json:"tx_frames"`
	TxBytes   uint64            `json:"tx_bytes"`
	TxWrites  uint64            `json:"tx_writes"`
	Drops     map[string]uint64 `json:"drops"`             // frames refused, by reason
	TxDropped uint64            `json:"device_tx_dropped"` // frames that the container sent and its device's full queue dropped
}

// Owner is a container that may send from a port.
type Owner struct {
	Name      string       `json:"name"`
	MAC       frame.MAC    `json:"mac"`
	Addresses []netip.Addr `json:"addresses"`
}

// Stats are the counters of the node. They begin at zero with the agent.
type Stats struct {
	Networks []NetworkStats `json:"networks"`
	Tunnel   TunnelStats    `json:"tunnel"`
	Threads  []ThreadStats  `json:"threads"`
	Names    *NameStats     `json:"names,omitempty"` // none on a node that answers no names
}

// NetworkStats sums up one network.
type NetworkStats struct {
	Network  string            `json:"network"`
	VNI      vxlan.VNI         `json:"vni"`
	RxFrames uint64            `json:"rx_frames"` // from containers
	RxBytes  uint64            `json:"rx_bytes"`
	TxFrames uint64            `json:"tx_frames"` // to containers
	TxBytes  uint64            `json:"tx_bytes"`
	Drops    map[string]uint64 `json:"drops"`             // frames from the underlay that the network refused; ports count their own
	Outside  *OutsideStats     `json:"outside,omitempty"` // none without a router
}

// TunnelStats are those of the tunnel.
type TunnelStats struct {
	Local netip.AddrPort    `json:"local"`
	Peers []PeerStats       `json:"peers"`
	Drops map[string]uint64 `json:"drops"` // datagrams that belong to no network or peer
}

// PeerStats are those of the tunnel to one other node. Frames are inner ones, as on a wire.
type PeerStats struct {
	VTEP       netip.Addr `json:"vtep"`
	TxFrames   uint64     `json:"tx_frames"`
	TxBytes    uint64     `json:"tx_bytes"`
	TxMessages uint64     `json:"tx_messages"` // sends; with segmentation each carries many frames
	RxFrames   uint64     `json:"rx_frames"`
	RxBytes    uint64     `json:"rx_bytes"`
	RxMessages uint64     `json:"rx_messages"` // receives; the kernel joins datagrams where it can
	GSO        bool       `json:"gso"`         // sends are segmented by the kernel (UDP_SEGMENT)
	MTU        int        `json:"mtu"`         // longest inner IP packet that the path takes
}

// ThreadStats are those of one forwarding thread.
type ThreadStats struct {
	Thread int    `json:"thread"`
	Rounds uint64 `json:"rounds"` // times around with something to do
	Frames uint64 `json:"frames"` // read from containers and the tunnel
	Yields uint64 `json:"yields"` // looks after sched_yield that found work
	Waits  uint64 `json:"waits"`  // waits in the kernel
}
