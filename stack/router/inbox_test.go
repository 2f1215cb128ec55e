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
		switch reason := i.put(p); reason {
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
	if reason := i.put(packetOf(1)); reason != drop.NoRouter {
		t.Errorf("after close put says %s, want %s", reason, drop.NoRouter)
	}
}

func TestTheInboxIsBounded(t *testing.T) {
	i, err := newInbox()
	if err != nil {
		t.Fatal(err)
	}
	defer i.close()
	const size = 60_000
	taken := 0
	for i.put(packetOf(size)) == drop.None {
		taken++
	}
	if want := maxInbox / size; taken != want {
		t.Errorf("it took %d packets of %d bytes, want %d", taken, size, want)
	}
	if all := i.take(nil); len(all) != taken {
		t.Errorf("%d packets came out, want %d", len(all), taken)
	}
	if reason := i.put(packetOf(size)); reason != drop.None {
		t.Errorf("put says %s to an empty inbox", reason)
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
		if i.put(p) != drop.None {
			p.DecRef()
		}
	}
	i.close()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
