package packet_test

import (
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// wire prints what it is sent.
type wire struct{}

func (wire) Send(to netip.Addr, o *frame.Offload, parts [][]byte) drop.Reason {
	n := -packet.Room
	for _, b := range parts {
		n += len(b)
	}
	fmt.Printf("to %s: %d bytes, checksum owed: %v\n", to, n, o.Checksum == frame.Partial)
	return drop.None
}

func ExampleWriter_UDP() {
	var w packet.Writer
	h := packet.Header{Src: netip.MustParseAddrPort("192.0.2.7:53"), Dst: netip.MustParseAddrPort("10.0.0.2:4000")}
	w.UDP(wire{}, h, make([]byte, 100), 0, 1450)
	w.UDP(wire{}, h, make([]byte, 2000), 0, 1450)
	// Output:
	// to 10.0.0.2: 128 bytes, checksum owed: true
	// to 10.0.0.2: 1444 bytes, checksum owed: false
	// to 10.0.0.2: 604 bytes, checksum owed: false
}
