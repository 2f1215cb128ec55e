package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// sent is a UDP datagram of n payload bytes from the container, from its IP header on.
func (p pair) sent(t testing.TB, n int) []byte {
	t.Helper()
	var l link
	var w Writer
	h := Header{Src: netip.AddrPortFrom(p.host, 4000), Dst: netip.AddrPortFrom(p.who, 9999)}
	if r := w.UDP(&l, h, pattern(n), 0, 65535); r != drop.None {
		t.Fatal(r)
	}
	return bytes.Clone(l.wire(t)[0][Room:])
}

// said is what an error says: type, code, the four bytes behind the checksum, what it quotes.
func said(t *testing.T, l *link, p pair) (kind, code uint8, rest uint32, quote []byte) {
	t.Helper()
	all := l.wire(t)
	if len(all) != 1 {
		t.Fatalf("%d packets, expected one", len(all))
	}
	ip := all[0][Room:]
	n, proto, src, dst := 20, ip[9], ip[12:16], ip[16:20]
	if p.host.Is6() {
		n, proto, src, dst = 40, ip[6], ip[8:24], ip[24:40]
	} else if ip[1] != 0xc0 {
		t.Errorf("TOS %#x, expected network control", ip[1])
	}
	if !bytes.Equal(src, p.gateway.AsSlice()) || !bytes.Equal(dst, p.host.AsSlice()) {
		t.Errorf("from % x to % x", src, dst)
	}
	m := ip[n:]
	if !checked(p.gateway, p.host, proto, m) {
		t.Errorf("wrong checksum in % x", m[:8])
	}
	return m[0], m[1], binary.BigEndian.Uint32(m[4:]), m[8:]
}

func TestErrorsSayWhatTheyAre(t *testing.T) {
	code := func(c Code) func(*Writer, Sender, netip.Addr, []byte) drop.Reason {
		return func(w *Writer, to Sender, from netip.Addr, q []byte) drop.Reason {
			return w.Unreachable(to, from, c, q)
		}
	}
	type word struct {
		kind, code uint8
		rest       uint32
	}
	for name, c := range map[string]struct {
		send      func(*Writer, Sender, netip.Addr, []byte) drop.Reason
		four, six word
	}{
		"port unreachable":     {code(PortUnreachable), word{3, 3, 0}, word{1, 4, 0}},
		"host unreachable":     {code(HostUnreachable), word{3, 1, 0}, word{1, 3, 0}},
		"net unreachable":      {code(NetUnreachable), word{3, 0, 0}, word{1, 0, 0}},
		"prohibited":           {code(Prohibited), word{3, 13, 0}, word{1, 1, 0}},
		"protocol unreachable": {code(ProtocolUnreachable), word{3, 2, 0}, word{4, 1, 6}},
		"time exceeded":        {(*Writer).TimeExceeded, word{11, 0, 0}, word{3, 0, 0}},
		"too big": {func(w *Writer, to Sender, from netip.Addr, q []byte) drop.Reason { return w.TooBig(to, from, 1400, q) },
			word{3, 4, 1400}, word{2, 0, 1400}},
	} {
		for family, p := range families {
			for _, n := range []int{4, 1401} {
				t.Run(family+" "+name, func(t *testing.T) {
					quote := p.sent(t, n)
					var l link
					var w Writer
					if r := c.send(&w, &l, p.gateway, append(bytes.Clone(quote), "padding"...)); r != drop.None {
						t.Fatal(r)
					}
					want, room := c.four, 576-28
					if p.host.Is6() {
						want, room = c.six, 1280-48
					}
					kind, code, rest, quoted := said(t, &l, p)
					if got := (word{kind, code, rest}); got != want {
						t.Errorf("%v, expected %v", got, want)
					}
					equal(t, "quote", quoted, quote[:min(len(quote), room)])
				})
			}
		}
	}
}

func TestNoErrorsAboutWhatHasNone(t *testing.T) {
	four, six := families["IPv4"].sent(t, 100), families["IPv6"].sent(t, 100)
	edit := func(b []byte, change func(b []byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return b
	}
	icmp4 := func(kind byte) []byte { return edit(four, func(b []byte) { b[9], b[20] = 1, kind }) }
	icmp6 := func(kind byte) []byte { return edit(six, func(b []byte) { b[6], b[40] = 58, kind }) }
	for name, c := range map[string]struct {
		b        []byte
		any, big bool
	}{
		"an IPv4 packet":               {four, true, true},
		"an IPv4 echo request":         {icmp4(8), true, true},
		"an ICMP error":                {icmp4(3), false, false},
		"a time exceeded":              {icmp4(11), false, false},
		"an ICMP redirect":             {icmp4(5), false, false},
		"ICMP cut off":                 {icmp4(8)[:20], false, false},
		"an IPv4 first fragment":       {edit(four, func(b []byte) { b[6] = 0x20 }), true, true},
		"an IPv4 later fragment":       {edit(four, func(b []byte) { b[7] = 8 }), false, false},
		"IPv4 to a group":              {edit(four, func(b []byte) { b[16] = 224 }), false, false},
		"IPv4 to all":                  {edit(four, func(b []byte) { copy(b[16:], "\xff\xff\xff\xff") }), false, false},
		"IPv4 from no address":         {edit(four, func(b []byte) { copy(b[12:], "\x00\x00\x00\x00") }), false, false},
		"IPv4 from a group":            {edit(four, func(b []byte) { b[12] = 224 }), false, false},
		"IPv4 from loopback":           {edit(four, func(b []byte) { b[12] = 127 }), false, false},
		"a header longer than all":     {edit(four, func(b []byte) { b[0] = 0x4f })[:40], false, false},
		"an IPv6 packet":               {six, true, true},
		"an IPv6 echo request":         {icmp6(128), true, true},
		"an ICMPv6 error":              {icmp6(1), false, false},
		"an ICMPv6 redirect":           {icmp6(137), false, false},
		"IPv6 to a group":              {edit(six, func(b []byte) { b[24] = 0xff }), false, true},
		"IPv6 from no address":         {edit(six, func(b []byte) { clear(b[8:24]) }), false, false},
		"IPv6 from a group":            {edit(six, func(b []byte) { b[8] = 0xff }), false, false},
		"an IPv6 first fragment":       {edit(six, func(b []byte) { copy(b[40:], "\x11\x00\x00\x01"); b[6] = 44 }), true, true},
		"an IPv6 later fragment":       {edit(six, func(b []byte) { copy(b[40:], "\x11\x00\x00\x08"); b[6] = 44 }), false, false},
		"an error behind an option":    {edit(six, func(b []byte) { copy(b[40:], "\x3a\x00"); b[6], b[48] = 60, 1 }), false, false},
		"a query behind an option":     {edit(six, func(b []byte) { copy(b[40:], "\x3a\x00"); b[6], b[48] = 60, 128 }), true, true},
		"an option longer than all":    {edit(six, func(b []byte) { copy(b[40:], "\x3c\xff"); b[6] = 60 }), false, false},
		"options without end":          {edit(six, func(b []byte) { clear(b[40:]); b[6] = 0 }), false, false},
		"nothing":                      {nil, false, false},
		"what is no IP":                {bytes.Repeat([]byte{0x99}, 60), false, false},
		"an IPv4 header that is short": {four[:19], false, false},
		"an IPv6 header that is short": {six[:39], false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := families["IPv4"]
			if len(c.b) > 0 && c.b[0]>>4 == 6 {
				p = families["IPv6"]
			}
			var w Writer
			for what, sends := range map[string]struct {
				send func(*link)
				want bool
			}{
				"unreachable":   {func(l *link) { w.Unreachable(l, p.gateway, HostUnreachable, c.b) }, c.any},
				"time exceeded": {func(l *link) { w.TimeExceeded(l, p.gateway, c.b) }, c.any},
				"too big":       {func(l *link) { w.TooBig(l, p.gateway, 1400, c.b) }, c.big},
			} {
				var l link
				sends.send(&l)
				if len(l.frames) > 0 != sends.want {
					t.Errorf("%s: %d packets, expected some: %v", what, len(l.frames), sends.want)
				}
			}
			var l link
			w.Unreachable(&l, netip.Addr{}, HostUnreachable, c.b)
			if len(l.frames) > 0 {
				t.Error("an error from no address")
			}
		})
	}
}

func TestUnrecognizedProtocolIsPointedAt(t *testing.T) {
	p := families["IPv6"]
	b := p.sent(t, 100)
	b[6], b[40], b[41] = 60, 132, 0
	var l link
	var w Writer
	w.Unreachable(&l, p.gateway, ProtocolUnreachable, b)
	if _, _, at, _ := said(t, &l, p); at != 40 {
		t.Errorf("points at %d, expected the option's next header at 40", at)
	}
}

func TestWritingDoesNotAllocate(t *testing.T) {
	var w Writer
	to := new(sink)
	big := pattern(65000)
	for family, p := range families {
		quote := p.sent(t, 1000)
		limit := NewLimiter(nil)
		if n := testing.AllocsPerRun(50, func() {
			w.UDP(to, p.header(false), big[:1000], 0, 1450)
			w.UDP(to, p.header(false), big, 1300, 1450)
			w.UDP(to, p.header(false), big, 0, 1450)
			w.EchoReply(to, p.who, p.host, 1, 2, 3, big[:56], 1450)
			w.Unreachable(to, p.gateway, Prohibited, quote)
			w.TimeExceeded(to, p.gateway, quote)
			w.TooBig(to, p.gateway, 1400, quote)
			limit.Allow(p.host)
		}); n != 0 {
			t.Errorf("%s: %v allocations, expected none", family, n)
		}
	}
}

// sink is a Sender that keeps nothing.
type sink struct{ bytes int }

func (s *sink) Send(_ netip.Addr, _ *frame.Offload, parts [][]byte) drop.Reason {
	for _, b := range parts {
		s.bytes += len(b)
	}
	return drop.None
}

func TestLimiterRefillsEachContainersBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	l := NewLimiter(func() time.Time { return now })
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	for l.slot(a) == l.slot(b) { // one in 4096 runs
		b = b.Next()
	}
	burst := func(addr netip.Addr) (n int) {
		for l.Allow(addr) {
			n++
		}
		return n
	}
	if n := burst(a); n != errorBurst {
		t.Errorf("a burst of %d, expected %d", n, errorBurst)
	}
	if n := burst(b); n != errorBurst {
		t.Errorf("a burst of %d for another container, expected %d", n, errorBurst)
	}
	now = now.Add(7 * errorEvery)
	if n := burst(a); n != 7 {
		t.Errorf("%d after the time for 7", n)
	}
	now = now.Add(time.Hour)
	if n := burst(a); n != errorBurst {
		t.Errorf("a burst of %d after an hour, expected %d", n, errorBurst)
	}
}

func FuzzErrors(f *testing.F) {
	for _, p := range families {
		f.Add(p.sent(f, 10), uint16(1400))
	}
	f.Add([]byte{0x60, 0, 0, 0, 0, 200, 0, 64}, uint16(0))
	f.Fuzz(func(t *testing.T, quote []byte, mtu uint16) {
		p := families["IPv4"]
		if len(quote) > 0 && quote[0]>>4 == 6 {
			p = families["IPv6"]
		}
		var w Writer
		for c := PortUnreachable; c <= ProtocolUnreachable; c++ {
			check(t, func(l *link) { w.Unreachable(l, p.gateway, c, quote) })
		}
		check(t, func(l *link) { w.TimeExceeded(l, p.gateway, quote) })
		check(t, func(l *link) { w.TooBig(l, p.gateway, int(mtu), quote) })
		dst := make([]byte, 48+int(mtu)%1300)
		if n := PutTooBig(dst, p.gateway, int(mtu), quote); n > len(dst) {
			t.Errorf("%d bytes in room for %d", n, len(dst))
		}
	})
}

// check has send send, and looks at what it sent: a well-formed error about which no other error is sent, within the size allowed.
func check(t *testing.T, send func(*link)) {
	var l link
	send(&l)
	for _, f := range l.frames {
		if r := f.Parse(); r != drop.None || !f.Verify() || f.End-int(f.L3) > quote6 {
			t.Fatalf("a malformed error: %s: % x", r, f.Bytes())
		}
		f.Checksum = frame.Unverified
		if !f.Verify() {
			t.Fatalf("a wrong checksum: % x", f.Bytes())
		}
		if _, ok := readQuote(f.Bytes()[f.L3:]); ok {
			t.Fatalf("an error that could be answered: % x", f.Bytes())
		}
	}
}
