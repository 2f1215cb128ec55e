package vxlan

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// groControl is the control message by which the kernel tells the size of the datagrams in a message.
func groControl(size uint32) []byte {
	b := make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(b[8:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(b[12:], unix.UDP_GRO)
	binary.NativeEndian.PutUint32(b[16:], size)
	return b
}

// feed lets the receiver take data apart as if it were its first message, and returns how many frames there were.
func (e *end) feed(from *end, data, control []byte, flags int) int {
	r := e.Receiver
	copy(r.buffers[frame.Headroom:], data)
	h := &r.headers[0]
	h.len = uint32(len(data))
	h.hdr.Flags = int32(flags)
	h.hdr.SetControllen(copy(r.controls[0][:], control))
	four := from.cfg.Local.As4()
	r.names[0] = unix.RawSockaddrInet6{Family: unix.AF_INET, Port: 77, Flowinfo: binary.NativeEndian.Uint32(four[:])}
	return r.message(0)
}

// encapsulated is the datagram for a frame of network v.
func encapsulated(v VNI, b []byte) []byte {
	d := append(make([]byte, HeaderLen), b...)
	PutHeader(d, v)
	return d
}

func TestMessagesAreTakenApart(t *testing.T) {
	one := encapsulated(9, udp(t, 100, 1).Bytes())
	short := encapsulated(9, udp(t, 50, 2).Bytes())
	size := uint32(len(one))
	other := append(groControl(0)[:0:0], groControl(0)...) // a control message that means nothing here
	binary.NativeEndian.PutUint32(other[12:], 99)
	for _, c := range []struct {
		name     string
		data     []byte
		control  []byte
		flags    int
		frames   int // handed on
		reason   drop.Reason
		verified bool
	}{
		{name: "a single datagram", data: one, frames: 1},
		{name: "a run", data: slices.Concat(one, one, one), control: groControl(size), frames: 3, verified: true},
		{name: "a run that ends in a shorter one", data: slices.Concat(one, one, short), control: groControl(size), frames: 3, verified: true},
		{name: "a run behind another control message", data: slices.Concat(one, one), control: slices.Concat(other, groControl(size)), frames: 2, verified: true},
		{name: "a single datagram of just that size", data: one, control: groControl(size), frames: 1},
		{name: "a size beyond the message", data: one, control: groControl(size + 1), frames: 1},
		{name: "a size of nothing", data: one, control: groControl(0), frames: 1},
		{name: "a control message cut off", data: one, control: groControl(size)[:17], frames: 1},
		{name: "a message cut off", data: one, flags: unix.MSG_TRUNC, reason: drop.TunnelTruncated},
		{name: "an empty message", reason: drop.BadVXLAN},
		{name: "a run whose last datagram is no VXLAN", data: slices.Concat(one, one, one[:4]), control: groControl(size), frames: 2, reason: drop.BadVXLAN, verified: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, "127.0.0.1", "127.0.0.2", ChecksumAuto)
			p := b.to(t, a)
			n := b.feed(a, c.data, c.control, c.flags)
			want := c.frames
			if c.reason != drop.None {
				want++
				if got := b.Drops[c.reason].Load(); got != 1 {
					t.Errorf("%s counted %d times, want 1: %v", c.reason, got, b.Drops.Snapshot())
				}
			}
			if n != want || len(b.frames) != c.frames {
				t.Errorf("%d frames, %d of them handed on; want %d, and %d", n, len(b.frames), want, c.frames)
			}
			for i, got := range b.frames {
				if len(got) != len(one)-HeaderLen && len(got) != len(short)-HeaderLen || b.verified[i] != c.verified {
					t.Errorf("frame %d has %d bytes, verified: %v", i, len(got), b.verified[i])
				}
			}
			if rx := p.RxFrames.Load(); c.frames > 0 && rx != uint64(n) {
				t.Errorf("%d frames counted from the peer, want %d", rx, n)
			}
		})
	}
}

func FuzzMessage(f *testing.F) {
	one := encapsulated(9, udp(f, 100, 1).Bytes())
	f.Add(one, []byte{}, 0)
	f.Add(slices.Concat(one, one, one[:60]), groControl(uint32(len(one))), 0)
	f.Add(encapsulated(9, superframe(f, 3000, 1000).Bytes()), groControl(1000), 0)
	f.Add(encapsulated(9, udp(f, 3000, 1).Bytes()), groControl(1000), 0)
	f.Add([]byte("short"), groControl(1), unix.MSG_TRUNC)
	a, b := pair(f, "127.0.0.1", "127.0.0.2", ChecksumAuto)
	if _, err := b.Peer(a.cfg.Local); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data, control []byte, flags int) {
		if len(data) > bufferLen-frame.Headroom || len(control) > controlLen {
			return // the kernel has no more room
		}
		b.sink = sink{}
		n := b.feed(a, data, control, flags)
		got := len(b.frames)
		for r := range b.Drops {
			got += int(b.Drops[r].Swap(0))
		}
		if got != n || n == 0 {
			t.Errorf("%d frames, of which %d were handed on or counted", n, got)
		}
	})
}
