package gossip

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/internal/simnet"
)

// person is who a node is, over all its lives.
type person struct {
	id   identity.NodeID
	key  ed25519.PrivateKey
	addr netip.AddrPort
}

// node is one life of a person.
type node struct {
	person
	g       *gossip.Gossip
	gone    chan struct{} // closed when it begins to leave, or crashes
	cancel  context.CancelFunc
	ran     chan error
	pending atomic.Int32 // puts of its own that are being measured
}

// directory knows everybody, for all their lives. It does not change while nodes run.
type directory map[identity.NodeID]ed25519.PublicKey

func (d directory) PublicKey(id identity.NodeID) (ed25519.PublicKey, bool) {
	key, ok := d[id]
	return key, ok
}

// newPerson makes the i-th person of a seed.
func newPerson(seed uint64, i int) person {
	b := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(b, seed)
	binary.BigEndian.PutUint64(b[8:], uint64(i))
	key := ed25519.NewKeyFromSeed(b)
	return person{id: identity.IDOf(key.Public().(ed25519.PublicKey)), key: key, addr: simnet.Addr(i)}
}

// keyring is one key for all, the same in each run: nobody listens.
func keyring(epoch byte) state.Keyring {
	secret := slices.Repeat([]byte{epoch}, 32)
	return state.Keyring{Primary: uint64(epoch), Keys: []state.Key{{Epoch: uint64(epoch), Secret: secret}}}
}

// network is the one that all nodes take part in.
var network = state.NetworkID{0: 'b', 15: 1}

// start begins a life and makes it known to some peers.
func start(net *simnet.Network, who person, dir directory, peers []netip.AddrPort, seed uint64) (*node, error) {
	tr, err := net.Listen(who.addr)
	if err != nil {
		return nil, err
	}
	g, err := gossip.New(gossip.Config{
		Self: who.id, Key: who.key, Bind: who.addr, Advertise: who.addr, Directory: dir, Profile: gossip.LAN,
		Transport: tr, Keys: keyring(1), Rand: rand.New(rand.NewPCG(seed, binary.BigEndian.Uint64(who.id[:]))),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{person: who, g: g, gone: make(chan struct{}), cancel: cancel, ran: make(chan error, 1)}
	go func() { n.ran <- g.Run(ctx) }()
	g.Join(peers) // goes on in the background if the peers have just crashed
	if err := g.Enter(network, keyring(2)); err != nil {
		n.end()
		return nil, err
	}
	return n, nil
}

// end ends a life without a word.
func (n *node) end() {
	n.cancel()
	n.g.Close()
	<-n.ran
}

// probeKey is what measured puts write to. Their values count up.
const probeKey = "probe"

// put writes a number.
func (n *node) put(number uint64) error {
	return n.g.Put(network, probeKey, binary.BigEndian.AppendUint64(nil, number))
}

// grain is how exactly arrivals are timed: looking through all records at each single change would take all the time.
const grain = 2 * time.Millisecond

// await returns when this node sees that number, or a higher one, from a writer. False: the node is gone, or it is too late.
func (n *node) await(writer identity.NodeID, number uint64, limit time.Time) (at time.Time, ok bool) {
	late := time.NewTimer(time.Until(limit))
	defer late.Stop()
	for {
		changed := n.g.Changed()
		if n.sees(writer, number) {
			return time.Now(), true
		}
		select {
		case <-changed:
		case <-n.gone:
			return time.Now(), true // nobody expects it of this one any more
		case <-late.C:
			return limit, false
		}
		time.Sleep(grain)
	}
}

func (n *node) sees(writer identity.NodeID, number uint64) bool {
	records := n.g.Records(network)
	i, _ := slices.BinarySearchFunc(records, writer, func(r gossip.Record, id identity.NodeID) int {
		return slices.Compare(r.Owner[:], id[:])
	})
	for ; i < len(records) && records[i].Owner == writer; i++ {
		if r := records[i]; r.Key == probeKey && len(r.Value) == 8 {
			return !r.Hidden && binary.BigEndian.Uint64(r.Value) >= number
		}
	}
	return false
}
