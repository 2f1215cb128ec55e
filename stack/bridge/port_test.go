package bridge

import (
	"bytes"
	"encoding/binary"
	"maps"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/frame"
)

func TestPlainDeviceGetsCompleteFrames(t *testing.T) {
	tcp, udp := segment(t, owner, asker, 5000), datagram(t, owner, asker, 5000)
	for name, c := range map[string]struct {
		in   []byte
		size int
	}{
		"a frame, checksum due":     {owed(t, segment(t, owner, asker, 1000), 0), 1000},
		"a complete frame":          {plain(segment(t, owner, asker, 1000)), 1000},
		"a superframe of TCP":       {owed(t, tcp, 1400), 1400},
		"a superframe of datagrams": {owed(t, udp, 1200), 1200},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(h *house) {
				h.a = h.jack(h.net, PortConfig{Name: "a", Plain: true})
				h.config.Ports[0], h.config.Endpoints[0] = h.a.Port, asker.endpoint(h.a, nil)
			})
			h.b.say(c.in)
			f := parsed(t, c.in[frame.OffloadLen:])
			want := f.Bytes()[f.Payload:]
			pieces := (len(want) + c.size - 1) / c.size
			if len(h.a.out) != pieces {
				t.Fatalf("%d writes, want %d", len(h.a.out), pieces)
			}
			for _, w := range h.a.out {
				if w.GSO != frame.GSONone || w.Checksum == frame.Partial {
					t.Errorf("a plain device was given %+v", w.Offload)
				}
			}
			var got []byte
			for _, b := range h.a.hear(t) {
				f := parsed(t, b)
				got = append(got, b[f.Payload:f.End]...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes of payload, other than the %d sent", len(got), len(want))
			}
			if n := h.a.TxFrames.Load(); n != uint64(pieces) {
				t.Errorf("%d frames counted, want %d", n, pieces)
			}
		})
	}
}

func TestDeviceGetsTheSuperframesThatItTakes(t *testing.T) {
	six := datagram(t, owner.six(), asker.six(), 5000)
	for name, c := range map[string]struct {
		joins  frame.Joins
		in     []byte
		writes int
	}{
		"TCP, taken":               {frame.JoinTCP4, owed(t, segment(t, owner, asker, 5000), 1000), 1},
		"TCP, not taken":           {frame.JoinTCP6 | frame.JoinUDP, owed(t, segment(t, owner, asker, 5000), 1000), 5},
		"datagrams, taken":         {frame.JoinUDP, owed(t, datagram(t, owner, asker, 5000), 1000), 1},
		"datagrams, not taken":     {frame.JoinTCP4 | frame.JoinTCP6, owed(t, datagram(t, owner, asker, 5000), 1000), 5},
		"IPv6 datagrams, taken":    {frame.JoinUDP, owed(t, six, 1000), 1},
		"a partial checksum alone": {0, owed(t, segment(t, owner, asker, 1000), 0), 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(h *house) {
				h.a = h.jack(h.net, PortConfig{Name: "a", Joins: c.joins})
				h.config.Ports[0], h.config.Endpoints[0] = h.a.Port, asker.endpoint(h.a, nil)
			})
			h.b.say(c.in)
			if len(h.a.out) != c.writes {
				t.Errorf("%d writes, want %d", len(h.a.out), c.writes)
			}
			if c.writes == 1 && !bytes.Equal(input(h.a.out[0].Offload, h.a.out[0].bytes), c.in) {
				t.Error("what the device takes was changed")
			}
			h.a.hear(t) // which checks the frames
		})
	}
}

// TestFloodedFrameIsRightForAll holds that a checksum completed for one device does not spoil what another is about to get.
func TestFloodedFrameIsRightForAll(t *testing.T) {
	w := newWorld(t, 0)
	n := w.network("n", 7)
	a := w.jack(n, PortConfig{Name: "a"})
	able, unable := w.jack(n, PortConfig{Name: "able", Joins: allJoins}), w.jack(n, PortConfig{Name: "unable", Plain: true})
	n.SetTable(Compile(Config{MTU: 1450, Ports: []*Port{able.Port, unable.Port, a.Port}, Endpoints: []Endpoint{asker.endpoint(a, nil)}}))
	b := datagram(t, asker, mdns, 100)
	a.say(owed(t, b, 0))
	for _, j := range []*jack{able, unable} {
		if got := j.hear(t); len(got) != 1 || !bytes.Equal(got[0], b) {
			t.Errorf("%s got % x, want % x", j.Name, got, b)
		}
	}
}

func TestSuperframeOfTinySegmentsIsNotCutForADevice(t *testing.T) {
	h := newHouse(t, func(h *house) {
		h.a = h.jack(h.net, PortConfig{Name: "a", Plain: true})
		h.config.Ports[0], h.config.Endpoints[0] = h.a.Port, asker.endpoint(h.a, nil)
	})
	h.b.say(owed(t, segment(t, owner, asker, 2000), 1))
	if got := h.drops(); len(h.a.out) != 0 || len(got) != 1 || got["a too-large"] != 2000 {
		t.Errorf("%d writes; counted %v, want 2000 too-large at a", len(h.a.out), got)
	}
	h.b.say(owed(t, segment(t, owner, asker, 1000), 1))
	if len(h.a.out) != 1000 {
		t.Errorf("%d writes, want 1000", len(h.a.out))
	}
}

func TestRefusedWritesAreCountedByReason(t *testing.T) {
	for errno, c := range map[syscall.Errno]struct {
		reason string
		gone   int
	}{
		unix.EAGAIN:   {"queue-full", 0},
		unix.ENOBUFS:  {"queue-full", 0},
		unix.EINVAL:   {"bad-offload", 0},
		unix.EMSGSIZE: {"bad-offload", 0},
		unix.EIO:      {"port-closed", 0},
		unix.EBADFD:   {"port-closed", 1},
		unix.EBADF:    {"port-closed", 1},
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			gone := 0
			h := newHouse(t, func(h *house) {
				h.b = h.jack(h.net, PortConfig{Name: "b", Joins: allJoins, Gone: func(p *Port) {
					if gone++; p.Name != "b" {
						t.Errorf("port %s is said to be gone, want b", p.Name)
					}
				}})
				h.config.Ports[1], h.config.Endpoints[1] = h.b.Port, owner.endpoint(h.b, nil)
			})
			h.b.failure = errno
			h.a.say(plain(datagram(t, asker, owner, 10)), owed(t, segment(t, asker, owner, 5000), 1000), plain(datagram(t, asker, mdns, 10)))
			want := map[string]uint64{"b " + c.reason: 7}
			if got := h.drops(); !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
			if gone != c.gone {
				t.Errorf("told %d times that the port is gone, want %d", gone, c.gone)
			}
			if n := h.b.TxFrames.Load() + h.b.TxWrites.Load() + h.b.TxBytes.Load(); n != 0 {
				t.Errorf("%d counted as written", n)
			}
			if got := h.heard(); len(got) != 3 {
				t.Errorf("%d places heard the frame to a group, want all but b", len(got))
			}
		})
	}
}

func TestReadErrorsEndTheQueue(t *testing.T) {
	for errno, open := range map[syscall.Errno]bool{unix.EAGAIN: true, unix.EINTR: true, unix.EBADFD: false, unix.EIO: false} {
		t.Run(errno.Error(), func(t *testing.T) {
			gone := 0
			w := newWorld(t, 0)
			n := w.network("n", 7)
			j := w.jack(n, PortConfig{Name: "a", Gone: func(*Port) { gone++ }})
			j.in, j.end = [][]byte{plain(datagram(t, asker, owner, 10))}, errno
			if frames, ok := j.queue.Ready(); frames != 1 || ok != open {
				t.Errorf("Ready = %d, %v; want 1, %v", frames, ok, open)
			}
			j.queue.Ready() // another queue of the device, say
			if want := map[bool]int{true: 0, false: 1}[open]; gone != want {
				t.Errorf("told %d times that the port is gone, want %d", gone, want)
			}
		})
	}
}

func TestBatchIsBounded(t *testing.T) {
	h := newHouse(t)
	b := plain(datagram(t, asker, owner, 10))
	for range readBatch + 10 {
		h.a.in = append(h.a.in, b)
	}
	for _, want := range []int{readBatch, 10, 0} {
		if frames, open := h.a.queue.Ready(); frames != want || !open {
			t.Errorf("Ready = %d, %v; want %d, true", frames, open, want)
		}
	}
	h.lane.Flush()
	if got := len(h.b.hear(t)); got != readBatch+10 {
		t.Errorf("%d frames delivered, want %d", got, readBatch+10)
	}
}

// TestFullBatchOfLargeFrames holds that frames in hand are not overwritten by those read after them.
func TestFullBatchOfLargeFrames(t *testing.T) {
	h := newHouse(t)
	var in, want [][]byte
	for i := range 3 * readBatch {
		b := segment(t, asker, far, 1000+i%400)
		f := parsed(t, b)
		for j := range b[f.Payload:] {
			b[int(f.Payload)+j] = byte(i)
		}
		in = append(in, owed(t, b, 0))
		f = parsed(t, in[i][frame.OffloadLen:])
		f.Offload.Checksum, f.Start, f.Offset = frame.Partial, f.L4, 16
		f.Complete()
		want = append(want, f.Bytes())
	}
	h.a.say(in...)
	if got := h.heard()["first"]; !equalFrames(got, want) {
		t.Errorf("%d frames arrived, other than the %d that were sent", len(got), len(want))
	}
}

func TestMalformedReadsAreCountedOnce(t *testing.T) {
	good := segment(t, asker, owner, 3000)
	header := func(change func(b []byte)) []byte {
		b := owed(t, good, 1000)
		change(b)
		return b
	}
	put := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.NativeEndian.PutUint16(b[at:], v) }
	}
	h := newHouse(t)
	for name, c := range map[string]struct {
		in   []byte
		drop string
	}{
		"nothing at all":                    {[]byte{}, "a bad-offload"},
		"less than a virtio_net_hdr":        {make([]byte, frame.OffloadLen-1), "a bad-offload"},
		"a virtio_net_hdr alone":            {make([]byte, frame.OffloadLen), "a bad-ethernet"},
		"half an Ethernet header":           {plain(good[:10]), "a bad-ethernet"},
		"half an IP header":                 {plain(good[:20]), "a bad-ipv4"},
		"half a packet":                     {plain(good[:200]), "a bad-ipv4"},
		"a kind that is unknown":            {header(func(b []byte) { b[1] = 77 }), "a bad-offload"},
		"UFO, whose pieces are fragments":   {header(func(b []byte) { b[1] = 3 }), "a bad-offload"},
		"a superframe of IPv6 that is IPv4": {header(func(b []byte) { b[1] = 4 }), "a bad-offload"},
		"a superframe of no segment size":   {header(put(4, 0)), "a bad-offload"},
		"a superframe without NEEDS_CSUM":   {header(func(b []byte) { b[0] = 0 }), "a bad-offload"},
		"a checksum in the addresses":       {header(put(6, 26)), "a bad-offload"},
		"a checksum past the end":           {header(put(6, 60_000)), "a bad-offload"},
		"tiny segments of what is no IP":    {header(func(b []byte) { put(4, 1)(b); b[frame.OffloadLen+14] = 0 }), "a bad-ipv4"},
	} {
		t.Run(name, func(t *testing.T) {
			h.TB = t
			before := h.a.RxFrames.Load()
			h.a.say(c.in)
			if got, want := h.drops(), (map[string]uint64{c.drop: 1}); !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
			if got := h.a.RxFrames.Load() - before; got > 1 {
				t.Errorf("%d frames counted as read, want 1 at most", got)
			}
			if got := h.heard(); len(got) != 0 {
				t.Errorf("%d places heard it", len(got))
			}
		})
	}
}
