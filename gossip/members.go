package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
)

// member is a node as this one sees it. g.mu guards it.
type member struct {
	id    identity.NodeID
	node  *memberlist.Node // nil for one that memberlist has not told of
	state Liveness
	since time.Time // when it got into this state
	seen  time.Time // when it was last alive, if it is not now; for one that never was, when this node learnt of it
	heard time.Time // when a message of it last came
	// asked is when a digest went to it that it has not answered, nor sent anything since.
	asked    time.Time
	checking bool
	checked  time.Time // when it was last pinged for not answering
	// guess is set while memberlist has not told of the node though fresh records of it came: until then it counts as alive.
	guess time.Time
	// unsure is set while this node has its state from others alone, and has not tried yet to reach it.
	unsure   bool
	expelled bool // the directory does not know it
}

// create makes the memberlist.
func (g *Gossip) create() error {
	c := g.cfg.Profile.memberlist()
	c.Name = g.cfg.Self.String()
	c.Delegate, c.Events, c.Alive = delegate{g}, events{g}, alive{g}
	c.Logger = log.New(logWriter{g.log}, "", 0)
	g.ring = &memberlist.Keyring{}
	c.Keyring = g.ring
	if err := g.SetKeys(g.cfg.Keys); err != nil {
		return err
	}
	if g.cfg.Advertise.IsValid() {
		c.AdvertiseAddr, c.AdvertisePort = g.cfg.Advertise.Addr().String(), int(g.cfg.Advertise.Port())
	}
	c.Transport = g.cfg.Transport
	if c.Transport == nil {
		nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{g.cfg.Bind.Addr().String()}, BindPort: int(g.cfg.Bind.Port()), Logger: c.Logger,
		})
		if err != nil {
			return fmt.Errorf("gossip: listen on %s, TCP and UDP: %w", g.cfg.Bind, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		c.Transport = &transport{NetTransport: nt, ctx: ctx, cancel: cancel}
		c.BindPort = nt.GetAutoBindPort()
		if c.AdvertisePort == 0 || !g.cfg.Advertise.IsValid() {
			c.AdvertisePort = c.BindPort
		}
	}
	list, err := memberlist.Create(c)
	if err != nil {
		return errors.Join(fmt.Errorf("gossip: %w", err), c.Transport.Shutdown())
	}
	g.list, g.addr = list, addrOf(list.LocalNode())
	return nil
}

// transport is memberlist's own, but that Close ends its dials.
type transport struct {
	*memberlist.NetTransport
	ctx    context.Context
	cancel context.CancelFunc
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(t.ctx, "tcp", a.Addr)
}

func (t *transport) Shutdown() error {
	t.cancel()
	return t.NetTransport.Shutdown()
}

// logWriter passes memberlist's lines on.
type logWriter struct{ *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.Debug(string(bytes.TrimSpace(line)))
	return len(line), nil
}

// SetKeys replaces the keys that seal all that travels.
func (g *Gossip) SetKeys(keys state.Keyring) error {
	if _, err := record.NewRing(keys); err != nil {
		return fmt.Errorf("gossip: set keys: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	wanted := make(map[string]bool)
	var primary []byte
	for _, k := range keys.Keys {
		wanted[string(k.Secret)] = true
		if k.Epoch == keys.Primary {
			primary = k.Secret
		}
	}
	install := func() error {
		for _, k := range keys.Keys {
			if err := g.ring.AddKey(k.Secret); err != nil {
				return err
			}
		}
		return g.ring.UseKey(primary)
	}
	if err := install(); err != nil {
		return fmt.Errorf("gossip: set keys: %w", err)
	}
	// RemoveKey shifts the keys in a slice that others may be reading, unless it removes the last one.
	for {
		have := g.ring.GetKeys()
		if !slices.ContainsFunc(have, func(k []byte) bool { return !wanted[string(k)] }) {
			return install()
		}
		if err := g.ring.RemoveKey(have[len(have)-1]); err != nil {
			return fmt.Errorf("gossip: set keys: %w", err)
		}
	}
}

func addrOf(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// delegate takes the messages in.
type delegate struct{ g *Gossip }

func (d delegate) NodeMeta(int) []byte             { return []byte{wire.Version} }
func (d delegate) NotifyMsg(b []byte)              { d.g.receive(b) }
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) LocalState(bool) []byte          { return nil }
func (d delegate) MergeRemoteState([]byte, bool)   {}

// alive refuses members that the directory does not know, and keeps where to find them in case it will.
type alive struct{ g *Gossip }

func (a alive) NotifyAlive(n *memberlist.Node) error {
	id, err := identity.ParseNodeID(n.Name)
	if err != nil {
		return err
	}
	if id == a.g.cfg.Self {
		return nil
	}
	if _, ok := a.g.cfg.Directory.PublicKey(id); ok {
		return nil
	}
	a.g.mu.Lock()
	defer a.g.mu.Unlock()
	if len(a.g.refused) < maxRefused {
		a.g.refused[id] = addrOf(n)
	}
	return fmt.Errorf("node %s is no member of the cluster", id)
}

// maxRefused bounds how many unknown members are remembered.
const maxRefused = 1024

// events keeps the members. memberlist's lock is held in its methods.
type events struct{ g *Gossip }

func (e events) NotifyJoin(n *memberlist.Node) {
	g := e.g
	id, err := identity.ParseNodeID(n.Name)
	if err != nil || id == g.cfg.Self {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.member(id)
	node := *n
	m.node, m.unsure, m.guess, m.asked = &node, false, time.Time{}, time.Time{}
	delete(g.refused, id)
	g.live(m, Alive)
	g.greet = append(g.greet, id)
	poke(g.nudge)
	poke(g.kick)
}

func (e events) NotifyUpdate(n *memberlist.Node) {
	g := e.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if id, err := identity.ParseNodeID(n.Name); err == nil && g.members[id] != nil {
		node := *n
		g.members[id].node = &node
	}
}

func (e events) NotifyLeave(n *memberlist.Node) {
	g := e.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if id, err := identity.ParseNodeID(n.Name); err == nil && g.members[id] != nil {
		g.live(g.members[id], Dead)
	}
}

// member returns the member of this ID, which is dead if it is new. g.mu is held, here and below.
func (g *Gossip) member(id identity.NodeID) *member {
	m := g.members[id]
	if m == nil {
		now := time.Now()
		m = &member{id: id, state: Dead, since: now, seen: now}
		g.members[id] = m
	}
	return m
}

// live changes a member's state.
func (g *Gossip) live(m *member, to Liveness) {
	if m.state == to {
		return
	}
	g.log.Debug("gossip: member", "node", m.id, "was", m.state, "is", to)
	if m.since = time.Now(); m.state == Alive {
		m.seen = m.since
	}
	m.state = to
	if to == Suspect {
		g.count.suspects.Add(1)
	}
	if to == Alive {
		for _, t := range g.tables {
			delete(t.gone, m.id)
		}
	}
	clear(g.peers)
	g.notify()
}

// peersOf returns the live members that a network's messages may be sent to: those that take part.
func (g *Gossip) peersOf(network state.NetworkID) []*member {
	if peers, ok := g.peers[network]; ok {
		return peers
	}
	name, cluster := network.String(), g.cluster()
	peers := []*member{}
	for id, m := range g.members {
		if m.state != Alive || m.node == nil {
			continue
		}
		if e := cluster.get(id, name); network.IsZero() || e != nil && !e.Deleted {
			peers = append(peers, m)
		}
	}
	slices.SortFunc(peers, func(a, b *member) int { return compareIDs(a.id, b.id) })
	g.peers[network] = peers
	return peers
}

// pick returns up to n random ones of the peers.
func (g *Gossip) pick(peers []*member, n int) []*member {
	if n >= len(peers) {
		return peers
	}
	out := make([]*member, 0, n)
	for len(out) < n {
		if m := peers[g.cfg.Rand.IntN(len(peers))]; !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// Members returns all nodes that were ever seen and still belong to the cluster, this one too, ordered by ID.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	all := []Member{{ID: g.cfg.Self, Addr: g.addr, State: Alive, LastSeen: now}}
	for id, m := range g.members {
		if _, ok := g.cfg.Directory.PublicKey(id); !ok {
			continue
		}
		seen := Member{ID: id, State: m.state, LastSeen: now, Addr: g.addrOf(m)}
		if m.state != Alive {
			seen.LastSeen = m.seen
		}
		all = append(all, seen)
	}
	slices.SortFunc(all, func(a, b Member) int { return compareIDs(a.ID, b.ID) })
	return all
}

// addrOf returns a member's address by memberlist, or else by its own record; zero if neither tells.
func (g *Gossip) addrOf(m *member) (addr netip.AddrPort) {
	if m.node != nil {
		return addrOf(m.node)
	}
	if e := g.cluster().get(m.id, nodeKey); e != nil {
		if err := addr.UnmarshalBinary(e.Value); err != nil {
			return netip.AddrPort{}
		}
	}
	return addr
}
