package router

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// BreakNetstack makes netstack panic on the next packet that it is given.
func (r *Router) BreakNetstack() { r.link.dispatcher = broken{} }

type broken struct{}

func (broken) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { panic("broken") }
func (broken) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// BreakTimer makes one of netstack's timers panic.
func (r *Router) BreakTimer() { r.stack.Clock().AfterFunc(0, func() { panic("broken timer") }) }

// What tests hold the router against.
const (
	MaxOpening      = maxOpening
	MaxOpeningFrom  = maxOpeningFrom
	MaxGathered     = maxGathered
	MaxGatheredFrom = maxGatheredFrom
	GatherTimeout   = gatherTimeout
)

// Gatherer is what puts fragments together.
type Gatherer struct{ f *fragments }

func NewGatherer() *Gatherer { return &Gatherer{newFragments()} }

// Add takes a fragment, and lets go of what becomes of it.
func (g *Gatherer) Add(f *frame.Frame) drop.Reason {
	a, reason := g.f.add(f)
	if a != nil {
		g.f.release(a)
	}
	return reason
}

func (g *Gatherer) Stats() FragmentStats { return g.f.stats() }
func (g *Gatherer) Close()               { g.f.close() }
