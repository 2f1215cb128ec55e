package router

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// maxGSO makes superframes of up to 64 KiB less their headers.
const maxGSO = 1 << 16

// maxParts is how many parts a packet may come in before they are joined; a TAP takes 72 (tap.MaxParts).
const maxParts = 64

// link is netstack's only interface. Every segment of a connection leaves with its checksum owed, since host GSO implies that; what
// netstack sends besides, resets and datagrams, it sums itself, which fragments of datagrams need.
//
//	buffers of a packet   │ room  Ethernet IP TCP │ payload │ payload │ ...
//	                              └── parts[0] ───┘ └parts[1]┘ └parts[2]┘
type link struct {
	router     *Router
	mtu        uint32
	inbox      *inbox
	dispatcher stack.NetworkDispatcher // set once, by CreateNIC
}

// out is what one packet needs on its way out.
type out struct {
	offload frame.Offload
	parts   [][]byte
	joined  []byte
}

var outs = sync.Pool{New: func() any { return &out{parts: make([][]byte, 0, maxParts)} }}

// WritePackets sends packets. It is called under a TCP endpoint's lock, so it never waits: what a port does not take at once is dropped,
// and counted there.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range list.AsSlice() {
		if reason := l.write(pkt); reason != drop.None {
			l.router.drops.Add(reason, 1)
			if reason == drop.NoRoute {
				l.router.unreached(pkt)
			}
		}
	}
	return list.Len(), nil // TCP sends again what was lost here, as what is lost on a wire
}

func (l *link) write(pkt *stack.PacketBuffer) drop.Reason {
	pkt.LinkHeader().Push(bridge.EthernetLen)
	o := outs.Get().(*out)
	defer outs.Put(o)
	o.fill(pkt)
	_, dst := addresses(pkt)
	reason := l.router.c.Link.Send(addrOf(dst), &o.offload, o.parts)
	clear(o.parts)
	return reason
}

// fill describes a packet whose link header has been pushed.
func (o *out) fill(pkt *stack.PacketBuffer) {
	o.offload = frame.Offload{Checksum: frame.Verified}
	if gso := &pkt.GSOOptions; gso.Type != stack.GSONone {
		l4 := bridge.EthernetLen + len(pkt.NetworkHeader().Slice())
		o.offload = frame.Offload{Checksum: frame.Partial, Start: uint16(l4), Offset: gso.CsumOffset}
		if pkt.Data().Size() > int(gso.MSS) {
			o.offload.GSO, o.offload.Size = frame.GSOTCP4, gso.MSS
			o.offload.HdrLen = uint16(l4 + len(pkt.TransportHeader().Slice()))
			if pkt.NetworkProtocolNumber != ipv4.ProtocolNumber {
				o.offload.GSO = frame.GSOTCP6
			}
		}
	}
	o.parts = o.parts[:0]
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		if len(o.parts) == maxParts {
			o.join(v)
			return
		}
		o.parts = append(o.parts, b[skip:])
		skip = 0
	}
}

// join makes the last of o's parts of it and what is in v and behind: a program's many small writes, sent in one.
func (o *out) join(v *buffer.View) {
	o.joined = append(o.joined[:0], o.parts[maxParts-1]...)
	for ; v != nil; v = v.Next() {
		o.joined = append(o.joined, v.AsSlice()...)
	}
	o.parts[maxParts-1] = o.joined
}

// addresses returns those in a packet's network header.
func addresses(pkt *stack.PacketBuffer) (src, dst tcpip.Address) {
	if pkt.NetworkProtocolNumber == ipv4.ProtocolNumber {
		h := header.IPv4(pkt.NetworkHeader().Slice())
		return h.SourceAddress(), h.DestinationAddress()
	}
	h := header.IPv6(pkt.NetworkHeader().Slice())
	return h.SourceAddress(), h.DestinationAddress()
}

// deliver leaves the IP packet b, which it copies, for netstack.
func (l *link) deliver(ether uint16, b []byte) drop.Reason {
	from := b[15] // the last byte of its source
	if ether == frame.EtherIPv6 {
		from = b[23]
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	pkt.NetworkProtocolNumber = tcpip.NetworkProtocolNumber(ether)
	reason := l.inbox.put(pkt, from)
	if reason != drop.None {
		pkt.DecRef()
	}
	return reason
}

// receive gives netstack a packet. One that has failed gets none: it may hold locks that nobody will release.
func (l *link) receive(pkt *stack.PacketBuffer) {
	defer l.router.catch()
	defer pkt.DecRef()
	if l.router.state.Load() == dead {
		return
	}
	l.dispatcher.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
}

// The rest of stack.LinkEndpoint and stack.GSOEndpoint.

func (l *link) MTU() uint32                             { return l.mtu }
func (l *link) SetMTU(uint32)                           {}
func (l *link) MaxHeaderLength() uint16                 { return bridge.EthernetLen }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Wait()                                   {}
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) GSOMaxSize() uint32                      { return maxGSO }
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (l *link) IsAttached() bool                        { return l.dispatcher != nil }

// Capabilities says that Receive has looked at checksums. Link addresses are the bridge's affair, so none are resolved.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Attach takes the dispatcher that packets are delivered to. The one that it had stays when the NIC is removed: threads may still be in
// it.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d != nil {
		l.dispatcher = d
	}
}
