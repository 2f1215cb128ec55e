package bridge

import (
	"encoding/binary"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

// still is a Device that hands out one frame again and again, and forgets what is written.
type still struct {
	in   []byte
	left int // reads before EAGAIN
}

func (s *still) FD() int { return -1 }

func (s *still) Read(b []byte) (int, syscall.Errno) {
	if s.left == 0 {
		return 0, unix.EAGAIN
	}
	s.left--
	return copy(b, s.in), 0
}

func (s *still) Write(*frame.Offload, [][]byte) syscall.Errno { return 0 }

// route is a way through the switch: run takes frames along it and flushes.
type route struct {
	name    string
	bytes   int // of one run
	arrived func() uint64
	run     func()
}

// routes returns the hot ways, each with a house of its own.
func routes(t testing.TB) (all []route) {
	house := func() (*house, *still) {
		in := new(still)
		h := newHouse(t, func(h *house) {
			h.a.Port = h.net.NewPort(PortConfig{Name: "a", Joins: allJoins, Queues: []Device{in}})
			h.a.queue = h.a.Port.Queue(0, h.lane)
			h.b.Port = h.net.NewPort(PortConfig{Name: "b", Joins: allJoins, Queues: []Device{new(still)}})
			h.config.Ports = []*Port{h.a.Port, h.b.Port}
			h.config.Endpoints[0], h.config.Endpoints[1] = asker.endpoint(h.a, nil), owner.endpoint(h.b, nil)
		})
		return h, in
	}
	for _, c := range []struct {
		name string
		in   []byte
		n    int
		port bool
	}{
		{"superframe from port to peer", owed(t, segment(t, asker, far, 62_000), 1398), 1, false},
		{"64 small frames from port to peer", owed(t, datagram(t, asker, far, 64), 0), 64, false},
		{"superframe from port to port", owed(t, segment(t, asker, owner, 62_000), 1398), 1, true},
		{"64 small frames from port to port", owed(t, datagram(t, asker, owner, 64), 0), 64, true},
	} {
		h, in := house()
		in.in = c.in
		arrived := h.first.peer.TxFrames.Load
		if c.port {
			arrived = h.b.TxFrames.Load
		}
		all = append(all, route{c.name, c.n * (len(c.in) - frame.OffloadLen), arrived, func() {
			in.left = c.n
			h.a.queue.Ready()
			h.lane.Flush()
		}})
	}
	for _, c := range []struct {
		name string
		b    []byte
		n    int
	}{
		{"46 segments from peer to port", segment(t, far, asker, 1398), 46},
		{"64 small frames from peer to port", datagram(t, far, asker, 64), 64},
	} {
		h, _ := house()
		var frames []*frame.Frame
		for i := range c.n {
			f := parsed(t, c.b)
			if f.Proto == frame.ProtoTCP { // one follows on the other
				binary.BigEndian.PutUint32(f.Bytes()[f.L4+4:], uint32(i*(f.End-int(f.Payload))))
			}
			frames = append(frames, f)
		}
		all = append(all, route{c.name, c.n * len(c.b), h.a.TxFrames.Load, func() {
			for _, f := range frames {
				f.Offload = frame.Offload{Checksum: frame.Verified} // as of datagrams that came in one message
				h.lane.Receive(houseVNI, h.first.peer, f)
			}
			h.lane.Flush()
		}})
	}
	return all
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			r.run() // the outbox of a path is made once
			before := r.arrived()
			if n := testing.AllocsPerRun(50, r.run); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
			if r.arrived() == before {
				t.Error("nothing arrived")
			}
		})
	}
}

func BenchmarkSwitch(b *testing.B) {
	for _, r := range routes(b) {
		b.Run(r.name, func(b *testing.B) {
			b.SetBytes(int64(r.bytes))
			b.ReportAllocs()
			for b.Loop() {
				r.run()
			}
		})
	}
}
