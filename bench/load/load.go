// Package load generates traffic between two containers and counts what arrived.
//
// Each end is a process of its own, started in the container's namespace, so that neither disturbs the other; the harness
// drives both over their standard input and output, a line at a time:
//
//	harness                 server               client
//	   ├── spec (JSON) ──────►│ listens             │
//	   │◄────────── {"ready"} ┤                     │
//	   ├── spec (JSON) ───────┼────────────────────►│ connects
//	   │◄─────────────────────┼─────────── {"ready"}┤
//	   ├── start ─────────────┼────────────────────►│ traffic flows: the warm-up
//	   ├── begin ────────────►│────────────────────►│ counters and clock are read
//	   ├── end ──────────────►│────────────────────►│ and read again
//	   │◄──────────── {result}┤◄─────────── {result}┤
//	   ├── end of input ─────►│────────────────────►│ both exit
//
// A process whose standard input closes exits: nothing survives the harness. The generators make plain blocking system
// calls on threads of their own, without Go's poller or collector in the way, to be faster than what they measure.
package load

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/bench/histogram"
)

// Kind is what a load does.
type Kind string

// The kinds of load.
const (
	Stream   Kind = "stream"   // TCP in bulk, from client to server
	Reverse  Kind = "reverse"  // TCP in bulk, from server to client
	Datagram Kind = "datagram" // UDP datagrams from client to server, as fast as they can be sent
	Echo     Kind = "echo"     // one TCP connection: a byte there, a byte back
	Connect  Kind = "connect"  // TCP connect, a byte there, a byte back, close
	Query    Kind = "query"    // DNS queries over UDP, many at once; the server is a resolver that is there already
)

// Port is where servers listen. They have a namespace to themselves.
const Port = 5201

// resolverPort is where a resolver listens (RFC 1035 §4.2.1).
const resolverPort = 53

// Spec describes a load. It has the same values for both ends.
type Spec struct {
	Kind    Kind       `json:"kind"`
	Server  netip.Addr `json:"server"`            // where the client reaches the server
	Streams int        `json:"streams,omitempty"` // Stream, Reverse: how many connections; 0 is one
	Size    int        `json:"size,omitempty"`    // Datagram: bytes in each
	Names   []string   `json:"names,omitempty"`   // Query: what is asked for, in turn; the server has an IPv4 address for each

	Congestion string `json:"congestion,omitempty"` // congestion control of TCP; empty: the host's own
}

// Result is what one end counted between begin and end.
type Result struct {
	Seconds  float64              `json:"seconds"`           // from begin to end by this end's clock
	CPU      float64              `json:"cpu"`               // processor time of this end's process
	Bytes    uint64               `json:"bytes"`             // received (bulk, at the receiving end)
	Count    uint64               `json:"count"`             // datagrams received or sent, or transactions done
	Expected uint64               `json:"expected"`          // datagrams that the sequence numbers seen by the server promise; Query: answered and lost
	Latency  *histogram.Histogram `json:"latency,omitempty"` // how long each transaction took (Echo, Connect, Query; the client)
}

// Loss is the share of datagrams, or queries, that were sent and did not arrive, or were not answered, from 0 to 1.
func (r Result) Loss() float64 {
	if r.Expected <= r.Count {
		return 0
	}
	return 1 - float64(r.Count)/float64(r.Expected)
}

// sequenceLen is how many bytes of each datagram its number takes.
const sequenceLen = 8

// maxDatagram is the largest datagram that the server's buffers hold.
const maxDatagram = 8192

func (s Spec) streams() int { return max(s.Streams, 1) }

func (s Spec) check() error {
	if !s.Server.IsValid() {
		return fmt.Errorf("load: the server's address is missing")
	}
	switch s.Kind {
	case Stream, Reverse, Echo, Connect:
		return nil
	case Datagram:
		if s.Size < sequenceLen || s.Size > maxDatagram {
			return fmt.Errorf("load: datagrams of %d bytes; expected %d to %d", s.Size, sequenceLen, maxDatagram)
		}
		return nil
	case Query:
		if len(s.Names) == 0 {
			return fmt.Errorf("load: no names to ask for; expected at least one")
		}
		for _, name := range s.Names {
			if _, err := question(name); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("load: kind %q; expected %s, %s, %s, %s, %s or %s", s.Kind, Stream, Reverse, Datagram, Echo, Connect, Query)
}
