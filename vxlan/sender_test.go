package vxlan

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// flow makes f one of the flows that leave by the peer's path n; f's checksum is owed, and covers no port.
func flow(t testing.TB, f *frame.Frame, n int) *frame.Frame {
	t.Helper()
	o := f.Offload
	for port := uint16(1); port < 1000; port++ {
		binary.BigEndian.PutUint16(f.Bytes()[f.L4:], port)
		if reason := f.Parse(); reason != drop.None {
			t.Fatal(reason)
		}
		if f.Offload = o; int(f.Hash%paths) == n {
			return f
		}
	}
	t.Fatalf("no flow for path %d", n)
	return nil
}

// tagged puts an 802.1Q tag into f.
func tagged(t testing.TB, f *frame.Frame) *frame.Frame {
	t.Helper()
	o := f.Offload
	o.Start += 4
	if o.HdrLen > 0 {
		o.HdrLen += 4
	}
	b := slices.Concat(make([]byte, frame.Headroom), f.Bytes()[:12], []byte{0x81, 0, 0, 77}, f.Bytes()[12:])
	g := new(frame.Frame)
	g.Set(b, frame.Headroom, f.Len()+4)
	g.Offload = o
	if reason := g.Parse(); reason != drop.None {
		t.Fatal(reason)
	}
	return g
}

// payloads joins the payloads of wire frames, each of which must be sound and no longer than mtu.
func payloads(t testing.TB, frames [][]byte, mtu int) (all []byte) {
	t.Helper()
	for i, raw := range frames {
		var f frame.Frame
		f.Set(raw, 0, len(raw))
		if reason := f.Parse(); reason != drop.None {
			t.Fatalf("frame %d: %s", i, reason)
		}
		if !f.Verify() || f.End-int(f.L3) > mtu {
			t.Fatalf("frame %d: %d bytes of at most %d, checksum right: %v", i, f.End-int(f.L3), mtu, f.Verify())
		}
		all = append(all, raw[f.Payload:f.End]...)
	}
	return all
}

func TestMoreFlowsThanOutboxesLeaveWhole(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	victim := a.to(t, b)
	b.to(t, a)
	var strangers []*Peer // nobody listens there; they only take up outboxes and scratch
	for i := range maxBoxes / paths {
		p, err := a.Peer(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, p)
	}
	fill := func(n int) {
		for i := range n {
			a.Send(strangers[i%len(strangers)], 1, flow(t, superframe(t, 16_000, 1100), i/len(strangers)%paths), 1450)
		}
	}
	fill(maxBoxes)
	f := superframe(t, 16_000, 1000)
	a.Send(victim, 1, f, 1450)
	for range 2 {
		fill(maxBoxes - paths) // headers beyond where the victim's are, in outboxes that there are
	}
	a.Sender.Flush()
	b.drain()
	if got := payloads(t, b.frames, 1450); !bytes.Equal(got, f.Bytes()[f.Payload:]) {
		t.Errorf("%d bytes arrived, other than the %d that were sent", len(got), f.Len()-int(f.Payload))
	}
}

func TestFullOutboxIsSentAndGoesOn(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	b.to(t, a)
	var want []byte
	for i := range 3 * maxMessages {
		f := udp(t, 100+i, byte(i)) // growing: each needs a message of its own
		if reason := a.Send(p, 1, flow(t, f, 0), 1450); reason != drop.None {
			t.Fatal(reason)
		}
		want = append(want, f.Bytes()[f.Payload:]...)
	}
	f := superframe(t, 60_000, 100) // more parts than an outbox holds
	if reason := a.Send(p, 1, flow(t, f, 0), 1450); reason != drop.None {
		t.Fatal(reason)
	}
	want = append(want, f.Bytes()[f.Payload:]...)
	a.Sender.Flush()
	b.drain()
	if got := payloads(t, b.frames, 1450); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, other than the %d that were sent; drops %v", len(got), len(want), a.Drops.Snapshot())
	}
}

func TestSuperframesOfTinySegments(t *testing.T) {
	for _, c := range []struct {
		name    string
		n, size int
		reason  drop.Reason
	}{
		{"as many as scratch has headers for", 1000, 1, drop.None},
		{"more than scratch has headers for", 2000, 1, drop.TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
			p := a.to(t, b)
			b.to(t, a)
			var want []byte
			for range 3 { // scratch overflows in between
				f := superframe(t, c.n, c.size)
				if reason := a.Send(p, 1, f, 1450); reason != c.reason {
					t.Fatalf("%s, want %s", reason, c.reason)
				}
				if c.reason == drop.None {
					want = append(want, f.Bytes()[f.Payload:]...)
				}
				b.drain()
			}
			a.Sender.Flush()
			b.drain()
			if got := payloads(t, b.frames, 1450); !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived, want %d", len(got), len(want))
			}
		})
	}
}

func TestRefusedSegmentationFallsBackToSingleSends(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	b.to(t, a)
	for i := range p.paths {
		p.paths[i].segment = p.paths[i].plain // the kernel refuses UDP_SEGMENT without an outer checksum
	}
	f := superframe(t, 30_500, 1000)
	var want []byte
	for range 2 {
		a.Send(p, 1, f, 1450)
		a.Sender.Flush()
		b.drain()
		want = append(want, f.Bytes()[f.Payload:]...)
	}
	if got := payloads(t, b.frames, 1450); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(want))
	}
	if got := p.TxFrames.Load(); got != 62 || p.Segments() {
		t.Errorf("%d frames counted, want 62; segmented sends go on: %v", got, p.Segments())
	}
	if drops := a.Drops.Snapshot(); len(drops) != 0 {
		t.Errorf("drops %v, want none", drops)
	}
}

func TestRefusedDatagramsAreNotHeldAgainstSegmentation(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	for i := range p.paths {
		p.paths[i].segment = p.paths[i].plain
		p.paths[i].plain = -1 // and what is sent singly is refused as well
	}
	a.Send(p, 1, superframe(t, 5000, 1000), 1450)
	a.Sender.Flush()
	if got := a.Drops[drop.SendFailed].Load(); got != 5 || !p.Segments() || p.TxFrames.Load() != 0 {
		t.Errorf("%d frames counted as lost, want 5; segmented sends go on: %v; %d frames counted as sent", got, p.Segments(), p.TxFrames.Load())
	}
}

func TestPaddingCountsAgainstTheMTU(t *testing.T) {
	a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	p := a.to(t, b)
	short := udp(t, 10, 0)
	f := new(frame.Frame)
	f.Set(slices.Concat(make([]byte, frame.Headroom), short.Bytes(), make([]byte, 60_000)), frame.Headroom, short.Len()+60_000)
	if reason := f.Parse(); reason != drop.None {
		t.Fatal(reason)
	}
	if reason := a.Send(p, 1, f, 1450); reason != drop.TooBig {
		t.Errorf("a short packet in a frame of 60 kB: %s, want %s", reason, drop.TooBig)
	}
}
