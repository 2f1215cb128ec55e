package dns

import (
	"net/netip"
	"strings"
)

// Zone is all that a node's containers may ask of the cluster, compiled for answering. It does not change.
type Zone struct {
	domain     string // in lower case, without a dot at its end
	authority  []byte // MNAME and RNAME of our SOA
	ttl        uint32
	networks   map[string]*network
	containers map[string]*asker
	host       *entry
	subnets    prefixes            // of all of the cluster's networks
	claims     map[string]struct{} // networks below which nothing is asked of others
	private    map[string]struct{} // names with dots of all networks that end in no top-level domain
}

// network is one network's names.
type network struct {
	name     string
	folded   string // in lower case
	internal bool
	public   bool // called as a top-level domain is
	subnets  prefixes
	names    map[string]*entry
	reverse  map[netip.Addr]*member
	gateway  *entry
	askers   map[netip.Addr]*asker
	stranger *asker // whose address no container of this node has
}

// asker is who asks by one network.
type asker struct {
	container string     // empty: unknown
	quota     string     // what its limits are counted under
	networks  []*network // in order of search
	internal  bool       // all of them are
}

// member is what names lead to: a container on a network, or a service with its VIPs, a gateway, or this node.
type member struct {
	name    string
	network *network // nil: this node
	record  *Record  // nil: no container
	v4, v6  []netip.Addr
	ports   []Port
}

func (m *member) hidden() bool { return m.record != nil && m.record.Hidden }

// What a name is to a member.
const (
	asName     = "name"
	asHostname = "hostname"
	asAlias    = "alias"
	asService  = "service"
	asTask     = "task"
	asVIP      = "vip"
	asGateway  = "gateway"
	asHost     = "host"
)

// entry is a name, with what it leads to and its addresses: those of all its members that are not hidden.
type entry struct {
	sources []source
	v4, v6  []netip.Addr
}

type source struct {
	*member
	as string
}

func (e *entry) live() bool {
	for i := range e.sources {
		if !e.sources[i].hidden() {
			return true
		}
	}
	return len(e.sources) == 0
}

// asker returns who has an address on a network; nil if there is no such network.
func (z *Zone) asker(network string, source netip.Addr) *asker {
	n := z.networks[network]
	if n == nil {
		return nil
	}
	if a := n.askers[source.Unmap().WithZone("")]; a != nil {
		return a
	}
	return n.stranger
}

// on reports whether the asker is on a network.
func (a *asker) on(n *network) bool {
	for _, o := range a.networks {
		if o == n {
			return true
		}
	}
	return false
}

// appendName appends a name in wire form. It reports false, and appends nothing, if the name has no such form.
func appendName(b []byte, names ...string) ([]byte, bool) {
	start := len(b)
	for _, name := range names {
		for label := range strings.SplitSeq(name, ".") {
			if len(label) == 0 || len(label) > 63 {
				return b[:start], false
			}
			b = append(b, byte(len(label)))
			b = append(b, label...)
		}
	}
	if b = append(b, 0); len(b)-start > maxName {
		return b[:start], false
	}
	return b, true
}

// maxName is the length of the longest name in wire form (RFC 1035 §2.3.4).
const maxName = 255
