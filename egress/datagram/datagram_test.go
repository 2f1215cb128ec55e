package datagram

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/loop"
	"github.com/weftnet/weft/stack/packet"
)

func TestDatagramsGoOutAndAnswersComeBack(t *testing.T) {
	for name, w := range families {
		t.Run(name, func(t *testing.T) {
			table, l, s := open(t, Config{}), newLink(), serve(t, w.outside)
			n := table.Network("blue", l, anywhere)
			h := packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: s.at, TTL: 9, TOS: 0x2a}
			must(t, n.Datagram(udp(t, h, []byte("question"), 0)), drop.None)
			b, a, from := s.receive(t)
			if string(b) != "question" || a.ttl != 8 || a.tos != 0x2a {
				t.Errorf("%q with TTL %d and TOS %#x, expected TTL 8 and TOS 0x2a", b, a.ttl, a.tos)
			}
			s.send(t, []byte("answer"), 0, from)
			f := l.next(t)
			ip := f.Bytes()[f.L3:]
			if string(payload(f)) != "answer" || f.SrcAddr() != w.outside || f.DstAddr() != w.host {
				t.Errorf("%q from %s to %s", payload(f), f.SrcAddr(), f.DstAddr())
			}
			if from, to := binary.BigEndian.Uint16(f.Bytes()[f.L4:]), binary.BigEndian.Uint16(f.Bytes()[f.L4+2:]); from != s.at.Port() || to != 4000 {
				t.Errorf("ports %d to %d", from, to)
			}
			if ttl := map[bool]byte{true: ip[8], false: ip[7]}[w.host.Is4()]; ttl != 63 {
				t.Errorf("TTL %d, expected 63", ttl)
			}
			flows := table.Flows()
			if len(flows) != 1 {
				t.Fatalf("%d flows, expected one", len(flows))
			}
			got := flows[0]
			got.Age, got.Idle = 0, 0
			if want := (Flow{Network: "blue", Proto: frame.ProtoUDP, Container: h.Src, Remote: s.at, Local: netip.AddrPortFrom(got.Local.Addr(), addrPort(from).Port()), TxPackets: 1, TxBytes: 8, RxPackets: 1, RxBytes: 6, Timeout: 180 * time.Second}); got != want {
				t.Errorf("%+v\nexpected %+v", got, want)
			}
		})
	}
}

func TestAnswersAreReadOnTheThreadThatIsGiven(t *testing.T) {
	shared, err := loop.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shared.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	table, err := New(Config{Loop: shared})
	if err != nil {
		t.Fatal(err)
	}
	w, l := families["IPv4"], newLink()
	s, n := serve(t, w.outside), table.Network("blue", l, anywhere)
	must(t, n.Datagram(udp(t, packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: s.at}, []byte("question"), 0)), drop.None)
	_, _, from := s.receive(t)
	s.send(t, []byte("answer"), 0, from)
	if f := l.next(t); string(payload(f)) != "answer" {
		t.Errorf("the answer is %q", payload(f))
	}
	if err := shared.Do(func() {}); err != nil { // it counts a round when that is over
		t.Fatal(err)
	}
	if n := shared.Frames.Load(); n == 0 {
		t.Error("the thread that was given has read nothing")
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
	if flows := table.Flows(); len(flows) > 0 {
		t.Errorf("flows after Close: %v", flows)
	}
	if err := shared.Do(func() {}); err != nil {
		t.Errorf("the thread has ended with the table: %v", err)
	}
}

func TestOnePortHasOneSocketForAllRemotes(t *testing.T) {
	table, l := open(t, Config{}), newLink()
	n := table.Network("blue", l, anywhere)
	a, b := serve(t, families["IPv4"].outside), serve(t, families["IPv4"].elsewhere)
	h := packet.Header{Src: netip.MustParseAddrPort("10.0.0.2:4000"), Dst: a.at}
	must(t, n.Datagram(udp(t, h, []byte("1"), 0)), drop.None)
	h.Dst = b.at
	must(t, n.Datagram(udp(t, h, []byte("2"), 0)), drop.None)
	_, _, first := a.receive(t)
	_, _, second := b.receive(t)
	if p, q := addrPort(first), addrPort(second); p.Port() != q.Port() {
		t.Errorf("from %s to one and %s to the other, expected one port (RFC 4787 REQ-1)", p, q)
	}
	if s := table.Stats(); s.Sockets != 1 {
		t.Errorf("%d sockets", s.Sockets)
	}
}

func TestAnswersOfOthersAreDropped(t *testing.T) {
	table, l := open(t, Config{}), newLink()
	n := table.Network("blue", l, anywhere)
	a, other, port := serve(t, families["IPv4"].outside), serve(t, families["IPv4"].elsewhere), serve(t, families["IPv4"].outside)
	must(t, n.Datagram(udp(t, packet.Header{Src: netip.MustParseAddrPort("10.0.0.2:4000"), Dst: a.at}, []byte("1"), 0)), drop.None)
	_, _, from := a.receive(t)
	other.send(t, []byte("spoofed"), 0, from)
	port.send(t, []byte("from another port"), 0, from)
	a.send(t, []byte("true"), 0, from)
	if f := l.next(t); string(payload(f)) != "true" {
		t.Errorf("%q arrived", payload(f))
	}
	if got := n.Drops.Snapshot()["unsolicited"]; got != 2 {
		t.Errorf("%d counted as unsolicited, expected 2", got)
	}
}

func TestRunsOfDatagramsStayTogetherBothWays(t *testing.T) {
	for name, w := range families {
		t.Run(name, func(t *testing.T) {
			table, l, s := open(t, Config{}), newLink(), serve(t, w.outside)
			n := table.Network("blue", l, anywhere)
			want := pattern(40*1200 + 7)
			must(t, n.Datagram(udp(t, packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: s.at}, want, 1200)), drop.None)
			b, a, from := s.receive(t)
			if !bytes.Equal(b, want) || a.segment != 1200 {
				t.Errorf("%d bytes in pieces of %d outside", len(b), a.segment)
			}
			s.send(t, want, 1200, from)
			if f := l.next(t); !bytes.Equal(payload(f), want) || f.GSO != frame.GSOUDP || f.Size != 1200 {
				t.Errorf("%d bytes in pieces of %d inside", len(payload(f)), f.Size)
			}
			if f := table.Flows()[0]; f.TxPackets != 41 || f.RxPackets != 41 || f.TxBytes != uint64(len(want)) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestTheLargestDatagramsPass(t *testing.T) {
	for name, w := range families {
		t.Run(name, func(t *testing.T) {
			table, l, s := open(t, Config{}), newLink(), serve(t, w.outside)
			n := table.Network("blue", l, anywhere)
			want := pattern(65507)
			must(t, n.Datagram(udp(t, packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: s.at}, want, 0)), drop.None)
			b, _, from := s.receive(t)
			if !bytes.Equal(b, want) {
				t.Errorf("%d bytes outside", len(b))
			}
			s.send(t, want, 0, from)
			var got []byte
			for len(got) < len(want)+l4Len {
				f := l.next(t)
				b := f.Bytes()[f.L3:f.End]
				if !f.Fragment || len(b) > l.mtu {
					t.Fatalf("%d bytes, a fragment: %v", len(b), f.Fragment)
				}
				got = append(got, b[map[bool]int{true: ipv4Len, false: ipv6Len + 8}[w.host.Is4()]:]...)
			}
			if !bytes.Equal(got[l4Len:], want) {
				t.Errorf("%d bytes inside", len(got))
			}
		})
	}
}

func TestAdmissionMayLeadElsewhere(t *testing.T) {
	table, l, s := open(t, Config{}), newLink(), serve(t, families["IPv4"].outside)
	known := netip.MustParseAddrPort("192.0.2.1:99")
	to := s.at
	n := table.Network("blue", l, func(_ uint8, dst netip.AddrPort) (netip.AddrPort, bool) { return to, dst == known })
	must(t, n.Datagram(udp(t, packet.Header{Src: netip.MustParseAddrPort("10.0.0.2:4000"), Dst: known}, []byte("1"), 0)), drop.None)
	_, _, from := s.receive(t)
	s.send(t, []byte("2"), 0, from)
	f := l.next(t)
	if got := netip.AddrPortFrom(f.SrcAddr(), binary.BigEndian.Uint16(f.Bytes()[f.L4:])); got != known {
		t.Errorf("the answer is from %s, expected %s as the container knows it", got, known)
	}
	n.Readmit()
	if len(table.Flows()) != 1 {
		t.Error("a flow that is admitted as before was ended")
	}
	to = serve(t, families["IPv4"].elsewhere).at
	n.Readmit()
	if len(table.Flows()) != 0 {
		t.Error("a flow that is led elsewhere by now goes on")
	}
}

func TestWhatIsNotAdmittedIsAnsweredByTheGateway(t *testing.T) {
	for name, w := range families {
		t.Run(name, func(t *testing.T) {
			table, l := open(t, Config{}), newLink()
			n := table.Network("blue", l, func(uint8, netip.AddrPort) (netip.AddrPort, bool) { return netip.AddrPort{}, false })
			f := udp(t, packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: netip.AddrPortFrom(w.outside, 9)}, []byte("1"), 0)
			must(t, n.Datagram(f), drop.Forbidden)
			e := said(t, l.next(t))
			want := map[bool][2]uint8{true: {3, 13}, false: {1, 1}}[w.host.Is4()]
			if e.from != w.gateway || e.kind != want[0] || e.code != want[1] {
				t.Errorf("%+v, expected %d from the gateway", e, want)
			}
			if !bytes.Equal(e.quote, f.Bytes()[f.L3:f.End]) {
				t.Errorf("quote % x\nof     % x", e.quote, f.Bytes()[f.L3:f.End])
			}
			if len(table.Flows()) != 0 || table.Stats().Sockets != 0 {
				t.Error("there is a flow")
			}
		})
	}
}

// message is an ICMP error that arrived.
type message struct {
	from       netip.Addr
	kind, code uint8
	rest       uint32
	quote      []byte
}

func said(t *testing.T, f *frame.Frame) message {
	t.Helper()
	if f.Proto != frame.ProtoICMP && f.Proto != frame.ProtoICMPv6 {
		t.Fatalf("protocol %d arrived, expected an ICMP error", f.Proto)
	}
	m := f.Bytes()[f.L4:f.End]
	return message{f.SrcAddr(), m[0], m[1], binary.BigEndian.Uint32(m[4:]), m[8:]}
}

func TestClosedPortsAreUnreachable(t *testing.T) {
	for name, w := range families {
		t.Run(name, func(t *testing.T) {
			table, l, s := open(t, Config{}), newLink(), serve(t, w.outside)
			n := table.Network("blue", l, anywhere)
			h := packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: s.at, ID: 0x1234}
			s.close()
			f := udp(t, h, pattern(300), 0)
			f.Complete()
			must(t, n.Datagram(f), drop.None)
			e := said(t, l.next(t))
			if e.from != w.outside || e.kind != map[bool]uint8{true: 3, false: 1}[w.host.Is4()] || e.code != map[bool]uint8{true: 3, false: 4}[w.host.Is4()] {
				t.Errorf("%+v", e)
			}
			sent := f.Bytes()[f.L3:f.End]
			ip := map[bool]int{true: ipv4Len, false: ipv6Len}[w.host.Is4()]
			if len(e.quote) < ip+l4Len || !bytes.Equal(e.quote[ip:], sent[ip:len(e.quote)]) {
				t.Errorf("quotes % x\nof     % x", e.quote, sent)
			}
			if w.host.Is4() && (!bytes.Equal(e.quote[:8], sent[:8]) || !bytes.Equal(e.quote[12:20], sent[12:20])) {
				t.Errorf("quotes header % x\nof            % x", e.quote[:20], sent[:20])
			}
			if w.host.Is6() && !bytes.Equal(e.quote[8:40], sent[8:40]) {
				t.Errorf("quotes header % x\nof            % x", e.quote[:40], sent[:40])
			}
			must(t, n.Datagram(udp(t, h, pattern(300), 0)), drop.None) // the error has not stuck to the socket
		})
	}
}

func TestWrongFramesAreRefused(t *testing.T) {
	table, l := open(t, Config{}), newLink()
	n := table.Network("blue", l, anywhere)
	w, six := families["IPv4"], families["IPv6"]
	h := packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: netip.AddrPortFrom(w.outside, 9)}
	edit := func(f *frame.Frame, change func(b []byte)) *frame.Frame {
		f.Complete()
		f.Checksum = frame.Unverified
		b := f.Bytes()
		change(b)
		b[24], b[25] = 0, 0
		if f.Ether == frame.EtherIPv4 {
			binary.BigEndian.PutUint16(b[24:], ^frame.Sum(b[14:34], 0))
		}
		if r := f.Parse(); r != drop.None {
			t.Fatal(r)
		}
		return f
	}
	tiny := udp(t, h, make([]byte, 200), 100)
	tiny.Size = 1
	must(t, tiny.Parse(), drop.None)
	for name, c := range map[string]struct {
		f    *frame.Frame
		want drop.Reason
	}{
		"a wrong checksum":              {edit(udp(t, h, []byte("12"), 0), func(b []byte) { b[42] ^= 1 }), drop.BadChecksum},
		"a TTL of 1":                    {edit(udp(t, h, []byte("12"), 0), func(b []byte) { b[22] = 1 }), drop.TTLExpired},
		"a TTL of 0":                    {edit(udp(t, h, []byte("12"), 0), func(b []byte) { b[22] = 0 }), drop.TTLExpired},
		"a fragment":                    {edit(udp(t, h, []byte("12"), 0), func(b []byte) { b[20] = 0x20 }), drop.NotForwarded},
		"an echo reply":                 {edit(echo(t, w.host, w.outside, 64, 1, 1, nil), func(b []byte) { b[34], b[36] = 0, b[36]+8 }), drop.NotForwarded},
		"TCP":                           {edit(udp(t, h, make([]byte, 40), 0), func(b []byte) { b[23], b[46] = 6, 0x50 }), drop.BadChecksum},
		"hundreds of tiny datagrams":    {tiny, drop.TooLarge},
		"IPv6 with an extension header": {extended(t, udp(t, packet.Header{Src: netip.AddrPortFrom(six.host, 1), Dst: netip.AddrPortFrom(six.outside, 9)}, nil, 0)), drop.NotForwarded},
	} {
		t.Run(name, func(t *testing.T) {
			if got := n.Datagram(c.f); got != c.want {
				t.Errorf("%s, expected %s", got, c.want)
			}
		})
	}
	t.Run("a datagram without checksum is right", func(t *testing.T) {
		s := serve(t, w.outside)
		h.Dst = s.at
		f := edit(udp(t, h, []byte("12"), 0), func(b []byte) { b[40], b[41] = 0, 0 })
		must(t, n.Datagram(f), drop.None)
		if b, _, _ := s.receive(t); string(b) != "12" {
			t.Errorf("%q", b)
		}
	})
}

// extended is f with an option between its headers.
func extended(t *testing.T, f *frame.Frame) *frame.Frame {
	t.Helper()
	f.Complete()
	b := bytes.Clone(f.Bytes())
	at := int(f.L4)
	b = append(b[:at:at], append([]byte{b[20], 0, 1, 4, 0, 0, 0, 0}, b[at:]...)...)
	b[20] = 60
	binary.BigEndian.PutUint16(b[18:], binary.BigEndian.Uint16(b[18:])+8)
	g := new(frame.Frame)
	g.Set(append(make([]byte, frame.Headroom), b...), frame.Headroom, len(b))
	if r := g.Parse(); r != drop.None {
		t.Fatal(r)
	}
	return g
}

func TestFloodsAreBounded(t *testing.T) {
	w := families["IPv4"]
	send := func(n *Network, host byte, port, to uint16) drop.Reason {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), port)
		return n.Datagram(udp(t, packet.Header{Src: src, Dst: netip.AddrPortFrom(w.outside, to)}, nil, 0))
	}
	t.Run("of source ports", func(t *testing.T) {
		table := open(t, Config{Sockets: 40})
		n := table.Network("blue", newLink(), anywhere)
		refused := 0
		for i := range 1000 {
			if send(n, 2, uint16(1000+i), 9) == drop.FlowLimit {
				refused++
			}
		}
		if s := table.Stats(); refused != 990 || s.Sockets != 10 {
			t.Errorf("%d refused, %d sockets; expected a quarter of 40 for one container", refused, s.Sockets)
		}
		must(t, send(n, 3, 1000, 9), drop.None)
		if len(table.Flows()) != 11 {
			t.Errorf("%d flows", len(table.Flows()))
		}
	})
	t.Run("of destinations", func(t *testing.T) {
		table := open(t, Config{Flows: 100})
		n := table.Network("blue", newLink(), anywhere)
		refused := 0
		for i := range 1000 {
			if send(n, 2, 1000, uint16(20000+i)) == drop.FlowLimit {
				refused++
			}
		}
		if len(table.Flows()) != 100 || refused != 900 {
			t.Errorf("%d flows, %d refused", len(table.Flows()), refused)
		}
		must(t, send(n, 2, 1000, 20000), drop.None) // what is there goes on
		must(t, send(n, 3, 1000, 20000), drop.None)
		n.Forget(netip.MustParseAddr("10.0.0.2"))
		must(t, send(n, 2, 1001, 20000), drop.None)
		if len(table.Flows()) != 2 {
			t.Errorf("%d flows after the container was forgotten", len(table.Flows()))
		}
	})
}

func TestFlowsEndWhenIdle(t *testing.T) {
	w := families["IPv4"]
	for name, c := range map[string]struct {
		port     uint16
		answered bool
		lasts    time.Duration
	}{
		"without an answer":   {9, false, 30 * time.Second},
		"with an answer":      {0, true, 180 * time.Second},
		"questions for DNS":   {53, false, 10 * time.Second},
		"answered DNS":        {0, true, 10 * time.Second},
		"with a jump in time": {9, false, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var k clock
			table, l, s := open(t, Config{Now: k.now}), newLink(), serve(t, w.outside)
			dst := netip.AddrPortFrom(w.outside, c.port)
			if c.port == 0 {
				dst = s.at
			}
			if name == "answered DNS" {
				dst = netip.MustParseAddrPort("192.0.2.1:53")
			}
			n := table.Network("blue", l, func(_ uint8, d netip.AddrPort) (netip.AddrPort, bool) {
				if d.Port() == 53 {
					return s.at, true
				}
				return d, true
			})
			f := udp(t, packet.Header{Src: netip.AddrPortFrom(w.host, 4000), Dst: dst}, []byte("1"), 0)
			must(t, n.Datagram(f), drop.None)
			if c.answered {
				_, _, from := s.receive(t)
				s.send(t, []byte("2"), 0, from)
				l.next(t)
			}
			if name == "with a jump in time" {
				k.advance(t, table, 1000*time.Hour)
				if got := len(table.Flows()); got != 0 {
					t.Errorf("%d flows", got)
				}
				must(t, n.Datagram(f), drop.None)
			}
			for range 3 { // use keeps a flow
				k.advance(t, table, c.lasts-time.Second)
				if got := table.Flows(); len(got) != 1 || got[0].Timeout != c.lasts || got[0].Idle.Round(time.Second) != c.lasts-time.Second {
					t.Fatalf("%+v, expected one with a timeout of %s", got, c.lasts)
				}
				must(t, n.Datagram(f), drop.None)
			}
			k.advance(t, table, c.lasts+time.Second)
			if got := len(table.Flows()); got != 0 || table.Stats().Sockets != 0 {
				t.Errorf("%d flows, %d sockets after %s", got, table.Stats().Sockets, c.lasts)
			}
			must(t, n.Datagram(f), drop.None) // and begins anew
		})
	}
}

func TestManyFlowsEndTogether(t *testing.T) {
	var k clock
	table := open(t, Config{Now: k.now})
	n := table.Network("blue", newLink(), anywhere)
	for i := range 5000 {
		h := packet.Header{Src: netip.MustParseAddrPort("10.0.0.2:4000"), Dst: netip.AddrPortFrom(families["IPv4"].outside, uint16(20000+i))}
		must(t, n.Datagram(udp(t, h, nil, 0)), drop.None)
		k.ns.Add(int64(time.Millisecond))
	}
	k.advance(t, table, 27*time.Second)
	if got := len(table.Flows()); got < 2000 || got > 3100 {
		t.Errorf("%d flows, expected those of the last three seconds", got)
	}
	k.advance(t, table, 10*time.Second)
	if len(table.Flows()) != 0 || table.Stats().Sockets != 0 || table.wheel.n != 0 {
		t.Errorf("%d flows, %d in the wheel", len(table.Flows()), table.wheel.n)
	}
}

func TestTheTimerEndsFlowsByItself(t *testing.T) {
	var k clock
	table := open(t, Config{Now: k.now})
	n := table.Network("blue", newLink(), anywhere)
	must(t, n.Datagram(udp(t, packet.Header{Src: netip.MustParseAddrPort("10.0.0.2:4000"), Dst: netip.MustParseAddrPort("127.0.0.7:9")}, nil, 0)), drop.None)
	k.ns.Add(int64(time.Minute))
	lab.Eventually(t, func() bool { return len(table.Flows()) == 0 }, patience)
}

func TestWhatIsClosedStaysClosed(t *testing.T) {
	table := open(t, Config{})
	h := packet.Header{Src: netip.MustParseAddrPort("10.0.0.2:4000"), Dst: netip.MustParseAddrPort("127.0.0.7:9")}
	blue, red := table.Network("blue", newLink(), anywhere), table.Network("red", newLink(), anywhere)
	must(t, blue.Datagram(udp(t, h, nil, 0)), drop.None)
	must(t, red.Datagram(udp(t, h, nil, 0)), drop.None)
	blue.Close()
	blue.Close()
	must(t, blue.Datagram(udp(t, h, nil, 0)), drop.PortClosed)
	if f := table.Flows(); len(f) != 1 || f[0].Network != "red" {
		t.Errorf("%+v", f)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if r := red.Datagram(udp(t, h, nil, 0)); r != drop.PortClosed && r != drop.RouterFault {
		t.Errorf("%s after the table was closed", r)
	}
	red.Forget(h.Src.Addr())
	red.Readmit()
	red.Close()
}

func TestPingIsRefusedWithTheRemedy(t *testing.T) {
	table, l := open(t, Config{}), newLink()
	why := table.PingAllowed()
	if why == nil {
		t.Skip("ping sockets are allowed here; TestOutsideLooksAsThroughARouter covers that")
	}
	if !strings.Contains(why.Error(), "sysctl -w net.ipv4.ping_group_range=") || !strings.Contains(why.Error(), fmt.Sprint(os.Getegid())) {
		t.Errorf("no remedy in: %v", why)
	}
	n := table.Network("blue", l, anywhere)
	w := families["IPv4"]
	must(t, n.Datagram(echo(t, w.host, w.outside, 64, 7, 1, nil)), drop.Forbidden)
	if e := said(t, l.next(t)); e.from != w.gateway || e.kind != 3 || e.code != 13 {
		t.Errorf("%+v", e)
	}
	if table.Stats().PingRefused != 1 || len(table.Flows()) != 0 {
		t.Errorf("%+v, %d flows", table.Stats(), len(table.Flows()))
	}
}

func TestUnsoundConfigsAreRefused(t *testing.T) {
	for _, c := range []Config{{Flows: -1}, {Sockets: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestThreadsMeet(t *testing.T) {
	table := open(t, Config{Sockets: 400})
	s := serve(t, families["IPv4"].outside)
	var seen atomic.Int64
	l := counting{newLink(), &seen}
	n := table.Network("blue", l, anywhere)
	stop := make(chan struct{})
	var threads sync.WaitGroup
	for range 3 {
		threads.Add(1)
		go func() {
			defer threads.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				dst := s.at
				if i%5 == 0 {
					dst = netip.AddrPortFrom(families["IPv4"].elsewhere, uint16(9+rand.IntN(3)))
				}
				h := packet.Header{Src: netip.AddrPortFrom(families["IPv4"].host, uint16(4000+rand.IntN(8))), Dst: dst, DF: i%2 == 0}
				switch r := n.Datagram(udp(t, h, []byte("1"), 0)); r {
				case drop.None, drop.QueueFull, drop.FlowLimit, drop.PortClosed:
				default:
					t.Errorf("%s", r)
					return
				}
			}
		}()
	}
	threads.Add(1)
	go func() { // the outside, which answers
		defer threads.Done()
		b := make([]byte, 100)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if k, from, err := unix.Recvfrom(s.fd, b, unix.MSG_DONTWAIT); err == nil {
				_ = unix.Sendto(s.fd, b[:k], 0, from)
			}
		}
	}()
	for i := range 20 {
		n.Forget(families["IPv4"].host)
		table.Flows()
		n.Readmit()
		_ = table.loop.Load() == nil || table.loop.Load().Do(table.expire) == nil
		before := seen.Load()
		if i%5 == 0 {
			lab.Eventually(t, func() bool { return seen.Load() > before }, patience)
		}
	}
	close(stop)
	threads.Wait()
}

// counting is a link that counts what arrives, and keeps nothing.
type counting struct {
	*link
	n *atomic.Int64
}

func (c counting) Send(netip.Addr, *frame.Offload, [][]byte) drop.Reason {
	c.n.Add(1)
	return drop.None
}
