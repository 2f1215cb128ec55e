package cluster_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/cluster/state"
)

func Example() {
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	m, err := cluster.Open(cluster.Config{
		Dir: dir, Listen: netip.MustParseAddrPort("127.0.0.1:0"),
		Timing: cluster.Timing{Raft: 100 * time.Millisecond},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go m.Run(context.Background())
	defer m.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.Init(ctx, cluster.InitOptions{Name: "a"}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := m.Propose(ctx, state.Command{CreateNetwork: &state.CreateNetwork{
		ID: state.NetworkID{1}, Secret: make([]byte, 32), Spec: state.NetworkSpec{Name: "blue"},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Network.Name, r.Network.VNI, r.Network.Subnets[0].Prefix)
	for _, n := range m.State().Nodes {
		fmt.Println(n.Name, n.Role)
	}
	// Output:
	// blue 4097 10.0.0.0/24
	// a manager
}
