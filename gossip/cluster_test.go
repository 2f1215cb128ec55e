package gossip

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/internal/simnet"
)

// directory is the nodes that belong to the cluster.
type directory struct {
	mu   sync.Mutex
	keys map[identity.NodeID]ed25519.PublicKey
}

func (d *directory) PublicKey(id identity.NodeID) (ed25519.PublicKey, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, ok := d.keys[id]
	return key, ok
}

func (d *directory) set(key ed25519.PublicKey, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known {
		d.keys[identity.IDOf(key)] = key
	} else {
		delete(d.keys, identity.IDOf(key))
	}
}

// cluster is nodes on a network in memory.
type cluster struct {
	*testing.T
	net   *simnet.Network
	dir   *directory
	nodes []*node

	forget time.Duration // of nodes that start from now on
}

type node struct {
	*Gossip
	c      *cluster
	i      int
	key    ed25519.PrivateKey
	cancel context.CancelFunc
}

var lan = simnet.Link{Latency: time.Millisecond, Jitter: time.Millisecond}

// bubble runs a test in virtual time with a cluster of n nodes that have joined.
func bubble(t *testing.T, n int, link simnet.Link, test func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, net: simnet.New(1, link), dir: &directory{keys: make(map[identity.NodeID]ed25519.PublicKey)}}
		defer func() {
			for _, n := range c.nodes {
				n.stop()
			}
			time.Sleep(time.Minute) // virtual; memberlist's Shutdown does not wait for its probes
		}()
		for range n {
			c.add()
		}
		c.until("all are members", func() bool { return c.allAlive() })
		test(t, c)
	})
}

func keyOf(i int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(i+1))
	return ed25519.NewKeyFromSeed(seed)
}

func signed(t testing.TB, i int, network state.NetworkID, r record.Record) *record.Record {
	t.Helper()
	r.Owner = idOf(i)
	out, err := record.New(keyOf(i), network, r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func publicKey(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func idOf(i int) identity.NodeID { return identity.IDOf(publicKey(keyOf(i))) }

// ring is a keyring whose secrets follow from the epochs; the first is primary.
func ring(name byte, primary uint64, others ...uint64) state.Keyring {
	k := state.Keyring{Primary: primary}
	for _, epoch := range append([]uint64{primary}, others...) {
		secret := make([]byte, 32)
		secret[0], secret[1] = name, byte(epoch)
		k.Keys = append(k.Keys, state.Key{Epoch: epoch, Secret: secret})
	}
	return k
}

func (c *cluster) add() *node {
	n := &node{c: c, i: len(c.nodes), key: keyOf(len(c.nodes))}
	c.dir.set(publicKey(n.key), true)
	c.nodes = append(c.nodes, n)
	n.start()
	return n
}

// start starts a node, also again.
func (n *node) start() {
	n.c.Helper()
	tr, err := n.c.net.Listen(simnet.Addr(n.i))
	if err != nil {
		n.c.Fatal(err)
	}
	n.Gossip, err = New(Config{
		Self: identity.IDOf(publicKey(n.key)), Key: n.key, Bind: simnet.Addr(n.i), Directory: n.c.dir,
		Transport: tr, Forget: n.c.forget, Keys: ring('g', 1), Rand: rand.New(rand.NewPCG(uint64(n.i), 1)),
	})
	if err != nil {
		n.c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go n.Run(ctx)
	var peers []netip.AddrPort
	for _, o := range n.c.nodes {
		peers = append(peers, simnet.Addr(o.i))
	}
	if len(peers) > 1 {
		if _, err := n.Join(peers); err != nil {
			n.c.Logf("node %d joins: %v", n.i, err)
		}
	}
}

// stop ends a node as kill -9 does: without a word.
func (n *node) stop() {
	n.cancel()
	if err := n.Close(); err != nil {
		n.c.Error(err)
	}
}

// crash ends a node and its host.
func (n *node) crash() {
	n.c.net.Crash(simnet.Addr(n.i))
	n.stop()
}

func (c *cluster) allAlive() bool {
	for _, n := range c.nodes {
		alive := 0
		for _, m := range n.Members() {
			if m.State == Alive {
				alive++
			}
		}
		if alive != len(c.nodes) {
			return false
		}
	}
	return true
}

// until waits for a condition for at most two minutes of virtual time, and returns how long it took.
func (c *cluster) until(what string, ok func() bool) time.Duration {
	c.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > 2*time.Minute {
			c.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

var (
	red  = state.NetworkID{1}
	blue = state.NetworkID{2}
)

func (n *node) enter(network state.NetworkID) {
	n.c.Helper()
	if err := n.Enter(network, ring(network[0], 1)); err != nil {
		n.c.Fatal(err)
	}
}

func (n *node) put(network state.NetworkID, key, value string) {
	n.c.Helper()
	if err := n.Put(network, key, []byte(value)); err != nil {
		n.c.Fatal(err)
	}
}

// visible is the records of a network that are not hidden, as "node/key=value".
func (n *node) visible(network state.NetworkID) map[string]bool {
	all := make(map[string]bool)
	for _, r := range n.Records(network) {
		if !r.Hidden {
			all[fmt.Sprintf("%s/%s=%s", n.c.name(r.Owner), r.Key, r.Value)] = true
		}
	}
	return all
}

func (c *cluster) name(id identity.NodeID) string {
	for _, n := range c.nodes {
		if n.cfg.Self == id {
			return fmt.Sprint(n.i)
		}
	}
	return id.String()
}

// sees reports whether a node sees exactly these records of a network.
func (n *node) sees(network state.NetworkID, want ...string) bool {
	got := n.visible(network)
	for _, w := range want {
		if !got[w] {
			return false
		}
	}
	return len(got) == len(want)
}

// holds reports whether a node has a table of a network, and what is asked of it holds.
func (n *node) holds(network state.NetworkID, ask func(t *table) bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tables[network]
	return t != nil && (ask == nil || ask(t))
}

// value is what a node has of another, hidden or not.
func (n *node) value(network state.NetworkID, of int, key string) (value string) {
	n.holds(network, func(t *table) bool {
		if e := t.get(idOf(of), key); e != nil {
			value = string(e.Value)
		}
		return true
	})
	return value
}

// all reports whether f holds for all of the nodes.
func all(nodes []*node, f func(n *node) bool) bool {
	for _, n := range nodes {
		if !f(n) {
			return false
		}
	}
	return true
}
