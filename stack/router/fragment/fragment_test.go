package fragment_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router/fragment"
)

// piece is the frame of an IPv4 fragment that holds data.
func piece(src netip.Addr, id uint16, at int, more bool, data []byte) *frame.Frame {
	b := make([]byte, frame.Headroom+14+20+len(data))
	ip := b[frame.Headroom+14:]
	binary.BigEndian.PutUint16(b[frame.Headroom+12:], frame.EtherIPv4)
	ip[0], ip[8], ip[9] = 0x45, 64, frame.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], id)
	word := uint16(at / 8)
	if more {
		word |= 0x2000
	}
	binary.BigEndian.PutUint16(ip[6:], word)
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], []byte{192, 0, 2, 9})
	copy(ip[20:], data)
	f := new(frame.Frame)
	f.Set(b, frame.Headroom, len(b)-frame.Headroom)
	f.Parse()
	return f
}

func source(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

func TestWhatIsIncompleteIsBoundedAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fragment.New()
		defer g.Close()
		add := func(src netip.Addr, id uint16) {
			if p, reason := g.Add(piece(src, id, 0, true, make([]byte, 1400))); p != nil || reason != drop.None {
				t.Fatal(p, reason)
			}
		}
		for id := range uint16(100) {
			add(source(2), id)
		}
		if s := g.Stats(); s.Open != fragment.MaxFrom || s.Crowded != 100-fragment.MaxFrom {
			t.Errorf("of one sender's: %+v", s)
		}
		for i := range byte(20) {
			for id := range uint16(10) {
				add(source(20+i), id)
			}
		}
		if s := g.Stats(); s.Open != fragment.Max {
			t.Errorf("of all: %+v, want %d open", s, fragment.Max)
		}
		time.Sleep(fragment.Timeout + time.Second)
		synctest.Wait()
		if s := g.Stats(); s.Open != 0 || s.TimedOut != fragment.Max {
			t.Errorf("in the end: %+v, want all timed out", s)
		}
	})
}

func TestNothingIsTakenAfterClose(t *testing.T) {
	g := fragment.New()
	g.Add(piece(source(2), 1, 0, true, make([]byte, 8)))
	g.Close()
	if _, reason := g.Add(piece(source(2), 1, 8, false, make([]byte, 8))); reason != drop.NoRouter {
		t.Errorf("Add after Close gave %v", reason)
	}
}

// FuzzAdd hands a table two frames in turn: what comes of them is whole, and as long as it says.
func FuzzAdd(f *testing.F) {
	f.Add(piece(source(2), 1, 0, true, make([]byte, 16)).Bytes(), piece(source(2), 1, 16, false, make([]byte, 4)).Bytes())
	v6 := append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 44, 64)
	v6 = append(append(v6, make([]byte, 32)...), 17, 0, 0, 1, 0, 0, 0, 9, 0, 9, 0, 9, 0, 16, 0, 0)
	f.Add(v6, v6)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		g := fragment.New()
		defer g.Close()
		for _, e := range [][]byte{a, b, a} {
			var fr frame.Frame
			fr.Set(append(make([]byte, frame.Headroom), e...), frame.Headroom, len(e))
			if fr.Parse() != drop.None || !fr.Fragment || fr.Tagged {
				continue
			}
			p, reason := g.Add(&fr)
			if p == nil {
				continue
			}
			if reason != drop.None || p.Frame.Fragment || p.Frame.End != p.Frame.Len() {
				t.Errorf("%v: a packet that is not whole: % x", reason, p.Frame.Bytes())
			}
			g.Release(p)
		}
	})
}

func Example() {
	g := fragment.New()
	defer g.Close()
	datagram := []byte{0, 9, 0, 53, 0, 20, 0, 0, 'h', 'e', 'l', 'l', 'o', ',', ' ', 'w', 'o', 'r', 'l', 'd'}
	p, _ := g.Add(piece(source(2), 1, 16, false, datagram[16:]))
	fmt.Println(p == nil)
	p, _ = g.Add(piece(source(2), 1, 0, true, datagram[:16]))
	f := &p.Frame
	fmt.Printf("%s\n", f.Bytes()[f.Payload:f.End])
	g.Release(p)
	// Output:
	// true
	// hello, world
}
