package router_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/weftnet/weft/stack/router"
)

// held is a Forward whose requests wait for their end.
func (w *raw) held() (running *atomic.Int32) {
	running = new(atomic.Int32)
	w.tcp = func(ctx context.Context, q *router.Request) {
		running.Add(1)
		defer running.Add(-1)
		<-ctx.Done()
	}
	return running
}

func TestAFloodOfSYNsIsBoundedForItsSenderAndForAll(t *testing.T) {
	w := newRaw(t)
	running := w.held()
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)}) }
	for i := range 2 * router.MaxOpeningFrom {
		w.receive(tcp(port(from(0), uint16(i+1)), port(outside4, 80), syn, 1, 0, nil))
	}
	if n := w.router.Stats(); n.TCP.Opening != router.MaxOpeningFrom || n.TCP.Ignored != router.MaxOpeningFrom || n.Drops["flow-limit"] != router.MaxOpeningFrom {
		t.Errorf("one container has %+v, want %d open and as many ignored", n, router.MaxOpeningFrom)
	}
	for c := 1; c < 12; c++ {
		for i := range router.MaxOpeningFrom {
			w.receive(tcp(port(from(c), uint16(i+1)), port(outside4, 80), syn, 1, 0, nil))
		}
	}
	if n := w.router.Stats().TCP.Opening; n != router.MaxOpening {
		t.Errorf("%d requests are open, want %d", n, router.MaxOpening)
	}
	eventually(t, "each has its goroutine", func() bool { return running.Load() == router.MaxOpening })
	if got := w.sent(); len(got) > 0 {
		t.Errorf("%d answers were sent", len(got))
	}
	must(t, w.router.Close())
	if n := running.Load(); n != 0 {
		t.Errorf("%d goroutines outlive Close", n)
	}
}

func TestASYNThatComesAgainJoinsItsRequest(t *testing.T) {
	w := newRaw(t)
	running := w.held()
	for range 3 {
		w.receive(tcp(port(inside4, 9), port(outside4, 80), syn, 1, 0, nil))
	}
	eventually(t, "it is asked for", func() bool { return running.Load() > 0 })
	if n := w.router.Stats().TCP.Opening; n != 1 || running.Load() != 1 {
		t.Errorf("%d requests are open, want one", n)
	}
	// The container gives up.
	w.receive(tcp(port(inside4, 9), port(outside4, 80), rst, 2, 0, nil))
	eventually(t, "it is not asked for any more", func() bool { return running.Load() == 0 && w.router.Stats().TCP.Opening == 0 })
}

func TestPortsOfAConnectionInTimeWaitOpenAnotherAtOnce(t *testing.T) {
	w := newRaw(t)
	conns := make(chan *router.Conn, 1)
	w.tcp = func(ctx context.Context, q *router.Request) {
		if c, err := q.Accept(ctx); err == nil {
			conns <- c
		}
	}
	src, dst := port(inside4, 999), port(outside4, 80)
	for seq := uint32(1000); seq < 4000; seq += 1000 {
		w.receive(tcp(src, dst, syn, seq, 0, nil))
		// The old connection's reset comes first, which a kernel that has sent a SYN ignores.
		b := w.await(func(b []byte) bool { return b[33]&syn != 0 })[20:]
		if b[13] != syn|ack {
			t.Fatalf("a SYN was answered with flags %b, want SYN-ACK", b[13])
		}
		at := binary.BigEndian.Uint32(b[4:]) + 1
		w.receive(tcp(src, dst, ack, seq+1, at, nil))
		c := next(t, conns)
		must(t, c.Close()) // first: TIME-WAIT is ours
		if b := w.one()[20:]; b[13]&fin == 0 {
			t.Fatalf("Close sent flags %b", b[13])
		}
		w.receive(tcp(src, dst, fin|ack, seq+1, at+1, nil))
		if b := w.one()[20:]; b[13] != ack {
			t.Fatalf("a FIN was answered with flags %b", b[13])
		}
	}
}

func TestConnectionsThatAContainerNeverClosesAreBounded(t *testing.T) {
	w := newRaw(t)
	conns := w.accepting()
	const more = 100
	for i := range router.MaxLingering + more {
		c, _ := w.opened(t, conns, uint16(i+1))
		must(t, c.Close())
		w.sent()
	}
	eventually(t, "the oldest are gone", func() bool { return w.router.Stats().TCP.Lingering == router.MaxLingering })
	if n := w.router.Stats().TCP.Resets; n != more {
		t.Errorf("%d were reset, want %d", n, more)
	}
	must(t, w.router.Close())
	if n := w.router.Stats().TCP.Lingering; n != 0 {
		t.Errorf("%d outlive Close", n)
	}
}
