package frame

import (
	"fmt"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

// variants are frames of all kinds that carry an internet checksum.
func variants(payload int) map[string]packet {
	data := random(payload, 5)
	m := map[string]packet{}
	for name, proto := range map[string]uint8{"TCP": ProtoTCP, "UDP": ProtoUDP} {
		m[name+" over IPv4"] = packet{proto: proto, payload: data}
		m[name+" over IPv4 with options"] = packet{proto: proto, payload: data, options: []byte{7, 7, 4, 0, 0, 0, 0, 0}}
		m[name+" over IPv6"] = packet{v6: true, proto: proto, payload: data}
		m[name+" over IPv6 with extensions"] = packet{v6: true, proto: proto, payload: data, extensions: []extension{hopByHop}}
		m[name+" behind two VLAN tags"] = packet{tags: []uint16{EtherQinQ, EtherVLAN}, proto: proto, payload: data}
	}
	return m
}

func TestCompletePaysTheChecksumOwed(t *testing.T) {
	for _, n := range []int{0, 1, 77, 1400} {
		for name, p := range variants(n) {
			t.Run(fmt.Sprintf("%s, %d bytes", name, n), func(t *testing.T) {
				want := p.build()
				f := wire(t, append(p.build(), 9, 9, 9)) // with padding that is no zeros
				f.Checksum, f.Start, f.Offset = Partial, f.L4, uint16(f.checkOffset())
				put16(f.Bytes()[f.Start+f.Offset:], PseudoSum(f))
				f.Complete()
				if f.Offload != (Offload{Checksum: Verified}) {
					t.Errorf("offload %+v, want a verified plain frame", f.Offload)
				}
				if string(f.Bytes()[:f.End]) != string(want) {
					t.Error("the frame differs from one that was built with its checksum")
				}
			})
		}
	}
	for _, c := range []struct {
		name  string
		proto uint8
		at    int
		want  uint16
	}{{"UDP writes a zero checksum as ones", ProtoUDP, udpCheck, 0xffff}, {"TCP writes it as it is", ProtoTCP, tcpCheck, 0}} {
		t.Run(c.name, func(t *testing.T) {
			p := packet{proto: c.proto, payload: []byte{0, 0}}
			f := wire(t, p.build())
			p.payload = f.Bytes()[int(f.L4)+c.at:][:2] // adding the checksum that the rest has makes the sum of all zero
			f = wire(t, p.build())
			f.Checksum, f.Start, f.Offset = Partial, f.L4, uint16(c.at)
			put16(f.Bytes()[int(f.L4)+c.at:], PseudoSum(f))
			f.Complete()
			if got := be16(f.Bytes()[int(f.L4)+c.at:]); got != c.want {
				t.Errorf("checksum %#04x, want %#04x", got, c.want)
			}
		})
	}
	t.Run("superframes and finished frames are left alone", func(t *testing.T) {
		super, plain := packet{payload: make([]byte, 100)}.super(t, 50), wire(t, packet{}.build())
		for _, f := range []*Frame{super, plain} {
			before, o := string(f.Bytes()), f.Offload
			if f.Complete(); string(f.Bytes()) != before || f.Offload != o {
				t.Errorf("changed %+v to %+v", o, f.Offload)
			}
		}
	})
}

func TestVerifyFindsEveryFlippedBit(t *testing.T) {
	all := variants(33)
	all["ICMP"] = packet{proto: ProtoICMP, payload: random(20, 1)}
	all["ICMPv6"] = packet{v6: true, proto: ProtoICMPv6, payload: random(20, 1)}
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			f := wire(t, p.build())
			if !f.Verify() || f.Checksum != Verified {
				t.Fatalf("a right frame is %v", f.Checksum)
			}
			for i := int(f.Payload) * 8; i < f.End*8; i++ {
				g := wire(t, edit(p.build(), func(b []byte) { b[i/8] ^= 1 << (i % 8) }))
				if g.Verify() || g.Checksum != Unverified {
					t.Fatalf("bit %d of byte %d flipped, and nobody noticed", i%8, i/8)
				}
			}
		})
	}
}

func TestVerifyEndsWithTheDatagram(t *testing.T) {
	b := append(packet{proto: ProtoUDP, payload: random(20, 1)}.build(), 1, 2, 3, 4) // behind it, but inside the IP packet
	put16(b[16:], be16(b[16:])+4)
	put16(b[24:], Update(be16(b[24:]), be16(b[16:])-4, be16(b[16:])))
	if f := wire(t, b); !f.Verify() || f.Checksum != Verified {
		t.Error("a right datagram with bytes behind it is called wrong")
	}
}

func TestVerifyOfWhatHasNothingToCheck(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"a wrong IPv4 header checksum":     {edit(packet{proto: 47}.build(), func(b []byte) { b[22]-- }), false},
		"an unknown protocol":              {packet{proto: 47}.build(), true},
		"UDP without checksum":             {edit(packet{proto: ProtoUDP}.build(), func(b []byte) { put16(b[40:], 0) }), true},
		"UDP over IPv6 without checksum":   {edit(packet{v6: true, proto: ProtoUDP}.build(), func(b []byte) { put16(b[60:], 0) }), true},
		"a fragment":                       {packet{v6: true, extensions: []extension{fragmentOf(0, true)}, payload: make([]byte, 9)}.build(), true},
		"an IPv6 routing header under way": {edit(packet{v6: true, extensions: []extension{{extRouting, []byte{0, 4, 1, 0, 0, 0, 0}}}}.build(), func(b []byte) { b[53] ^= 1 }), true},
	} {
		t.Run(name, func(t *testing.T) {
			f := wire(t, c.b)
			if got := f.Verify(); got != c.want || f.Checksum != Unverified {
				t.Errorf("Verify = %v and %v, want %v and unverified", got, f.Checksum, c.want)
			}
		})
	}
}

func TestInferRecognisesWhatAKernelPeerHandsOver(t *testing.T) {
	const mtu = 1450
	unfilled := func(p packet) []byte {
		f := wire(t, p.build())
		put16(f.Bytes()[int(f.L4)+f.checkOffset():], PseudoSum(f))
		return f.Bytes()
	}
	tcp4, tcp6 := packet{tcpOptions: timestamps}, packet{v6: true, flags: flagCWR}
	udp := packet{proto: ProtoUDP, payload: random(100, 2)}
	long := func(p packet) packet { p.payload = random(5000, 3); return p }
	cut4 := Offload{GSO: GSOTCP4, Checksum: Partial, Size: 1398, Start: 34, Offset: 16, HdrLen: 66}
	cut6 := Offload{GSO: GSOTCP6, ECN: true, Checksum: Partial, Size: 1390, Start: 54, Offset: 16, HdrLen: 74}
	for name, c := range map[string]struct {
		b       []byte
		vouched bool
		want    drop.Reason
		o       Offload
	}{
		"a right TCP segment":              {tcp4.build(), false, drop.None, Offload{Checksum: Verified}},
		"a wrong one is not judged here":   {edit(udp.build(), func(b []byte) { b[80]++ }), false, drop.None, Offload{}},
		"a TCP segment never filled in":    {unfilled(tcp4), false, drop.None, Offload{Checksum: Partial, Start: 34, Offset: 16}},
		"a UDP datagram never filled in":   {unfilled(udp), false, drop.None, Offload{Checksum: Partial, Start: 34, Offset: 6}},
		"one whose IPv4 header is wrong":   {edit(unfilled(udp), func(b []byte) { b[22]-- }), false, drop.None, Offload{}},
		"a TCP superframe over IPv4":       {unfilled(long(tcp4)), false, drop.None, cut4},
		"a TCP superframe over IPv6":       {unfilled(long(tcp6)), false, drop.None, cut6},
		"a superframe with full checksum":  {long(tcp4).build(), false, drop.None, cut4},
		"one vouched for from outside":     {long(tcp4).build(), true, drop.None, cut4},
		"one whose IPv4 header is corrupt": {edit(unfilled(long(tcp4)), func(b []byte) { b[22]-- }), false, drop.BadChecksum, Offload{}},
		"a superframe that is corrupt":     {edit(long(tcp4).build(), func(b []byte) { b[900]++ }), false, drop.BadChecksum, Offload{}},
		"a UDP packet longer than mtu":     {unfilled(long(udp)), false, drop.TooBig, Offload{}},
		"a short frame vouched for":        {unfilled(udp), true, drop.None, Offload{Checksum: Verified}},
		"ICMP":                             {packet{proto: ProtoICMP}.build(), false, drop.None, Offload{Checksum: Verified}},
		"ARP":                              {edit(append(udp.build()[:14], 0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), func(b []byte) { put16(b[12:], EtherARP) }), false, drop.None, Offload{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := wire(t, c.b)
			if c.vouched {
				f.Checksum = Verified
			}
			if r := f.Infer(mtu); r != c.want || r == drop.None && f.Offload != c.o {
				t.Fatalf("Infer = %v, %+v; want %v, %+v", r, f.Offload, c.want, c.o)
			}
			if f.Checksum == Partial {
				if got, want := be16(f.Bytes()[f.Start+f.Offset:]), PseudoSum(f); got != want {
					t.Errorf("the checksum field holds %#04x, want the pseudo-header's %#04x", got, want)
				}
				if r := f.Parse(); r != drop.None {
					t.Errorf("Parse of what Infer made: %v", r)
				}
			}
		})
	}
}

func TestVerifyAndInferDoNotAllocate(t *testing.T) {
	f := wire(t, packet{payload: make([]byte, 1000)}.build())
	if n := testing.AllocsPerRun(100, func() {
		f.Checksum = Unverified
		f.Infer(1450)
		f.Checksum, f.Start, f.Offset = Partial, f.L4, tcpCheck
		f.Complete()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
