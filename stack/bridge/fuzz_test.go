package bridge

import (
	"testing"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// outcomes counts everything that the house has done with a frame, and checks what it wrote to devices.
func (h *house) outcomes(t testing.TB) (n int) {
	for _, o := range h.others {
		n += len(h.world.hear(o))
	}
	for _, j := range []*jack{h.a, h.b} {
		for _, w := range j.out {
			f := new(frame.Frame)
			f.Set(append(make([]byte, frame.Headroom), w.bytes...), frame.Headroom, len(w.bytes))
			f.Offload = w.Offload
			if reason := f.Parse(); reason != drop.None {
				t.Fatalf("a device was given a frame that contradicts itself: %s: %+v", reason, w.Offload)
			}
		}
		n += len(j.out)
		j.out = nil
	}
	for _, dropped := range h.drops() {
		n += int(dropped)
	}
	return n
}

// fuzzHouses are a house that checks sources, one that does not, and one that does not and whose port b is plain.
func fuzzHouses(f *testing.F) []*house {
	spoof := func(h *house) { h.config.Spoof = true }
	return []*house{newHouse(f), newHouse(f, spoof), newHouse(f, spoof, func(h *house) {
		h.b = h.jack(h.net, PortConfig{Name: "b", Plain: true})
		h.config.Ports[1], h.config.Endpoints[1] = h.b.Port, owner.endpoint(h.b, nil)
	})}
}

// seeds are frames of all kinds, as a device hands them out.
func seeds(t testing.TB) [][]byte {
	return [][]byte{
		{}, make([]byte, frame.OffloadLen),
		plain(datagram(t, asker, owner, 10)), plain(datagram(t, asker.six(), far.six(), 10)), plain(datagram(t, asker, mdns, 1500)),
		plain(retagged(datagram(t, asker, nobody, 10))), owed(t, datagram(t, asker, far, 3000), 1000), owed(t, datagram(t, asker, owner, 100), 0),
		owed(t, segment(t, asker, owner, 3000), 100), owed(t, retagged(segment(t, asker, far, 3000)), 100),
		plain(arpOf(t, 1, asker, frame.Broadcast, far.v4)), plain(arpOf(t, 2, asker, owner.mac, owner.v4)),
		plain(nd{target: far.v6}.build(t)), plain(nd{advert: true, target: asker.v6, options: linkAddr(2, asker.mac)}.build(t)),
	}
}

func FuzzPort(f *testing.F) {
	houses := fuzzHouses(f)
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > frame.OffloadLen+frame.MaxLen {
			return // no device hands out more
		}
		for i, h := range houses {
			h.TB = t
			h.a.say(b)
			if h.outcomes(t) == 0 {
				t.Errorf("house %d: the frame was neither delivered nor counted", i)
			}
		}
	})
}

func FuzzReceive(f *testing.F) {
	houses := fuzzHouses(f)
	for _, b := range seeds(f) {
		if len(b) > frame.OffloadLen {
			f.Add(uint32(houseVNI), b[frame.OffloadLen:], true, uint16(0), uint8(0))
		}
	}
	f.Add(uint32(houseVNI), datagram(f, far, asker, 3000), false, uint16(1000), uint8(0))
	f.Add(uint32(houseVNI), segment(f, far, asker, 3000), false, uint16(0), uint8(1))
	f.Fuzz(func(t *testing.T, vni uint32, b []byte, verified bool, size uint16, from uint8) {
		if len(b) > 65535-8-vxlan.HeaderLen {
			return // no datagram is longer
		}
		for i, h := range houses {
			h.TB = t
			inner := new(frame.Frame)
			inner.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
			switch {
			case size > 0: // as the receiver describes an uncut superframe
				inner.Offload = frame.Offload{GSO: frame.GSOUDP, Size: size, Checksum: frame.Partial, Start: 34, Offset: 6, HdrLen: 42}
			case verified:
				inner.Checksum = frame.Verified
			}
			h.lane.Receive(vxlan.VNI(vni), h.others[int(from)%len(h.others)].peer, inner)
			h.lane.Flush()
			if h.outcomes(t) == 0 {
				t.Errorf("house %d: the frame was neither delivered nor counted", i)
			}
		}
	})
}
