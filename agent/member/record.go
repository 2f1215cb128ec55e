package member

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/stack/frame"
)

// record is an endpoint as it is told to other nodes; its key is the endpoint's ID.
type record struct {
	Name      string       `json:"n"`
	Hostname  string       `json:"h,omitempty"`
	Service   string       `json:"s,omitempty"`
	MAC       frame.MAC    `json:"m"`
	Addresses []netip.Addr `json:"a"`
	Aliases   []string     `json:"l,omitempty"`
	Ports     ports        `json:"p,omitempty"`
	Created   time.Time    `json:"c"`
}

// maxRecord is how many bytes of an endpoint are told: a record fits a packet.
const maxRecord = 1000

// names are what the container is found by, on the node of that name.
func (r *record) names(node string) dns.Names {
	return dns.Names{Hostname: r.Hostname, Service: r.Service, Aliases: r.Aliases, Ports: r.Ports, Node: node, Since: r.Created}
}

// ports travel as text in the form of endpoint.ParsePorts, with commas between them and ranges where there are some: "http=80,8000-8063/udp".
type ports []dns.Port

// MarshalText writes the ports as they travel (encoding.TextMarshaler).
func (p ports) MarshalText() ([]byte, error) {
	var b []byte
	for i := 0; i < len(p); {
		first, n := p[i], 1
		for i+n < len(p) && p[i+n].Name == first.Name && p[i+n].Protocol == first.Protocol && int(p[i+n].Number) == int(first.Number)+n {
			n++
		}
		i += n
		if len(b) > 0 {
			b = append(b, ',')
		}
		if first.Name != "" {
			b = append(append(b, first.Name...), '=')
		}
		if b = strconv.AppendUint(b, uint64(first.Number), 10); n > 1 {
			b = strconv.AppendUint(append(b, '-'), uint64(first.Number)+uint64(n)-1, 10)
		}
		if first.Protocol != "tcp" {
			b = append(append(b, '/'), first.Protocol...)
		}
	}
	return b, nil
}

// UnmarshalText reads what MarshalText wrote, and refuses what no node writes (encoding.TextUnmarshaler).
func (p *ports) UnmarshalText(text []byte) (err error) {
	if *p = nil; len(text) > 0 {
		*p, err = endpoint.ParsePorts(strings.Split(string(text), ","))
	}
	return err
}

func recordOf(e *endpoint.Endpoint) record {
	return record{
		Name: e.Container.Name, Hostname: e.Container.Hostname, Service: e.Container.Service,
		MAC: e.MAC, Addresses: e.Addresses, Aliases: e.Aliases, Ports: e.Container.Ports, Created: e.Created,
	}
}

func encode(e *endpoint.Endpoint) ([]byte, error) {
	return json.Marshal(recordOf(e))
}

func decode(value []byte) (r record, err error) {
	if err := json.Unmarshal(value, &r); err != nil {
		return r, err
	}
	names := append([]string{r.Name}, r.Aliases...)
	for _, optional := range []string{r.Hostname, r.Service} {
		if optional != "" {
			names = append(names, optional)
		}
	}
	switch {
	case slices.ContainsFunc(names, func(name string) bool { return !nameForm.MatchString(name) }):
		err = fmt.Errorf("names %q", names) // they go to terminals and into hosts files
	case r.MAC == 0 || r.MAC.IsGroup():
		err = fmt.Errorf("MAC %s", r.MAC)
	case len(r.Addresses) == 0:
		err = fmt.Errorf("no addresses")
	}
	return r, err
}

// tell puts the records of this node's endpoints in a network, and withdraws those of endpoints that are no more.
func (m *Member) tell(id state.NetworkID) {
	mine := make(map[string][]byte)
	for _, r := range m.gossip.Load().Records(id) {
		if r.Owner == m.cluster.ID() {
			mine[r.Key] = r.Value
		}
	}
	for _, e := range m.store.In(id) {
		value, err := encode(e)
		if err == nil && string(mine[e.ID]) != string(value) {
			err = m.gossip.Load().Put(id, e.ID, value)
		}
		if err != nil {
			m.problem("endpoint %s cannot be told to other nodes: %v", e.Container.Name, err)
		}
		delete(mine, e.ID)
	}
	for key := range mine {
		m.gossip.Load().Delete(id, key)
	}
}

// remote is an endpoint of another node that may be believed.
type remote struct {
	record
	id     string
	owner  *state.Node
	hidden bool
}

func (r *remote) source() source { return source{r.owner.ID, r.id} }

// byRight reports whether the endpoint's MAC is the one that follows from its address, which its node leases: nobody else can have it.
func (r *record) byRight() bool { return r.MAC == macOf(r.Addresses[0]) }

// remotes returns the endpoints of other nodes in a network. What a node says beyond its lease is left out and shown as a problem, and so
// is a MAC that the gateway, an endpoint here, or one with a better claim has: by right before by wish, then the older one.
func (m *Member) remotes(st *state.State, n *state.Network) []remote {
	if m.gossip.Load() == nil || !m.entered[n.ID] {
		return nil
	}
	var all []remote
	leases := make(map[identity.NodeID]*state.Lease)
	for _, r := range m.gossip.Load().Records(n.ID) {
		owner := st.Nodes[r.Owner]
		if r.Owner == m.cluster.ID() || owner == nil {
			continue
		}
		rec, err := decode(r.Value)
		if err != nil {
			m.problem("network %s: record %s of node %s is refused: %v", n.Name, r.Key, owner.Name, err)
			continue
		}
		lease, ok := leases[r.Owner]
		if !ok {
			lease = st.Lease(n.ID, r.Owner)
			leases[r.Owner] = lease
		}
		if a, ok := within(lease, rec.Addresses); !ok {
			m.problem("network %s: endpoint %s of node %s is refused: it has %s, which its node does not lease", n.Name, rec.Name, owner.Name, a)
			continue
		}
		all = append(all, remote{rec, r.Key, owner, r.Hidden})
	}
	slices.SortFunc(all, func(a, b remote) int {
		if a.byRight() != b.byRight() {
			if a.byRight() {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.id, b.id))
	})
	macs, mine := map[frame.MAC]string{macOf(n.Subnets[0].Gateway): "the gateway"}, st.Lease(n.ID, m.cluster.ID())
	for _, e := range m.store.In(n.ID) {
		if _, ok := within(mine, e.Addresses); ok {
			macs[e.MAC] = e.Container.Name
		}
	}
	return slices.DeleteFunc(all, func(r remote) bool {
		if holder := macs[r.MAC]; holder != "" {
			m.problem("network %s: endpoint %s of node %s is refused: its MAC %s is that of %s", n.Name, r.Name, r.owner.Name, r.MAC, holder)
			return true
		}
		macs[r.MAC] = r.Name
		return false
	})
}

// within reports whether all addresses are in the lease, and which is not.
func within(l *state.Lease, addrs []netip.Addr) (netip.Addr, bool) {
	for _, a := range addrs {
		if l == nil {
			return a, false
		}
		if _, ok := slices.BinarySearchFunc(l.Addresses, a, netip.Addr.Compare); !ok {
			return a, false
		}
	}
	return netip.Addr{}, true
}
