// Package static reads the file of `weft agent --static`: the networks, endpoints and peers of one node, written down by a
// person instead of told by a cluster.
//
//	node ─┬─ underlay         where this node's tunnel ends
//	      └─ networks ─┬─ subnets, gateways, mtu, egress
//	                   ├─ endpoints ── netns | pid | bridge    containers of this node, each with its MAC and addresses
//	                   ├─ remotes   ── vtep                    containers of other nodes
//	                   └─ vteps                                kernel VTEPs and others that nobody describes further
//
// A file is checked as a whole: Load and Parse return either a Config in which every default is filled in and every rule
// holds, or an *Error with all faults, each at its line. The format is YAML 1.2 without anchors and aliases.
package static

import (
	"fmt"
	"os"
	"strings"

	"github.com/weftnet/weft/agent/plan"
)

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
func Load(path string) (*plan.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	return parse(path, data)
}

// Parse checks a file's content.
func Parse(data []byte) (*plan.Config, error) { return parse("", data) }

// parse does the work of both. One pass does everything: a value is checked against those before it where it is read, which
// is where its line is known.
func parse(file string, data []byte) (*plan.Config, error) {
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
