package simnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	queue   = 1024  // packets that wait for a node, as in a socket's receive buffer; more are dropped
	backlog = 128   // streams that wait for it; more are not answered
	biggest = 65507 // what UDP carries

	// repetition is how much later a lost chunk of a stream arrives: TCP's shortest retransmission timeout on Linux.
	repetition = 200 * time.Millisecond
)

// ErrCrashed is what a crashed node's own calls return.
var ErrCrashed = errors.New("simnet: this node has crashed")

// Transport is one node's access to the network, from Listen to Shutdown or Crash. It is a memberlist.Transport.
type Transport struct {
	net     *Network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{} // closed at the end

	gone bool // shut down or crashed; under net.mu
}

var _ memberlist.Transport = (*Transport)(nil)

func newBacklog() chan net.Conn { return make(chan net.Conn, backlog) }

// packet makes what memberlist wants to have. The copy is for receivers that decrypt in place: a duplicate shares b.
func packet(from netip.AddrPort, b []byte) *memberlist.Packet {
	return &memberlist.Packet{Buf: slices.Clone(b), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
}

// Addr is where the node listens.
func (t *Transport) Addr() netip.AddrPort { return t.addr }

// FinalAdvertiseAddr returns the node's address, whatever was configured.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo sends a packet. As on a real network no error says whether it arrives.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("simnet: send: %w", err)
	}
	if len(b) > biggest {
		return time.Time{}, fmt.Errorf("simnet: send to %s: %d bytes; expected at most %d", addr, len(b), biggest)
	}
	if t.ended() {
		return time.Time{}, fmt.Errorf("simnet: send to %s: %w", addr, net.ErrClosed)
	}
	now := time.Now()
	t.net.send(t.addr, to, slices.Clone(b))
	return now, nil
}

// PacketCh is where packets arrive.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is where streams arrive that others open.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout opens a stream, which takes one round trip.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("simnet: dial: %w", err)
	}
	trip := t.net.roundTrip(t.addr, to)
	answered := trip <= timeout
	timer := time.NewTimer(min(trip, timeout))
	defer timer.Stop()
	select {
	case <-t.done:
		return nil, fmt.Errorf("simnet: dial %s: %w", addr, net.ErrClosed)
	case <-timer.C:
	}
	if answered {
		c, err := t.net.connect(t, to)
		if !errors.Is(err, errSilence) {
			return c, err
		}
		timer.Reset(timeout - trip)
		select {
		case <-t.done:
		case <-timer.C:
		}
	}
	return nil, fmt.Errorf("simnet: dial %s: %w", addr, os.ErrDeadlineExceeded)
}

// Shutdown ends the node: it is not reached any more, and dials to it are refused. Its streams stay until they are closed.
func (t *Transport) Shutdown() error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	t.end()
	return nil
}

// end is what shutting down and crashing share. The network's lock is held.
func (t *Transport) end() {
	if !t.gone {
		t.gone = true
		close(t.done)
	}
}

func (t *Transport) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// errSilence is a dial that nobody answers.
var errSilence = errors.New("no answer")

// roundTrip draws how long it takes to open a stream.
func (n *Network) roundTrip(from, to netip.AddrPort) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	var trip time.Duration
	for _, r := range []path{{from, to}, {to, from}} {
		dice := n.draw(r.from, r.to)
		trip += n.delay(dice)
		if dice.Float64() < n.link.Loss {
			trip += repetition
		}
	}
	return trip
}

// connect makes the two ends of a stream and hands the other one over.
func (n *Network) connect(t *Transport, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	far := n.nodes[to]
	switch {
	case t.gone:
		return nil, fmt.Errorf("simnet: dial %s: %w", to, net.ErrClosed)
	case far == nil || n.cut(t.addr, to):
		return nil, errSilence
	case far.gone:
		return nil, fmt.Errorf("simnet: dial %s: %w", to, syscall.ECONNREFUSED)
	}
	p := newPipe(n, t.addr, to)
	select {
	case far.streams <- p.b:
	default:
		return nil, errSilence
	}
	n.pipes[p] = struct{}{}
	n.count(t.addr).Dials++
	return p.a, nil
}
