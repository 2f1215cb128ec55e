package state_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

func Example() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	me, secret := identity.IDOf(key), bytes.Repeat([]byte{7}, 32)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

	var s *state.State
	apply := func(c state.Command) (r state.Result) {
		c.At, c.By = now, me
		var err error
		if s, r, err = s.Apply(&c); err != nil {
			fmt.Println("refused:", err)
		}
		return r
	}
	apply(state.Command{Init: &state.Init{
		Cluster:   state.Cluster{ID: "0123456789abcdefghijklmno", Gossip: state.Keyring{Keys: []state.Key{{Secret: secret}}}},
		Node:      state.Node{ID: me, Name: "alpha", Key: key},
		IngressID: state.NetworkID{1}, Secret: secret,
	}})
	web := apply(state.Command{CreateNetwork: &state.CreateNetwork{ID: state.NetworkID{2}, Secret: secret, Spec: state.NetworkSpec{Name: "web"}}}).Network
	fmt.Println(web.Name, web.VNI, web.Subnets[0].Prefix, web.Subnets[0].Gateway)
	fmt.Println(apply(state.Command{Lease: &state.AskLease{Network: web.ID, Count: 2}}).Lease)
	apply(state.Command{RemoveNetwork: &state.RemoveNetwork{ID: web.ID}})
	// Output:
	// web 4097 10.0.0.0/24 10.0.0.1
	// [10.0.0.2 10.0.0.3]
	// refused: network web is in use, by leased addresses: node alpha 2; detach the containers there first (weft endpoint ls)
}
