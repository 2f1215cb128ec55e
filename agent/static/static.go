// Package static reads the file of `weft agent --static`: the networks, endpoints and peers of one node, written down by a
// person instead of told by a cluster.
//
//	node ─┬─ underlay         where this node's tunnel ends
//	      └─ networks ─┬─ subnets, gateways, mtu
//	                   ├─ endpoints ── netns | pid | bridge    containers of this node, each with its MAC and addresses
//	                   ├─ remotes   ── vtep                    containers of other nodes
//	                   └─ vteps                                kernel VTEPs and others that nobody describes further
//
// A file is checked as a whole: Load and Parse return either a Config in which every default is filled in and every rule
// holds, or an *Error with all faults, each at its line. The format is YAML 1.2 without anchors and aliases.
package static

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// Config is a checked file.
type Config struct {
	Node     string
	Underlay Underlay
	Threads  int // forwarding threads; 0 = by cores
	Networks []Network
}

// Underlay is where this node's tunnel ends.
type Underlay struct {
	Address  netip.Addr
	Port     uint16
	Checksum vxlan.Checksum
}

// Network is one layer-2 segment.
type Network struct {
	Name       string
	VNI        vxlan.VNI
	Subnets    []netip.Prefix
	Gateways   []netip.Addr // Gateways[i] is that of Subnets[i]
	MTU        int          // 0 = computed from the underlay
	AllowSpoof bool         // containers may send from MACs and addresses that are not theirs
	Endpoints  []Endpoint
	Remotes    []Remote
	VTEPs      []netip.Addr
}

// Prefix returns addr with the length of its subnet in n, the form in which an interface gets it. It is the zero Prefix
// for an address outside.
func (n *Network) Prefix(addr netip.Addr) netip.Prefix {
	for _, s := range n.Subnets {
		if s.Contains(addr) {
			return netip.PrefixFrom(addr, s.Bits())
		}
	}
	return netip.Prefix{}
}

// Endpoint is a container of this node. Exactly one of NetNS, PID and Bridge is set. Endpoints behind the same bridge are
// on one network and share one port; what concerns the port (Interface, Queues, Persistent) is the same in all of them.
type Endpoint struct {
	Name       string
	NetNS      string // path of its network namespace
	PID        int    // a process in its network namespace
	Bridge     *Bridge
	Interface  string
	Addresses  []netip.Addr
	MAC        frame.MAC
	Routes     []Route
	Queues     int
	Persistent bool
}

// Bridge is a Linux bridge that already holds the containers.
type Bridge struct {
	Name  string
	NetNS string // path of the bridge's network namespace; empty: the agent's own
}

// Route is a route that the container gets.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Remote is a container of another node.
type Remote struct {
	Name      string
	MAC       frame.MAC
	Addresses []netip.Addr
	VTEP      netip.Addr
}

// Fault is one thing that is wrong in a file.
type Fault struct {
	Line int
	Text string // names the value, what was expected, and the remedy
}

// Error holds everything that is wrong in a file, by line.
type Error struct {
	File   string // empty for Parse
	Faults []Fault
}

// Error lists the faults, a line each, as file:line: text.
func (e *Error) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteByte('\n')
		}
		if e.File == "" {
			fmt.Fprintf(&b, "line %d: %s", f.Line, f.Text)
		} else {
			fmt.Fprintf(&b, "%s:%d: %s", e.File, f.Line, f.Text)
		}
	}
	return b.String()
}

// Load reads and checks the file at path.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	return parse(path, data)
}

// Parse checks a file's content.
func Parse(data []byte) (*Config, error) { return parse("", data) }

// parse does the work of both. One pass does everything: a value is checked against those before it where it is read, which
// is where its line is known.
func parse(file string, data []byte) (*Config, error) {
	r := &reader{}
	c := &checker{reader: r}
	if root := r.document(data); root != nil {
		c.config(root)
	}
	if len(r.faults) > 0 {
		return nil, &Error{File: file, Faults: r.sorted()}
	}
	return &c.cfg, nil
}
