package simnet_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/internal/simnet"
)

func Example() {
	n := simnet.New(1, simnet.Link{Latency: time.Millisecond})
	a, _ := n.Listen(simnet.Addr(0))
	b, _ := n.Listen(simnet.Addr(1))

	a.WriteTo([]byte("hello"), b.Addr().String())
	p := <-b.PacketCh()
	fmt.Printf("%s from %s\n", p.Buf, p.From)

	n.Partition([]netip.AddrPort{a.Addr()})
	fmt.Println("reachable:", n.Reachable(a.Addr(), b.Addr()))
	// Output:
	// hello from 10.77.0.0:7946
	// reachable: false
}
