package router

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nic tcpip.NICID = 1

// What was measured, or follows from the peers' being containers of this node.
const (
	minBuffer     = 4 << 10
	defaultBuffer = 128 << 10 // more is no faster, and what a remote does not take waits in it
	maxBuffer     = 8 << 20
	timeWait      = 2 * time.Second  // nobody's old segments wander about between a TAP and us
	finWait       = 30 * time.Second // for the FIN of a peer, after Close
	takeAll       = 60 * time.Second // for a peer that takes nothing, after Close
	synRetries    = 3                // 15 s in all
	udpBuffer     = 1 << 20
)

// Netstack bounds the buffers of a connection, but not of all together. A container could have each grow, and then take nothing: only the first
// of its connections may grow, and later ones are less large the more there are.
const (
	growing   = 32 // connections of one container
	laterAll  = 192 << 20
	leastSize = 16 << 10
)

// fixedSize returns how large each buffer of the n-th connection of a container is; 0: it may grow.
func fixedSize(n int) int64 {
	if n <= growing {
		return 0
	}
	return int64(max(leastSize, min(defaultBuffer, laterAll/n)))
}

// newStack makes the netstack of r, up and with its addresses.
func newStack(r *Router) (*stack.Stack, error) {
	silence.Do(func() { log.SetTarget(silent{}) })
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{}), // no DAD, no router solicitations, no MLD, no link-local address
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		Clock: &clock{Clock: tcpip.NewStdClock(), router: r},
	})
	if err := setUp(s, r); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("router: network %s: %w", r.c.Network, err)
	}
	return s, nil
}

func setUp(s *stack.Stack, r *Router) error {
	var failed error
	try := func(what string, err tcpip.Error) {
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %s", what, err)
		}
	}
	set := func(o tcpip.SettableTransportProtocolOption) {
		try(fmt.Sprintf("option %T", o), s.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	set(new(tcpip.TCPSACKEnabled(true)))
	set(new(tcpip.TCPRecovery(0))) // RACK costs more than it finds where nothing is reordered
	set(&tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer})
	set(&tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer})
	set(new(tcpip.TCPModerateReceiveBufferOption(true)))
	set(new(tcpip.TCPTimeWaitTimeoutOption(timeWait)))
	set(new(tcpip.TCPLingerTimeoutOption(finWait)))
	set(new(tcpip.TCPSynRetriesOption(synRetries)))
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, r.unclaimedTCP)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, r.unclaimedUDP)
	try("UDP buffers", s.SetOption(tcpip.ReceiveBufferSizeOption{Min: minBuffer, Default: udpBuffer, Max: udpBuffer}))
	try("NIC", s.CreateNIC(nic, r.link))
	for i, g := range r.c.Gateways {
		try("address "+g.String(), s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          network(g),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(g), PrefixLen: r.c.Subnets[i].Bits()},
		}, stack.AddressProperties{}))
	}
	// It takes what is for any address, and speaks for any.
	try("promiscuous mode", s.SetPromiscuousMode(nic, true))
	try("spoofing", s.SetSpoofing(nic, true))
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return failed
}

// silence keeps netstack's log lines, which containers can provoke, from the agent's standard error. Netstack has one log for the
// process.
var silence sync.Once

type silent struct{}

func (silent) Emit(int, log.Level, time.Time, string, ...any) {}

func network(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func address(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(a.Addr()), Port: a.Port()}
}

func addrOf(a tcpip.Address) netip.Addr {
	if a.Len() == 4 {
		return netip.AddrFrom4(a.As4())
	}
	return netip.AddrFrom16(a.As16())
}
