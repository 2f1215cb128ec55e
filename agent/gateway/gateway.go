// Package gateway gives the networks of a node their gateways: to each network with a container here a router (stack/router), names
// (dns) and a way out (egress).
//
//	plan.Config ─► Set.Plan ─┬─ router.New ────► bridge.Router, in the network's table
//	                         ├─ egress.Policy ─► what its containers reach beyond it
//	                         └─ dns.Compile ───► who may ask for what
//
// A router begins with its network's first container here and ends with the last. One that fails is made anew, and the others do not
// notice; where that happens again and again, also by crashes of the whole agent, the network is left without one for a while.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/dns/upstream"
	"github.com/weftnet/weft/egress"
	"github.com/weftnet/weft/stack/bridge"
	"github.com/weftnet/weft/stack/loop"
	"github.com/weftnet/weft/stack/router"
	"github.com/weftnet/weft/vxlan"
)

// Config is what the gateways of a node have in common. Zero fields are the packages' defaults.
type Config struct {
	Dir     string              // where faults are kept over a restart; empty: nowhere
	Servers []netip.AddrPort    // that are asked for names that are not the cluster's; none: the host's
	TTL     time.Duration       // of answers on the cluster's names
	Flows   int                 // that a container may have beyond its network
	Loop    *loop.Loop          // the thread that reads answers to datagrams, which outlives the Set; nil: one of its own
	Closed  []egress.Socket     // this agent's own, which no container reaches
	Host    func() []netip.Addr // by which containers reach this host
	Log     *slog.Logger
}

// Set is the gateways of a node. Plan, Router, Sweep and Close are for one goroutine at a time; the others may be called from any.
type Set struct {
	c        Config
	egress   *egress.Egress
	local    *egress.Local
	upstream *upstream.Resolver
	names    *dns.Server
	changed  chan struct{}
	old      []*gate      // that tables may still name
	host     []netip.Addr // this host's addresses as of the last Plan

	mu     sync.Mutex // guards what follows
	gates  map[vxlan.VNI]*gate
	avoid  map[netip.Addr]bool
	ledger *ledger
	off    map[string]time.Time // networks that are left without a router, and until when
	failed map[string]error     // networks whose router could not be made
	plan   *plan.Config
}

// gate is the gateway of one network.
type gate struct {
	network    string
	key        string // the same for plans that the same router fulfils
	router     *router.Router
	policy     *egress.Policy
	egress     *egress.Network
	containers map[netip.Addr]string
	stop       context.CancelFunc
	serving    sync.WaitGroup
	failed     chan struct{} // closed when the router has
}

// New returns the gateways of a node that has no network yet.
func New(c Config) (*Set, error) {
	s := &Set{c: c, changed: make(chan struct{}, 1), gates: make(map[vxlan.VNI]*gate), plan: &plan.Config{}}
	var err error
	if s.ledger, err = openLedger(c.Dir, time.Now(), c.Log); err != nil {
		return nil, err
	}
	s.local = egress.NewLocal()
	if s.egress, err = egress.New(egress.Config{FlowsPerContainer: c.Flows, Loop: c.Loop, Log: c.Log}); err != nil {
		return nil, err
	}
	s.upstream = upstream.New(upstream.Config{Servers: c.Servers, Avoid: s.ours, Log: c.Log})
	s.names = dns.New(dns.ServerConfig{Forwarder: s.upstream, Trace: s.trace, Log: c.Log})
	return s, nil
}

// ours reports whether an address is that of one of our gateways: a question there would come back.
func (s *Set) ours(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.avoid[a]
}

func (s *Set) trace(ctx context.Context, q *mdns.Msg) (*mdns.Msg, dns.Forwarded, error) {
	m, t, err := s.upstream.Trace(ctx, q)
	f := dns.Forwarded{Server: t.Server, Took: t.Took, Cached: t.Cached}
	if err != nil {
		f.Error = err.Error()
	} else {
		f.Rcode = mdns.RcodeToString[m.Rcode]
	}
	return m, f, err
}

// Changed tells that a router has failed: Plan makes another.
func (s *Set) Changed() <-chan struct{} { return s.changed }

// Plan makes the gateways what p says. Routers that p has no more are no longer given out by Router; Sweep ends them. links are the
// networks' ways to their containers.
func (s *Set) Plan(p *plan.Config, link func(vxlan.VNI) router.Link) {
	host := s.c.Host()
	s.host = host
	s.names.SetZone(dns.Compile(zone(p, s.c.TTL, host)))
	next, off, failed, avoid := make(map[vxlan.VNI]*gate), make(map[string]time.Time), make(map[string]error), make(map[netip.Addr]bool)
	now := time.Now()
	for i := range p.Networks {
		n := &p.Networks[i]
		for _, a := range n.Gateways {
			avoid[a] = true
		}
		if len(n.Endpoints) == 0 {
			continue
		}
		if until := s.leftOff(n.Name, now); !until.IsZero() {
			off[n.Name] = until
			continue
		}
		g, err := s.gate(n, p.Foreign, link(n.VNI))
		if err != nil {
			failed[n.Name] = err
			continue
		}
		g.follow(n)
		next[n.VNI] = g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for v, g := range s.gates {
		if next[v] != g {
			s.old = append(s.old, g)
		}
	}
	for v, g := range next {
		if g.over() { // since it was looked at
			delete(next, v)
			if !slices.Contains(s.old, g) {
				s.old = append(s.old, g)
			}
		}
	}
	s.gates, s.off, s.failed, s.avoid, s.plan = next, off, failed, avoid, p
}

// over reports whether the router has failed.
func (g *gate) over() bool {
	select {
	case <-g.failed:
		return true
	default:
		return false
	}
}

// Stale reports whether another Plan may come to something else: this host has other addresses now, or a network is without the router that
// it should have. It is for Plan's goroutine.
func (s *Set) Stale() bool {
	if !slices.Equal(s.c.Host(), s.host) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.off)+len(s.failed) > 0
}

func (s *Set) leftOff(network string, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.off(network, now)
}

func reach(n *plan.Network) plan.Egress {
	if n.Egress == "" {
		return plan.EgressInternet
	}
	return n.Egress
}

// gate returns the gateway of a network: the one that there is, if it is up and as planned.
func (s *Set) gate(n *plan.Network, foreign []netip.Prefix, link router.Link) (*gate, error) {
	key := fmt.Sprint(n.Name, n.Subnets, n.Gateways, n.MTU)
	policy := &egress.Policy{Mode: egress.Mode(reach(n)), Foreign: foreign, Host: s.local, Closed: s.c.Closed}
	s.mu.Lock()
	g := s.gates[n.VNI]
	s.mu.Unlock()
	if g != nil && g.key == key {
		if g.policy.Mode != policy.Mode || !slices.Equal(g.policy.Foreign, policy.Foreign) {
			g.policy = policy
			g.egress.SetPolicy(policy)
		}
		return g, nil
	}
	g = &gate{network: n.Name, key: key, policy: policy, egress: s.egress.Network(n.Name, policy), containers: make(map[netip.Addr]string), failed: make(chan struct{})}
	var err error
	g.router, err = router.New(router.Config{
		Network: n.Name, Subnets: n.Subnets, Gateways: n.Gateways, MTU: n.MTU, Link: link, Forward: g.egress, Log: s.c.Log,
		Fault: func(_ string, cause any, stack []byte) { s.fault(g, cause, stack) },
	})
	if err != nil {
		g.egress.Close()
		return nil, fmt.Errorf("router: %w", err)
	}
	g.egress.Bind(g.router)
	var ctx context.Context
	ctx, g.stop = context.WithCancel(context.Background())
	for _, a := range n.Gateways {
		if err := s.serve(ctx, g, netip.AddrPortFrom(a, 53)); err != nil {
			g.end(s.c.Log)
			return nil, fmt.Errorf("names: %w", err)
		}
	}
	return g, nil
}

// serve answers questions on names at a gateway's address.
func (s *Set) serve(ctx context.Context, g *gate, at netip.AddrPort) error {
	pc, err := g.router.ListenUDP(at)
	if err != nil {
		return err
	}
	l, err := g.router.ListenTCP(at)
	if err != nil {
		return errors.Join(err, pc.Close())
	}
	g.serving.Go(func() {
		if err := s.names.Serve(ctx, g.network, pc, l); err != nil && !errors.Is(err, net.ErrClosed) {
			s.c.Log.Error("names are no longer answered", "network", g.network, "at", at, "error", err)
		}
	})
	return nil
}

// follow ends what containers had going on that are on the network no more.
func (g *gate) follow(n *plan.Network) {
	now := make(map[netip.Addr]string)
	for _, e := range n.Endpoints {
		if !e.Muted {
			for _, a := range e.Addresses {
				now[a] = e.Name
			}
		}
	}
	for a, name := range g.containers {
		if now[a] != name {
			g.egress.Forget(a)
		}
	}
	g.containers = now
}

// hanging bounds the wait for what is going on in a router that has failed.
const hanging = 2 * time.Second

// end ends the gateway and waits. What hangs in a router that has failed it leaves behind: the other networks must not wait for that.
func (g *gate) end(log *slog.Logger) {
	g.stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.egress.Close()
		g.serving.Wait()
	}()
	select {
	case <-ended:
	case <-g.failed:
	}
	if err := g.router.Close(); err != nil {
		log.Error("a router does not end", "network", g.network, "error", err)
	}
	select {
	case <-ended:
		return
	case <-g.failed:
	}
	select {
	case <-ended:
	case <-time.After(hanging):
		log.Error("connections hang in a router that has failed, and stay until the agent restarts", "network", g.network)
	}
}

// fault takes a dead router out.
func (s *Set) fault(g *gate, cause any, stack []byte) {
	s.c.Log.Error("a router failed; it is made anew", "network", g.network, "cause", cause, "stack", string(stack))
	s.mu.Lock()
	defer s.mu.Unlock()
	close(g.failed)
	if err := s.ledger.add(fault{Network: g.network, Time: time.Now(), Cause: fmt.Sprint(cause)}); err != nil {
		s.c.Log.Error("the fault is not on disk", "error", err)
	}
	for v, now := range s.gates {
		if now == g {
			delete(s.gates, v)
			s.old = append(s.old, g)
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Router returns the router of a network, nil if it has none.
func (s *Set) Router(v vxlan.VNI) bridge.Router {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.gates[v]; g != nil {
		return g.router
	}
	return nil
}

// Sweep ends the routers that Router has not given out since the last Plan. No table may name them any more.
func (s *Set) Sweep() {
	s.mu.Lock()
	old := s.old
	s.old = nil
	s.mu.Unlock()
	for _, g := range old {
		g.end(s.c.Log)
	}
}

// Close ends all gateways. No table may name their routers any more.
func (s *Set) Close() {
	s.mu.Lock()
	for v, g := range s.gates {
		s.old = append(s.old, g)
		delete(s.gates, v)
	}
	s.mu.Unlock()
	s.Sweep()
	if err := errors.Join(s.names.Close(), s.upstream.Close()); err != nil {
		s.c.Log.Error("names", "error", err)
	}
	s.egress.Close()
}

// Problems lists what is not as it should be, a sentence each.
func (s *Set) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	all := s.ledger.problems(now)
	for name, until := range s.off {
		all = append(all, fmt.Sprintf("network %s: its router failed %d times; the network has none for another %s: containers reach each other, but no names and nothing outside", name, patience, until.Sub(now).Round(time.Second)))
	}
	for name, err := range s.failed {
		all = append(all, fmt.Sprintf("network %s: %v", name, err))
	}
	slices.Sort(all)
	return all
}
