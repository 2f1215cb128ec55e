package router

import (
	"context"
	"net"
	"net/netip"

	"github.com/weftnet/weft/stack/packet"
)

// Request is a connection that a container asks for. It is answered once; later answers do nothing.
type Request struct {
	Src, Dst netip.AddrPort
}

// Accept completes the handshake.
func (q *Request) Accept(ctx context.Context) (*Conn, error) { return nil, net.ErrClosed }

// Refuse answers with a reset.
func (q *Request) Refuse() {}

// Unreachable answers with an ICMP or ICMPv6 destination unreachable from the gateway, which quotes the container's SYN.
func (q *Request) Unreachable(code packet.Code) {}

// Ignore does not answer: the container tries again.
func (q *Request) Ignore() {}
