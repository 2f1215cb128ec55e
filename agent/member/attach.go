package member

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/stack/frame"
)

// syncTime is how long attaching waits for a network's records.
const syncTime = 5 * time.Second

// nameForm is how containers, their aliases and host names may be called (as Docker's containers).
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// Attach attaches a container to networks, all or none (api.Endpoints).
func (m *Member) Attach(ctx context.Context, req api.AttachRequest) ([]api.Endpoint, error) {
	c, err := container(&req)
	if err != nil {
		return nil, refuse(err)
	}
	st := m.cluster.State()
	if st == nil {
		return nil, refuse(errNoMember)
	}
	a := &attaching{m: m, container: c}
	defer a.end()
	if err := a.choose(st, req.Networks); err != nil {
		return nil, refuse(err)
	}
	if err := a.begin(); err != nil {
		return nil, refuse(err)
	}
	for i := range a.parts {
		if err := a.lease(ctx, &a.parts[i]); err != nil {
			return nil, refuse(err)
		}
	}
	a.sync(ctx)
	if err := a.enter(); err != nil {
		return nil, refuse(err)
	}
	a.announce(ctx)
	return a.answer(), nil
}

// container checks who is to be attached.
func container(req *api.AttachRequest) (endpoint.Container, error) {
	c := endpoint.Container{
		Name: req.Name, Hostname: req.Hostname, Service: req.Service, PID: req.PID, NetNS: req.NetNS, Bridge: req.Bridge, Supervisor: req.Supervisor,
		Ports: req.Ports,
	}
	for _, n := range []struct{ what, name string }{{"container name", req.Name}, {"host name", req.Hostname}, {"service name", req.Service}} {
		if (n.name != "" || n.what == "container name") && !nameForm.MatchString(n.name) {
			return c, deny(state.ErrInvalid, "%s %q; expected 1 to 63 letters, digits, '_', '.' and '-', beginning with a letter or digit", n.what, n.name)
		}
	}
	if err := endpoint.CheckPorts(req.Ports); err != nil {
		return c, deny(state.ErrInvalid, "%w", err)
	}
	given := 0
	for _, g := range []bool{req.PID != 0, req.NetNS != "", req.Bridge != ""} {
		if g {
			given++
		}
	}
	if given != 1 || req.PID < 0 {
		return c, deny(state.ErrInvalid, "%d of pid, netns and bridge are given; expected exactly one, a pid being positive", given)
	}
	if req.Bridge != "" {
		return c, nil
	}
	var err error
	c.Space, err = endpoint.SpaceAt(c.Path())
	if errors.Is(err, fs.ErrPermission) {
		return c, deny(state.ErrDenied, "%w; it is root's, another user's, or in another user namespace than this agent, which runs as an ordinary user: an agent of that user, in that user namespace, can attach it", err)
	} else if err != nil {
		return c, deny(state.ErrInvalid, "%w; is the container running?", err)
	}
	return c, nil
}

// attaching is one attachment under way.
type attaching struct {
	m         *Member
	container endpoint.Container
	parts     []part
	named     bool
}

// part is one network of it.
type part struct {
	network  *state.Network
	wish     api.Attachment
	endpoint *endpoint.Endpoint
	reserved []netip.Addr
	warning  string
}

// choose finds the networks, and refuses those that the container cannot be on.
func (a *attaching) choose(st *state.State, wishes []api.Attachment) error {
	if len(wishes) == 0 {
		return deny(state.ErrInvalid, "no network is named; expected at least one")
	}
	self := st.Nodes[a.m.cluster.ID()]
	if self == nil {
		return deny(state.ErrDenied, "this node was removed from the cluster; weft leave --force, then join again")
	}
	if self.Availability == state.Drain {
		return deny(state.ErrDenied, "node %s is drained and takes no containers; weft node activate %s", self.Name, self.Name)
	}
	for _, w := range wishes {
		n, err := st.Network(w.Network)
		if err != nil {
			return err
		}
		switch {
		case slices.ContainsFunc(a.parts, func(p part) bool { return p.network.ID == n.ID }):
			return deny(state.ErrInvalid, "network %s is named twice; name it once, with all its options", n.Name)
		case n.Encrypted:
			return deny(state.ErrDenied, "network %s is encrypted, and this version of weft cannot encrypt: attaching is refused rather than done in clear", n.Name)
		case n.Ingress:
			return deny(state.ErrDenied, "network %s is for published ports; attach to a network of your own", n.Name)
		case n.Driver == state.Bridge && n.Node != self.ID:
			return deny(state.ErrDenied, "network %s is a bridge of node %s; attach there, or use an overlay network", n.Name, nodeName(st, n.Node))
		}
		if err := check(n, &w); err != nil {
			return err
		}
		a.parts = append(a.parts, part{network: n, wish: w})
	}
	return nil
}

// check refuses wishes that the network cannot fulfil.
func check(n *state.Network, w *api.Attachment) error {
	v4, v6 := 0, 0
	for _, addr := range w.Addresses {
		if !slices.ContainsFunc(n.Subnets, func(s state.Subnet) bool { return s.Prefix.Contains(addr) }) {
			return deny(state.ErrInvalid, "address %s is outside network %s, which has %s", addr, n.Name, subnets(n))
		}
		if addr.Is4() {
			v4++
		} else {
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return deny(state.ErrInvalid, "network %s: addresses %s; expected at most one of each family", n.Name, parted(w.Addresses))
	}
	for _, alias := range w.Aliases {
		if !nameForm.MatchString(alias) {
			return deny(state.ErrInvalid, "alias %q; expected 1 to 63 letters, digits, '_', '.' and '-'", alias)
		}
	}
	if w.MAC != nil && (*w.MAC == 0 || w.MAC.IsGroup()) {
		return deny(state.ErrInvalid, "MAC %s is no individual address; clear the lowest bit of its first byte", *w.MAC)
	}
	return nil
}

func subnets(n *state.Network) string {
	s := ""
	for i, sub := range n.Subnets {
		if i > 0 {
			s += ", "
		}
		s += sub.Prefix.String()
	}
	return s
}

// begin takes the container's name on this node, and its interfaces' names.
func (a *attaching) begin() error {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	name := a.container.Name
	if a.m.naming[name] {
		return deny(state.ErrInUse, "container %s is being attached by another command; wait for it", name)
	}
	taken, metrics := make(map[string]bool), make(map[int]bool)
	for _, e := range a.m.store.All() {
		same := e.Container.Space == a.container.Space && e.Container.Bridge == a.container.Bridge
		switch {
		case e.Container.Name != name:
		case !same:
			return deny(state.ErrExists, "container %s is attached already, in another namespace (%s); choose another name, or weft detach %s", name, &e.Container, name)
		case slices.ContainsFunc(a.parts, func(p part) bool { return p.network.ID == e.Network }):
			return deny(state.ErrExists, "container %s is on that network already, as %s; weft detach it first", name, parted(e.Addresses))
		}
		if same && a.container.Bridge == "" {
			taken[e.Interface], metrics[e.Metric] = true, true
		}
	}
	for i := range a.parts {
		p := &a.parts[i]
		iface := p.wish.Interface
		switch {
		case iface != "" && taken[iface]:
			return deny(state.ErrInUse, "interface %s of container %s belongs to another of its networks; choose another name", iface, name)
		case iface == "" && a.container.Bridge != "":
			iface = a.behind(p.network)
		case iface == "":
			for k := 0; iface == "" || taken[iface] || a.asked(iface); k++ {
				iface = fmt.Sprintf("eth%d", k)
			}
		}
		taken[iface] = true
		p.endpoint = &endpoint.Endpoint{ID: newID(), Container: a.container, Network: p.network.ID, Interface: iface, Aliases: p.wish.Aliases}
		if a.container.Bridge == "" {
			p.endpoint.Metric = metricOf(iface, metrics)
			metrics[p.endpoint.Metric] = true
		}
		a.m.busy[p.network.ID]++
	}
	a.m.naming[name], a.named = true, true
	return nil
}

// behind names the device by which a network reaches the bridge: the one that does so already, or else weft and the VNI, with a
// number if another bridge has that. The caller holds the lock.
func (a *attaching) behind(n *state.Network) string {
	used := make(map[string]bool)
	for _, e := range a.m.store.All() {
		switch {
		case e.Container.Bridge == "":
		case e.Container.Bridge == a.container.Bridge && e.Network == n.ID:
			return e.Interface
		default:
			used[e.Interface] = true
		}
	}
	name := fmt.Sprintf("weft%d", n.VNI)
	for k := 2; used[name]; k++ {
		name = fmt.Sprintf("weft%d.%d", n.VNI, k)
	}
	return name
}

// asked reports whether one of the networks asks for this interface name.
func (a *attaching) asked(iface string) bool {
	return slices.ContainsFunc(a.parts, func(p part) bool { return p.wish.Interface == iface })
}

// lease gets the addresses of one network.
func (a *attaching) lease(ctx context.Context, p *part) (err error) {
	if p.reserved, err = a.m.reserve(ctx, p.network.ID, p.wish.Addresses); err != nil {
		return err
	}
	e := p.endpoint
	e.Addresses = p.reserved
	if p.wish.MAC != nil {
		e.MAC = *p.wish.MAC
	} else {
		e.MAC = macOf(e.Addresses[0])
	}
	value, err := encode(e)
	if err == nil && len(value) > maxRecord {
		err = deny(state.ErrInvalid, "container %s: its names and exposed ports take %d bytes, and other nodes are told %d at most; use fewer or shorter aliases, and fewer named ports", e.Container.Name, len(value), maxRecord)
	}
	return err
}

// macOf returns the MAC that follows from an address, as Docker's does: 02:42 and its last four bytes.
func macOf(a netip.Addr) frame.MAC {
	b := a.AsSlice()
	return frame.MAC(0x0242_0000_0000 | uint64(binary.BigEndian.Uint32(b[len(b)-4:])))
}

// sync waits until this node has the networks' records, so that the container's first lookup does not miss (moby#34596).
func (a *attaching) sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	a.m.follow() // enters networks that the leases are new in
	for i := range a.parts {
		p := &a.parts[i]
		if p.network.Driver == state.Bridge {
			continue
		}
		g := a.m.gossip.Load()
		err := errors.New("gossip does not run")
		if g != nil {
			err = g.Sync(ctx, p.network.ID)
		}
		if err != nil {
			p.warning = fmt.Sprintf("the other nodes' records of network %s are not complete yet: %v", p.network.Name, err)
			a.m.log.Warn("attached before the network's records are complete", "network", p.network.Name, "container", a.container.Name, "error", err)
		}
	}
}

// enter makes the endpoints this node's, and the data plane attach them.
func (a *attaching) enter() error {
	m := a.m
	if err := a.container.Alive(); err != nil { // its PID may be another's since the request came
		return deny(state.ErrNotFound, "container %s: %w", a.container.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := a.unique(); err != nil {
		return err
	}
	var all []*endpoint.Endpoint
	for i := range a.parts {
		a.parts[i].endpoint.Created = time.Now().UTC().Truncate(time.Millisecond)
		all = append(all, a.parts[i].endpoint)
	}
	if err := m.store.Add(all...); err != nil {
		return err
	}
	m.followLocked()
	var errs []error
	for _, p := range a.parts {
		errs = append(errs, m.cfg.Plane.Fault(p.network.VNI, a.container.Name))
	}
	if err := errors.Join(errs...); err != nil {
		err = errors.Join(err, m.store.Remove(all...))
		m.followLocked()
		return err
	}
	m.log.Info("attached", "container", a.container.Name, "networks", len(a.parts), "at", a.container.String())
	return nil
}

// unique refuses a MAC that something else on its network has.
func (a *attaching) unique() error {
	st := a.m.cluster.State()
	if st == nil {
		return errNoMember
	}
	for _, p := range a.parts {
		mac, holder := p.endpoint.MAC, ""
		if mac == macOf(p.network.Subnets[0].Gateway) {
			holder = "the gateway"
		}
		for _, e := range a.m.endpoints(st, p.network) {
			if e.MAC == mac {
				holder = e.Name + " on node " + e.Node
			}
		}
		if holder != "" {
			return deny(state.ErrInUse, "MAC %s on network %s is that of %s; choose another", mac, p.network.Name, holder)
		}
	}
	return nil
}

// end gives up what only an attachment under way holds.
func (a *attaching) end() {
	a.m.mu.Lock()
	for _, p := range a.parts {
		if p.endpoint != nil {
			a.m.busy[p.network.ID]--
		}
		a.m.unreserve(p.network.ID, p.reserved)
	}
	if a.named {
		delete(a.m.naming, a.container.Name)
	}
	a.m.mu.Unlock()
	a.m.Wake()
}

func (a *attaching) answer() (all []api.Endpoint) {
	st := a.m.cluster.State()
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	for _, p := range a.parts {
		e := a.m.describe(st, p.network, p.endpoint)
		e.Warning = p.warning
		all = append(all, e)
	}
	return all
}

// newID returns 16 random bytes in hexadecimal.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
