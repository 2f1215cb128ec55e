package router_test

import (
	"slices"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// What netstack is given it copies into its own pools; see BenchmarkReceive.
func TestWhatTheRouterDoesItselfDoesNotAllocate(t *testing.T) {
	fwd := &forward{datagram: func(*frame.Frame) drop.Reason { return drop.None }}
	r := start(t, config(&sinkhole{}, fwd))
	for name, b := range map[string][]byte{
		"a datagram for elsewhere": udp(port(inside4, 9), port(outside4, 53), []byte("x")),
		"an echo for elsewhere":    echo(inside6, outside6, []byte("x")),
		"an echo to the gateway":   echo(inside4, gateway4, []byte("x")),
		"a packet that ends here":  hops(udp(port(inside4, 9), port(outside4, 53), []byte("x")), 1),
		"a martian":                udp(port(inside4, 9), port(addr("127.0.0.1"), 53), []byte("x")),
		"a neighbor's":             udp(port(addr("10.0.0.3"), 9), port(inside4, 9), []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			f := framed(b)
			was := slices.Clone(f.Bytes())
			if n := testing.AllocsPerRun(1000, func() {
				copy(f.Bytes(), was)
				f.Checksum = frame.Unverified
				f.Parse()
				r.Receive(nil, f)
			}); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
