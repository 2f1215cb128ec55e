package bridge

import (
	"sync"
	"testing"

	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/frame"
)

// TestLanesRunSideBySide has two threads read the queues of one port and write to one other, while tables and captures come and go.
func TestLanesRunSideBySide(t *testing.T) {
	h := newHouse(t)
	h.net.Tap = capture.New()
	ins := []*still{{in: owed(t, datagram(t, asker, owner, 100), 0)}, {in: owed(t, datagram(t, asker, mdns, 100), 0)}}
	a := h.net.NewPort(PortConfig{Name: "a", Queues: []Device{ins[0], ins[1]}})
	b := h.net.NewPort(PortConfig{Name: "b", Joins: allJoins, Queues: []Device{new(still)}})
	if a.Queues() != 2 {
		t.Fatalf("%d queues, want 2", a.Queues())
	}
	h.config.Ports = []*Port{a, b}
	h.config.Endpoints[0].Port, h.config.Endpoints[1].Port = a, b
	tables := []*Table{Compile(h.config), Compile(Config{MTU: 1450})} // the second knows nobody
	h.net.SetTable(tables[0])

	const rounds = 200
	var forwarding, others sync.WaitGroup
	done := make(chan struct{})
	for i, in := range ins {
		lane := NewLane(&h.networks, h.tunnel)
		q := a.Queue(i, lane)
		forwarding.Go(func() {
			for range rounds {
				in.left = readBatch
				q.Ready()
				lane.Flush()
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			h.net.SetTable(tables[i%2])
			if s, err := h.net.Tap.Open(capture.Options{}); err == nil {
				s.Close()
			}
		}
	})
	forwarding.Wait()
	close(done)
	others.Wait()
	rx, tx, dropped := a.RxFrames.Load(), b.TxFrames.Load(), uint64(0)
	for r := range a.Drops {
		dropped += a.Drops[r].Load()
	}
	if want := uint64(len(ins) * rounds * readBatch); rx != want || tx+dropped != want {
		t.Errorf("%d frames read, %d written and %d counted; want %d, and as many written or counted", rx, tx, dropped, want)
	}
}

func TestCapturesSeeFramesWhereTheyPass(t *testing.T) {
	h := newHouse(t)
	h.net.Tap = capture.New()
	open := func(o capture.Options) *capture.Session {
		s, err := h.net.Tap.Open(o)
		check(t, err)
		t.Cleanup(s.Close)
		return s
	}
	a, b := open(capture.Options{Point: capture.AtPort, Port: "a"}), open(capture.Options{Point: capture.AtPort, Port: "b"})
	tunnel := open(capture.Options{Point: capture.AtTunnel, Network: "house"})
	for _, c := range []struct {
		name         string
		from         string
		frame        []byte
		a, b, tunnel uint64
	}{
		{"from port to port", "a", datagram(t, asker, owner, 10), 1, 1, 0},
		{"from port to peer", "a", datagram(t, asker, far, 10), 1, 0, 1},
		{"from port to all", "a", datagram(t, asker, mdns, 10), 1, 1, 3},
		{"from peer to port", "first", datagram(t, far, asker, 10), 1, 0, 1},
		{"a refused one", "a", datagram(t, nobody, far, 10), 1, 0, 0},
		{"one from a liar", "first", datagram(t, wide, asker, 10), 0, 0, 1},
		{"one too big for the way, and what its sender is told", "a", datagram(t, asker, far, 2000), 2, 0, 0},
		{"a request and its answer", "a", arpOf(t, 1, asker, frame.Broadcast, far.v4), 2, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.TB = t
			var before, after [3]uint64
			for i, s := range []*capture.Session{a, b, tunnel} {
				before[i], _ = s.Statistics()
			}
			h.send(c.from, c.frame)
			for i, s := range []*capture.Session{a, b, tunnel} {
				after[i], _ = s.Statistics()
				after[i] -= before[i]
			}
			if want := [3]uint64{c.a, c.b, c.tunnel}; after != want {
				t.Errorf("seen %d times at a, b and the tunnel, want %d", after, want)
			}
		})
	}
	h.TB = t
}
