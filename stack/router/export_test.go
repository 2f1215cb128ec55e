package router

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// BreakNetstack makes netstack panic on the next packet that it is given, and hold a lock from then on.
func (r *Router) BreakNetstack() { r.link.dispatcher = new(broken) }

type broken struct{ sync.Mutex }

func (b *broken) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {
	b.Lock()
	panic("broken")
}

func (*broken) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// Settled reports whether netstack has seen to all that the data path has left for it.
func (r *Router) Settled() bool {
	r.link.inbox.mu.Lock()
	defer r.link.inbox.mu.Unlock()
	return !r.link.inbox.awake
}

// BreakTimer makes one of netstack's timers panic.
func (r *Router) BreakTimer() { r.stack.Clock().AfterFunc(0, func() { panic("broken timer") }) }

// What tests hold the router against.
const (
	MaxOpening     = maxOpening
	MaxOpeningFrom = maxOpeningFrom
	MaxLingering   = maxLingering
)

// Buffers returns how large the connection's buffers may get by now.
func (c *Conn) Buffers() (send, receive int64) {
	return c.ep.SocketOptions().GetSendBufferSize(), c.ep.SocketOptions().GetReceiveBufferSize()
}

// FixedSize is how large each buffer of the n-th connection of a container is.
var FixedSize = fixedSize
