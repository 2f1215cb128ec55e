package router

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/weftnet/weft/stack/drop"
)

func packetOf(n int) *stack.PacketBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, n))})
}

func TestTheInboxHandsOnEveryPacketInOrder(t *testing.T) {
	i, err := newInbox()
	if err != nil {
		t.Fatal(err)
	}
	const packets = 10_000
	ended, seen := make(chan error), 0
	go func() {
		ended <- i.run(func(p *stack.PacketBuffer) {
			seen++
			if p.Size() != seen {
				t.Errorf("packet of %d bytes came as number %d", p.Size(), seen)
			}
			p.DecRef()
			if seen == packets {
				i.close()
			}
		})
	}()
	for n := 1; n <= packets; {
		p := packetOf(n)
		switch reason := i.put(p, 2); reason {
		case drop.None:
			n++
		case drop.RouterBusy: // again
			p.DecRef()
		default:
			t.Fatal(reason)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if reason := i.put(packetOf(1), 2); reason != drop.NoRouter {
		t.Errorf("after close put says %s, want %s", reason, drop.NoRouter)
	}
}

func TestTheInboxIsBoundedForEachContainerAndInAll(t *testing.T) {
	for name, size := range map[string]int{"superframes": 60_000, "packets without data": 40} {
		t.Run(name, func(t *testing.T) {
			i, err := newInbox()
			if err != nil {
				t.Fatal(err)
			}
			defer i.close()
			fill := func(from uint8) (taken int) {
				for {
					p := packetOf(size)
					if i.put(p, from) != drop.None {
						p.DecRef()
						return taken
					}
					taken++
				}
			}
			cost := size + stack.PacketBufferStructSize
			first := fill(2)
			if want := maxInboxFrom / cost; first != want {
				t.Errorf("it took %d packets of one container, want %d", first, want)
			}
			all := first
			for from := uint8(3); from < 8; from++ {
				all += fill(from)
			}
			if want := maxInbox / cost; all != want {
				t.Errorf("it took %d packets in all, want %d", all, want)
			}
			out := i.take(nil)
			if len(out) != all {
				t.Errorf("%d packets came out, want %d", len(out), all)
			}
			if again := fill(2); again != first {
				t.Errorf("it took %d packets once it was empty, want %d", again, first)
			}
			for _, p := range out {
				p.DecRef()
			}
		})
	}
}

func BenchmarkInbox(b *testing.B) {
	i, err := newInbox()
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- i.run((*stack.PacketBuffer).DecRef) }()
	p := packetOf(1400)
	b.ReportAllocs()
	for b.Loop() {
		p.IncRef()
		if i.put(p, 2) != drop.None {
			p.DecRef()
		}
	}
	i.close()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
