package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// crowd is a network with n containers of one alias.
func crowd(n int, v6 bool) Config {
	c := Network{Name: "crowd", Subnets: prefixList("10.8.0.0/16", "fd08::/64"), Gateways: addresses("10.8.0.1", "fd08::1")}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 8, byte((i + 2) >> 8), byte(i + 2)})
		if v6 {
			a = netip.AddrFrom16([16]byte{0xfd, 8, 14: byte((i + 2) >> 8), 15: byte(i + 2)})
		}
		c.Records = append(c.Records, Record{
			Name: fmt.Sprintf("c%d", i), Addresses: []netip.Addr{a},
			Names: Names{Aliases: []string{"all"}, Ports: []Port{{Number: 80}}},
		})
	}
	return Config{Networks: []Network{c}}
}

func serverOf(c Config) *Server {
	s := New(ServerConfig{Forwarder: &outside{}})
	s.SetZone(Compile(c))
	return s
}

func TestAnswersFitWhatTheClientTakes(t *testing.T) {
	s := serverOf(crowd(3000, false))
	for _, tt := range []struct {
		why   string
		edns  uint16
		tcp   bool
		qtype uint16
		limit int
		least int // records
		cut   bool
	}{
		{"without EDNS 512", 0, false, typeA, 512, 30, true},
		{"EDNS below 512 means 512", 100, false, typeA, 512, 28, true},
		{"EDNS of its size", 800, false, typeA, 800, 46, true},
		{"never more than an MTU carries", 65535, false, typeA, 1232, 73, true},
		{"TCP gives all", 0, true, typeA, 65535, 3000, false},
		{"SRV", 1232, false, mdns.TypeSRV, 1232, 30, true},
		{"SRV by TCP", 1232, true, mdns.TypeSRV, 65535, 1500, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			name := "all."
			if tt.qtype == mdns.TypeSRV {
				name = "_80._tcp.all."
			}
			q := new(mdns.Msg).SetQuestion(name, tt.qtype)
			if tt.edns > 0 {
				q.SetEdns0(tt.edns, false)
			}
			wire, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			b := exchange(s, "crowd", netip.MustParseAddr("10.8.0.2"), wire, tt.tcp)
			m := new(mdns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Fatal(err)
			}
			if len(b) > tt.limit || len(m.Answer) < tt.least || m.Truncated != tt.cut {
				t.Fatalf("%d bytes, %d records, cut %t; want at most %d, at least %d, %t", len(b), len(m.Answer), m.Truncated, tt.limit, tt.least, tt.cut)
			}
			if (m.IsEdns0() != nil) != (tt.edns > 0) {
				t.Fatalf("OPT record: %v", m.IsEdns0())
			}
			seen := make(map[string]bool)
			for _, rr := range m.Answer {
				if seen[rr.String()] {
					t.Fatalf("twice: %v", rr)
				}
				seen[rr.String()] = true
			}
		})
	}
}

func TestAdditionalAddressesAreCutWithoutTC(t *testing.T) {
	s := serverOf(crowd(12, true))
	q := new(mdns.Msg).SetQuestion("_80._tcp.all.", mdns.TypeSRV)
	m := ask(t, s, "crowd", "10.8.0.2", q, false)
	if len(m.Answer) != 12 || m.Truncated || len(m.Extra) == 0 || len(m.Extra) >= 12 {
		t.Fatalf("%d answers, cut %t, %d additional; want 12, false, some but not 12", len(m.Answer), m.Truncated, len(m.Extra))
	}
	m = ask(t, s, "crowd", "10.8.0.2", q, true)
	targets := make(map[string]bool)
	for _, rr := range m.Answer {
		targets[rr.(*mdns.SRV).Target] = true
	}
	for _, rr := range m.Extra {
		if _, ok := rr.(*mdns.AAAA); !ok || !targets[rr.Header().Name] {
			t.Fatalf("%v is no address of a target", rr)
		}
	}
	if len(m.Extra) != 12 {
		t.Fatalf("%d addresses by TCP, want 12", len(m.Extra))
	}
}

func TestAnswersAreShuffled(t *testing.T) {
	s := serverOf(crowd(4, false))
	first := make(map[string]int)
	for range 400 {
		m := ask(t, s, "crowd", "10.8.0.2", new(mdns.Msg).SetQuestion("all.", typeA), false)
		if len(m.Answer) != 4 {
			t.Fatalf("%d addresses, want 4", len(m.Answer))
		}
		first[m.Answer[0].(*mdns.A).A.String()]++
	}
	// Each is first 100 times on average, with a standard deviation of less than 9.
	for a, n := range first {
		if n < 20 {
			t.Errorf("%s was first %d times of 400", a, n)
		}
	}
	if len(first) != 4 {
		t.Fatalf("only %v were ever first", first)
	}
}

// raw makes a query of bytes.
func raw(flags uint16, counts [4]uint16, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0xab, 0xcd}, flags)
	for _, n := range counts {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, rest...)
}

func TestWhatIsNoQuestion(t *testing.T) {
	web := []byte("\x03web\x00\x00\x01\x00\x01")
	one := [4]uint16{1}
	opt := func(version, flags byte, length byte, rest ...byte) []byte {
		return append([]byte{0, 0, 41, 4, 208, 0, version, flags, 0, 0, length}, rest...)
	}
	long := []byte(strings.Repeat("\x3f"+strings.Repeat("x", 63), 4) + "\x00\x00\x01\x00\x01")
	longest := []byte(strings.Repeat("\x3f"+strings.Repeat("x", 63), 3) + "\x3d" + strings.Repeat("y", 61) + "\x00\x00\x01\x00\x01")
	for _, tt := range []struct {
		why     string
		message []byte
		rcode   int // -1: no answer
	}{
		{"nothing", nil, -1},
		{"half a header", raw(0, one)[:11], -1},
		{"an answer", raw(flagQR, one, web...), -1},
		{"a header alone", raw(0, [4]uint16{}), mdns.RcodeFormatError},
		{"a question that is missing", raw(0, one), mdns.RcodeFormatError},
		{"a question without its class", raw(0, one, web[:7]...), mdns.RcodeFormatError},
		{"two questions", raw(0, [4]uint16{2}, append(slices.Clone(web), web...)...), mdns.RcodeFormatError},
		{"a label that is cut", raw(0, one, []byte("\x09web")...), mdns.RcodeFormatError},
		{"a label of 64", raw(0, one, append([]byte{64}, make([]byte, 80)...)...), mdns.RcodeFormatError},
		{"a name that points to itself", raw(0, one, 0xc0, 12, 0, 1, 0, 1), mdns.RcodeFormatError},
		{"a name of 257", raw(0, one, long...), mdns.RcodeFormatError},
		{"a name of 255 without a dot to forward", raw(0, one, longest...), 0},
		{"counts that lie", raw(0, [4]uint16{1, 0, 0, 3}, web...), mdns.RcodeFormatError},
		{"a record cut in its data", raw(0, [4]uint16{1, 0, 0, 1}, append(slices.Clone(web), opt(0, 0, 9)...)...), mdns.RcodeFormatError},
		{"OPT twice", raw(0, [4]uint16{1, 0, 0, 2}, slices.Concat(web, opt(0, 0, 0), opt(0, 0, 0))...), mdns.RcodeFormatError},
		{"OPT as an answer", raw(0, [4]uint16{1, 1}, slices.Concat(web, opt(0, 0, 0))...), mdns.RcodeFormatError},
		{"OPT of a name", raw(0, [4]uint16{1, 0, 0, 1}, slices.Concat(web, []byte{1, 'x'}, opt(0, 0, 0))...), mdns.RcodeFormatError},
		{"EDNS version 1", raw(0, [4]uint16{1, 0, 0, 1}, slices.Concat(web, opt(1, 0, 0))...), mdns.RcodeBadVers},
		{"OPT with an option", raw(0, [4]uint16{1, 0, 0, 1}, slices.Concat(web, opt(0, 0x80, 6, 0, 10, 0, 2, 1, 2))...), 0},
		{"a record before OPT, with a pointer", raw(0, [4]uint16{1, 0, 0, 2}, slices.Concat(web, []byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0}, opt(0, 0, 0))...), 0},
		{"bytes behind the end", raw(0, one, append(slices.Clone(web), 1, 2, 3)...), 0},
		{"an update", raw(5<<11, one, web...), mdns.RcodeNotImplemented},
		{"a notification", raw(4<<11, one, web...), mdns.RcodeNotImplemented},
		{"the class of CHAOS", raw(0, one, []byte("\x07version\x04bind\x00\x00\x10\x00\x03")...), mdns.RcodeRefused},
		{"any class", raw(0, one, []byte("\x03web\x00\x00\x01\x00\xff")...), mdns.RcodeRefused},
		{"a type that is none", raw(0, one, []byte("\x03web\x00\x00\x00\x00\x01")...), mdns.RcodeFormatError},
		{"a type that is of EDNS", raw(0, one, []byte("\x03web\x00\x00\x29\x00\x01")...), mdns.RcodeFormatError},
		{"keys", raw(0, one, []byte("\x03web\x00\x00\xf9\x00\x01")...), mdns.RcodeRefused},
		{"a dot within a label is no dot", raw(0, one, []byte("\x08db.front\x00\x00\x01\x00\x01")...), mdns.RcodeNameError},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := serverOf(town())
			b := exchange(s, "front", netip.MustParseAddr("10.0.1.10"), tt.message, false)
			if b == nil || tt.rcode < 0 {
				if b != nil || tt.rcode >= 0 {
					t.Fatalf("answer % x, want rcode %d", b, tt.rcode)
				}
				if s := s.Stats(); len(s.Drops) != 1 {
					t.Fatalf("drops %v, want one", s.Drops)
				}
				return
			}
			m := new(mdns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Fatal(err)
			}
			if m.Rcode != tt.rcode || m.Id != 0xabcd || m.Opcode != int(tt.message[2]>>3) {
				t.Fatalf("%v, want %s", m, mdns.RcodeToString[tt.rcode])
			}
		})
	}
}

func TestEDNSSaysWhyNot(t *testing.T) {
	s := serverOf(town())
	for _, tt := range []struct {
		network, from, name string
		code                uint16
	}{
		{"front", "10.0.1.10", "lost.", mdns.ExtendedErrorCodeNoReachableAuthority},
		{"vault", "10.0.4.2", "example.org.", mdns.ExtendedErrorCodeProhibited},
	} {
		m := ask(t, s, tt.network, tt.from, new(mdns.Msg).SetQuestion(tt.name, typeA).SetEdns0(1232, true), false)
		o := m.IsEdns0()
		if o == nil || !o.Do() || o.UDPSize() != 1232 || len(o.Option) != 1 {
			t.Fatalf("%s: OPT %v", tt.name, o)
		}
		if e, ok := o.Option[0].(*mdns.EDNS0_EDE); !ok || e.InfoCode != tt.code {
			t.Fatalf("%s: %v, want extended error %d", tt.name, o.Option[0], tt.code)
		}
	}
}

func TestSpellingOfTheQuestionIsKept(t *testing.T) {
	m := ask(t, serverOf(town()), "front", "10.0.1.10", new(mdns.Msg).SetQuestion("wEb.FronT.", typeA), false)
	if m.Question[0].Name != "wEb.FronT." || m.Answer[0].Header().Name != "wEb.FronT." {
		t.Fatalf("asked for wEb.FronT., answered %v", m)
	}
}

func TestTTL(t *testing.T) {
	for _, tt := range []struct {
		name string
		ttl  time.Duration
		want uint32
	}{{"web.", 0, 1}, {"web.", 1, 0}, {"web.", 30 * time.Second, 30}, {"web.", -1, 0}, {"lost.", 30 * time.Second, 1}} {
		c := town()
		c.TTL = tt.ttl
		m := ask(t, serverOf(c), "front", "10.0.1.10", new(mdns.Msg).SetQuestion(tt.name, typeA), false)
		rr := append(m.Answer, m.Ns...)[0]
		if rr.Header().Ttl != tt.want {
			t.Errorf("TTL %s: %v, want %d s", tt.ttl, rr, tt.want)
		}
	}
}

func TestAnsweringAllocatesNothing(t *testing.T) {
	s := serverOf(town())
	v := &service{Server: s, network: "front"}
	r := &responder{}
	source := netip.MustParseAddr("10.0.1.20")
	for _, tt := range []struct {
		name  string
		qtype uint16
	}{
		{"db.", typeA}, {"db.back.weft.internal.", typeAAAA}, {"pair.", typeA}, {"nix.", typeA}, {"30.2.0.10.in-addr.arpa.", mdns.TypePTR},
		{"_http._tcp.pair.", mdns.TypeSRV}, {"host.weft.internal.", typeA},
	} {
		wire, err := new(mdns.Msg).SetQuestion(tt.name, tt.qtype).SetEdns0(1232, false).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { v.handle(r, wire, source, false) }); n != 0 {
			t.Errorf("%s %s: %v allocations", tt.name, mdns.Type(tt.qtype), n)
		}
	}
}
