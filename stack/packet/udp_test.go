package packet

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

func TestDatagramsThatFitLeaveWhole(t *testing.T) {
	for family, p := range families {
		for _, n := range []int{0, 1, 2, 1371} {
			t.Run(fmt.Sprintf("%s of %d bytes", family, n), func(t *testing.T) {
				var l link
				var w Writer
				if r := w.UDP(&l, p.header(true), pattern(n), 0, 1450); r != drop.None {
					t.Fatal(r)
				}
				if len(l.frames) != 1 || l.frames[0].Checksum != frame.Partial || l.frames[0].GSO != frame.GSONone {
					t.Fatalf("%d frames, expected one whose checksum is owed", len(l.frames))
				}
				got := decode(t, l.wire(t)[0])
				udp := got.Layer(layers.LayerTypeUDP).(*layers.UDP)
				if udp.SrcPort != 9999 || udp.DstPort != 4000 || udp.Checksum == 0 {
					t.Errorf("ports %d to %d, checksum %d", udp.SrcPort, udp.DstPort, udp.Checksum)
				}
				equal(t, "payload", udp.Payload, pattern(n))
				switch ip := got.NetworkLayer().(type) {
				case *layers.IPv4:
					if ip.TTL != 55 || ip.TOS != 0xb9 || ip.Flags != layers.IPv4DontFragment || !ip.SrcIP.Equal(p.who.AsSlice()) || !ip.DstIP.Equal(p.host.AsSlice()) {
						t.Errorf("header %+v", ip)
					}
				case *layers.IPv6:
					if ip.HopLimit != 55 || ip.TrafficClass != 0xb9 || !ip.SrcIP.Equal(p.who.AsSlice()) || !ip.DstIP.Equal(p.host.AsSlice()) {
						t.Errorf("header %+v", ip)
					}
				}
			})
		}
	}
}

func TestRunsOfDatagramsLeaveAsSuperframes(t *testing.T) {
	for family, p := range families {
		for name, c := range map[string]struct{ total, segment, mtu, frames int }{
			"the last shorter":             {3001, 1000, 1450, 1},
			"all equal":                    {4000, 1000, 1450, 1},
			"one only":                     {900, 1000, 1450, 1},
			"more than a kernel takes":     {65 * 100, 100, 1450, 2},
			"more than a packet holds":     {65535, 1400, 1450, 2},
			"each too large for the MTU":   {2500, 1000, 600, 5},
			"all but the last, too large":  {1100, 1000, 600, 3},
			"of the size that just fits 6": {2000, 1450 - 48, 1450, 1},
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				var l link
				var w Writer
				if r := w.UDP(&l, p.header(false), pattern(c.total), c.segment, c.mtu); r != drop.None {
					t.Fatal(r)
				}
				if len(l.frames) != c.frames {
					t.Errorf("%d frames, expected %d", len(l.frames), c.frames)
				}
				for _, f := range l.frames {
					if r := f.Parse(); r != drop.None {
						t.Fatal(r)
					}
					if n := f.End - int(f.Payload); f.GSO != frame.GSONone && (n <= int(f.Size) || n > 64*int(f.Size)) {
						t.Errorf("a superframe of %d bytes in pieces of %d", n, f.Size)
					}
				}
				if c.segment+48 > c.mtu {
					return // fragments, of which others speak
				}
				rest := pattern(c.total)
				var ids []uint16
				for _, b := range l.wire(t) {
					got := decode(t, b)
					want := rest[:min(c.segment, len(rest))]
					rest = rest[len(want):]
					equal(t, "payload", got.Layer(layers.LayerTypeUDP).(*layers.UDP).Payload, want)
					if ip, ok := got.NetworkLayer().(*layers.IPv4); ok {
						ids = append(ids, ip.Id)
					}
				}
				if len(rest) > 0 {
					t.Errorf("%d bytes were not sent", len(rest))
				}
				for i := 1; i < len(ids); i++ {
					if ids[i] != ids[0]+uint16(i) {
						t.Errorf("identifications %d, expected them in a row", ids)
						break
					}
				}
			})
		}
	}
}

func TestLargeDatagramsAndAnswersLeaveInFragments(t *testing.T) {
	for family, p := range families {
		for _, n := range []int{1500, 8192, 65507} {
			for _, mtu := range []int{576, 1280, 1401} {
				t.Run(fmt.Sprintf("%s, %d bytes, MTU %d", family, n, mtu), func(t *testing.T) {
					var w Writer
					var l link
					if r := w.UDP(&l, p.header(false), pattern(n), 0, mtu); r != drop.None {
						t.Fatal(r)
					}
					proto, b := assemble(t, l.wire(t), mtu)
					if proto != frame.ProtoUDP || !checked(p.who, p.host, proto, b) || int(binary.BigEndian.Uint16(b[4:])) != len(b) {
						t.Errorf("protocol %d, header % x", proto, b[:8])
					}
					equal(t, "payload", b[8:], pattern(n))

					l = link{}
					if r := w.EchoReply(&l, p.who, p.host, 9, 77, 5, pattern(n), mtu); r != drop.None {
						t.Fatal(r)
					}
					proto, b = assemble(t, l.wire(t), mtu)
					if !checked(p.who, p.host, proto, b) || binary.BigEndian.Uint16(b[4:]) != 77 || binary.BigEndian.Uint16(b[6:]) != 5 {
						t.Errorf("protocol %d, header % x", proto, b[:8])
					}
					equal(t, "data", b[8:], pattern(n))
				})
			}
		}
	}
}

func TestEchoReplies(t *testing.T) {
	for family, p := range families {
		t.Run(family, func(t *testing.T) {
			var w Writer
			var l link
			if r := w.EchoReply(&l, p.who, p.host, 0, 77, 5, pattern(56), 1450); r != drop.None {
				t.Fatal(r)
			}
			b := l.wire(t)[0]
			m, kind := b[len(b)-64:], byte(echoReply4)
			if p.host.Is6() {
				kind = echoReply6
			}
			if m[0] != kind || m[1] != 0 || binary.BigEndian.Uint16(m[4:]) != 77 || binary.BigEndian.Uint16(m[6:]) != 5 {
				t.Errorf("message % x", m)
			}
			equal(t, "data", m[8:], pattern(56))
		})
	}
}

func TestWhatCannotBeSentIsRefused(t *testing.T) {
	four, six := families["IPv4"], families["IPv6"]
	mixed := four.header(false)
	mixed.Dst = six.header(false).Dst
	for name, c := range map[string]struct {
		h    Header
		n    int
		mtu  int
		want drop.Reason
	}{
		"larger than IPv4's packets":  {four.header(false), 65508, 1500, drop.TooLarge},
		"larger than IPv6's packets":  {six.header(false), 65528, 1500, drop.TooLarge},
		"as large as IPv6's packets":  {six.header(false), 65527, 1500, drop.None},
		"not to be fragmented":        {four.header(true), 1500, 1500, drop.TooBig},
		"to an MTU of nothing":        {six.header(false), 100, 50, drop.TooBig},
		"between IP of two versions":  {mixed, 1, 1500, drop.NoRoute},
		"between addresses that lack": {Header{}, 1, 1500, drop.NoRoute},
	} {
		t.Run(name, func(t *testing.T) {
			var w Writer
			var l link
			if got := w.UDP(&l, c.h, pattern(c.n), 0, c.mtu); got != c.want || len(l.frames) > 0 != (c.want == drop.None) {
				t.Errorf("%s and %d frames, expected %s", got, len(l.frames), c.want)
			}
		})
	}
	t.Run("by the link", func(t *testing.T) {
		var w Writer
		l := link{refuse: drop.QueueFull}
		for _, segment := range []int{0, 100} {
			if got := w.UDP(&l, four.header(false), pattern(3000), segment, 1500); got != drop.QueueFull {
				t.Errorf("%s, expected %s", got, drop.QueueFull)
			}
		}
	})
}
