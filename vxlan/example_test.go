package vxlan_test

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/vxlan"
)

func ExampleParseHeader() {
	b := make([]byte, vxlan.HeaderLen)
	vxlan.PutHeader(b, 4097)
	v, reason := vxlan.ParseHeader(b)
	fmt.Printf("% x: network %d, %s\n", b, v, reason)
	// Output: 08 00 00 00 00 10 01 00: network 4097, none
}

func ExampleOverhead() {
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		fmt.Println(1500 - vxlan.Overhead(netip.MustParseAddr(local)))
	}
	// Output:
	// 1450
	// 1430
}
