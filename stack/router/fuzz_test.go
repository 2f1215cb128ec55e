package router_test

import (
	"context"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
)

// FuzzReceive hands a router any two IP packets, with any offload that passes the frame's own checks: nothing of it may fail the router.
func FuzzReceive(f *testing.F) {
	for _, b := range [][]byte{
		tcp(port(inside4, 9), port(outside4, 80), syn, 1, 0, nil),
		tcp(port(inside6, 9), port(gateway6, 53), syn, 1, 0, nil),
		tcp(port(inside4, 9), port(gateway4, 53), fin|ack, 1, 0, []byte("x")),
		udp(port(inside4, 9), port(gateway4, 53), []byte("x")),
		udp(port(inside6, 9), port(outside6, 53), []byte("x")),
		echo(inside4, gateway4, []byte("x")),
		echo(inside6, gateway6, []byte("x")),
		summed(inside4, gateway4, 1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, tcp(port(gateway4, 53), port(inside4, 9), syn, 1, 0, nil)...), 2),
		summed(inside6, gateway6, 58, append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, tcp(port(gateway6, 53), port(inside6, 9), syn, 1, 0, nil)...), 2),
		fragment(udp(port(inside4, 9), port(outside4, 53), random(3000)), 1, 0, 1400),
		fragment(udp(port(inside6, 9), port(outside6, 53), random(3000)), 1, 1400, 2800),
		ip(inside6, gateway6, 0, []byte{60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 1, 4, 0, 0, 0, 0, 0, 9, 0, 53, 0, 8, 0, 0}),
	} {
		f.Add(b, b, uint8(0), uint16(0))
		f.Add(b, b, uint8(1), uint16(1000))
		f.Add(b, b, uint8(2), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, a, b []byte, offload uint8, size uint16) {
		w := &sinkhole{}
		c := config(w, &forward{tcp: func(_ context.Context, q *router.Request) { q.Refuse() }})
		c.Fault = func(_ string, cause any, stack []byte) { panic(string(stack)) }
		r, err := router.New(c)
		must(t, err)
		defer r.Close()
		l, err := r.ListenTCP(port(gateway4, 53))
		must(t, err)
		defer l.Close()
		for _, ip := range [][]byte{a, b, a} {
			fr := framed(ip)
			switch offload % 3 {
			case 1:
				fr.Checksum = frame.Verified
			case 2:
				if fr.Parse() == drop.None && fr.L4 != 0 {
					fr.Offload = frame.Offload{GSO: frame.GSO(offload/3) % 4, Checksum: frame.Partial, Size: size, Start: fr.L4, Offset: 16}
					if fr.Proto == frame.ProtoUDP {
						fr.Offset = 6
					}
				}
			}
			if fr.Parse() != drop.None {
				continue
			}
			if r.Receive(nil, fr) == drop.RouterFault {
				t.Error("the router failed")
			}
		}
	})
}
