package frame_test

import (
	"fmt"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// A reader sets a frame to what it read behind the headroom, and parses it before anything else looks at it.
func Example() {
	buf := make([]byte, frame.Headroom+1514)
	n := copy(buf[frame.Headroom:], "\x02\x42\x0a\x00\x00\x02\x02\x42\x0a\x00\x00\x01\x08\x00"+ // Ethernet
		"\x45\x00\x00\x1c\x00\x00\x40\x00\x40\x11\x26\xcf\x0a\x00\x00\x01\x0a\x00\x00\x02"+ // IPv4
		"\x9c\x40\x00\x35\x00\x08\x00\x00") // UDP, without checksum

	var f frame.Frame
	f.Set(buf, frame.Headroom, n)
	if reason := f.Parse(); reason != drop.None {
		fmt.Println("dropped:", reason)
		return
	}
	fmt.Println(f.SrcAddr(), "to", f.DstAddr(), "on", f.Dst())
	fmt.Println("transport header at", f.L4, "and right:", f.Verify())
	// Output:
	// 10.0.0.1 to 10.0.0.2 on 02:42:0a:00:00:02
	// transport header at 34 and right: true
}
