package datagram

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

// sink is a link on which nothing is kept.
type sink struct {
	*link
	packets int
}

func (s *sink) Send(netip.Addr, *frame.Offload, [][]byte) drop.Reason {
	s.packets++
	return drop.None
}

// bench is a flow whose mapping is served by hand, and what its container sends. The outside's socket does not read.
type bench struct {
	table *Table
	n     *Network
	s     *server
	m     *mapping
	to    *sink
	from  unix.Sockaddr
	f     *frame.Frame
}

func newBench(t testing.TB, w family, bytes, segment int) *bench {
	b := &bench{table: open(t, Config{}), s: serve(t, w.outside), to: &sink{link: newLink()}}
	b.n = b.table.Network("blue", b.to, anywhere)
	h := packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: b.s.at}
	must(t, b.n.Datagram(udp(t, h, []byte("1"), 0)), drop.None)
	_, _, b.from = b.s.receive(t)
	b.m = b.table.shard(&key{addr: w.host, port: 4000}).list()[0]
	b.table.loop.Load().Remove(b.m)
	b.f = udp(t, h, pattern(bytes), segment)
	return b
}

// drain empties the outside's socket.
func (b *bench) drain() {
	var room [1 << 16]byte
	for {
		if _, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(b.s.fd), address(room[:]), uintptr(len(room)), unix.MSG_DONTWAIT, 0, 0); errno != 0 {
			return
		}
	}
}

var shapes = map[string]struct{ bytes, segment int }{"one datagram of 1400": {1400, 0}, "a superframe of 45 x 1400": {45 * 1400, 1400}}

func TestSendingAndReceivingDoNotAllocate(t *testing.T) {
	for name, w := range families {
		for shape, c := range shapes {
			t.Run(name+" "+shape, func(t *testing.T) {
				b := newBench(t, w, c.bytes, c.segment)
				if n := testing.AllocsPerRun(20, func() {
					must(t, b.n.Datagram(b.f), drop.None)
					b.drain()
				}); n != 0 {
					t.Errorf("%v allocations for what goes out, expected none", n)
				}
				payload := pattern(c.bytes)
				for range 10 {
					b.s.send(t, payload, c.segment, b.from)
				}
				before := b.to.packets
				if n := testing.AllocsPerRun(10, func() { b.table.reader.serve(b.m) }); n != 0 {
					t.Errorf("%v allocations for what comes in, expected none", n)
				}
				if b.to.packets == before {
					t.Error("nothing came in")
				}
			})
		}
	}
}

// runs is how many superframes a socket's buffer holds.
const runs = 8

func BenchmarkOut(t *testing.B) {
	for shape, c := range shapes {
		t.Run(shape, func(t *testing.B) {
			b := newBench(t, families["IPv4"], c.bytes, c.segment)
			t.SetBytes(int64(c.bytes))
			t.ReportAllocs()
			for sent := 0; t.Loop(); sent++ {
				if sent%runs == 0 {
					t.StopTimer()
					b.drain()
					t.StartTimer()
				}
				if r := b.n.Datagram(b.f); r != drop.None {
					t.Fatal(r)
				}
			}
		})
	}
}

func BenchmarkIn(t *testing.B) {
	for shape, c := range shapes {
		t.Run(shape, func(t *testing.B) {
			b := newBench(t, families["IPv4"], c.bytes, c.segment)
			payload := pattern(c.bytes)
			t.SetBytes(int64(c.bytes))
			t.ReportAllocs()
			left := 0
			for t.Loop() {
				if left == 0 {
					t.StopTimer()
					for range runs {
						b.s.send(t, payload, c.segment, b.from)
					}
					left = runs
					t.StartTimer()
					if got := b.table.reader.serve(b.m); got == 0 {
						t.Fatal("nothing came in")
					}
				}
				left--
			}
		})
	}
}
