package gossip_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip"
)

// nodes is a directory that never changes.
type nodes map[identity.NodeID]ed25519.PublicKey

func (n nodes) PublicKey(id identity.NodeID) (ed25519.PublicKey, bool) {
	key, ok := n[id]
	return key, ok
}

// Two nodes on the loopback device; one puts a record and the other has it once it is in step.
func Example() {
	keys := state.Keyring{Primary: 1, Keys: []state.Key{{Epoch: 1, Secret: make([]byte, 32)}}}
	network := state.NetworkID{1}
	members := make(nodes)
	start := func(seed byte) *gossip.Gossip {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
		public := key.Public().(ed25519.PublicKey)
		g, err := gossip.New(gossip.Config{
			Self: identity.IDOf(public), Key: key, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Directory: members, Keys: keys,
		})
		if err != nil {
			panic(err)
		}
		return g
	}
	for seed := range byte(2) {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed)).Public().(ed25519.PublicKey)
		members[identity.IDOf(key)] = key
	}
	a, b := start(0), start(1)
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, g := range []*gossip.Gossip{a, b} {
		go g.Run(ctx)
		if err := g.Enter(network, keys); err != nil {
			fmt.Println(err)
		}
	}
	if err := a.Put(network, "web.1", []byte("10.0.0.5")); err != nil {
		fmt.Println(err)
	}
	var peers []netip.AddrPort
	for _, m := range a.Members() {
		peers = append(peers, m.Addr)
	}
	if _, err := b.Join(peers); err != nil {
		fmt.Println(err)
	}
	if err := b.Sync(ctx, network); err != nil {
		fmt.Println(err)
	}
	for _, r := range b.Records(network) {
		fmt.Println(r.Key, string(r.Value), r.Hidden)
	}
	// Output: web.1 10.0.0.5 false
}
