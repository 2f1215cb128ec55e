// Package drop names every reason for which the data path refuses a frame, and counts them.
//
// A refused frame is never an error value and never a log line: the code that refuses it returns a Reason, and
// whoever owns the frame at that moment counts it.
package drop

import "sync/atomic"

// Reason says why a frame was refused. The zero value, None, means that it was not.
type Reason uint8

// The reasons, grouped by the layer that finds them.
const (
	None Reason = iota

	// Malformed frames, by the layer that contradicts itself.
	BadOffload  // the virtio_net_hdr does not describe the frame behind it
	BadEthernet // shorter than its header, or a VLAN tag cut off
	BadARP      // RFC 826 packet cut off or not Ethernet/IPv4
	BadIPv4     // header length, total length or version contradict the frame
	BadIPv6     // payload length, version or extension headers contradict the frame
	BadTCP      // header cut off, or data offset past the end
	BadUDP      // header cut off, or length past the end
	BadSCTP     // common header cut off
	BadICMP     // ICMP or ICMPv6 header cut off, or a neighbor message whose options are
	BadChecksum // a checksum that nothing else vouches for is wrong
	TooLarge    // larger than 64 KiB and its headers

	// Frames from containers.
	SpoofedMAC     // the source MAC is not one of the port's own
	SpoofedAddress // the source address (also inside ARP and ND) is not one of the port's own
	NoRoute        // no port, peer or flood target for the destination
	NoRouter       // for the gateway, on a network without a router
	TooBig         // larger than the MTU of the way to its destination; ICMP told the sender where it could

	// Frames for the router.
	TTLExpired   // its TTL or hop limit ends at the gateway; ICMP told the sender
	Forbidden    // what it asks for is not allowed from this network; ICMP told the sender
	NotForwarded // a protocol, or a kind of packet, that is not taken out of a network
	FlowLimit    // its container has as many flows as it may
	RouterBusy   // the router had no room for it
	RouterFault  // the router failed on it, and is being made anew
	Unsolicited  // from outside, from where its flow's container did not write to

	// Frames from the underlay.
	BadVXLAN        // header cut off, I flag unset, or reserved flags that change the format
	UnknownVNI      // no network here has this VNI
	UnknownVTEP     // the outer source is not a peer of this network
	NotOwner        // the inner source belongs to another node
	TunnelTruncated // larger than the receive buffer

	// Frames that were right, but could not be handed on.
	SamePort   // behind the port that it came from: the bridge there has delivered it already
	QueueFull  // the device or socket took no more (EAGAIN, ENOBUFS)
	PortClosed // the container's device or the socket is gone
	SendFailed // the kernel refused the datagram: no route to the peer, a firewall, ...

	NumReasons int = iota
)

var names = [NumReasons]string{
	None:            "none",
	BadOffload:      "bad-offload",
	BadEthernet:     "bad-ethernet",
	BadARP:          "bad-arp",
	BadIPv4:         "bad-ipv4",
	BadIPv6:         "bad-ipv6",
	BadTCP:          "bad-tcp",
	BadUDP:          "bad-udp",
	BadSCTP:         "bad-sctp",
	BadICMP:         "bad-icmp",
	BadChecksum:     "bad-checksum",
	TooLarge:        "too-large",
	SpoofedMAC:      "spoofed-mac",
	SpoofedAddress:  "spoofed-address",
	NoRoute:         "no-route",
	NoRouter:        "no-router",
	TooBig:          "too-big",
	TTLExpired:      "ttl-expired",
	Forbidden:       "forbidden",
	NotForwarded:    "not-forwarded",
	FlowLimit:       "flow-limit",
	RouterBusy:      "router-busy",
	RouterFault:     "router-fault",
	Unsolicited:     "unsolicited",
	BadVXLAN:        "bad-vxlan",
	UnknownVNI:      "unknown-vni",
	UnknownVTEP:     "unknown-vtep",
	NotOwner:        "not-owner",
	TunnelTruncated: "tunnel-truncated",
	SamePort:        "same-port",
	QueueFull:       "queue-full",
	PortClosed:      "port-closed",
	SendFailed:      "send-failed",
}

// String returns the reason's name as `weft stats` prints it.
func (r Reason) String() string {
	if int(r) < len(names) {
		return names[r]
	}
	return "invalid"
}

// Counters counts refused frames by reason. The zero value is ready; all methods may be called from any goroutine.
type Counters [NumReasons]atomic.Uint64

// Add counts n frames refused for r.
func (c *Counters) Add(r Reason, n int) { c[r].Add(uint64(n)) }

// Snapshot returns the reasons that occurred, with their counts.
func (c *Counters) Snapshot() map[string]uint64 {
	m := make(map[string]uint64)
	for r := range c {
		if n := c[r].Load(); n > 0 {
			m[Reason(r).String()] = n
		}
	}
	return m
}
