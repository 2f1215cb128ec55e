package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patient has tests fail by hanging, not by a measured time, where the next server is to be asked at once.
const patient = time.Hour

func TestAnswerIsTheClientsOwn(t *testing.T) {
	s := serve(t, always(dns.RcodeSuccess, "www.example.com. 60 CNAME host.example.com.", "host.example.com. 60 A 198.51.100.7"))
	r := resolver(t, Config{Servers: []netip.AddrPort{s.at}})
	for _, name := range []string{"www.example.com.", "WwW.eXample.COM."} { // the second one from the cache
		q := query(name, dns.TypeA)
		q.SetEdns0(4096, false)
		m := must(t, r, q)
		if m.Id != q.Id || !m.Response || !m.RecursionDesired || !m.RecursionAvailable || m.Authoritative || m.AuthenticatedData {
			t.Errorf("%s: header %+v", name, m.MsgHdr)
		}
		if m.IsEdns0() != nil || len(m.Extra) != 0 {
			t.Errorf("%s: the server's OPT record came along: %v", name, m.Extra)
		}
		if m.Question[0] != q.Question[0] || len(m.Answer) != 2 || m.Answer[0].Header().Name != name || m.Answer[1].Header().Name != "host.example.com." {
			t.Errorf("%s: got\n%v", name, m)
		}
	}
	if n := len(s.questions()); n != 1 {
		t.Errorf("the server was asked %d times, expected once: spellings of a name are one name", n)
	}
}

func TestQuestionSaysNothingAboutTheClient(t *testing.T) {
	s := serve(t, always(dns.RcodeSuccess, "example.com. 0 A 198.51.100.7"))
	r := resolver(t, Config{Servers: []netip.AddrPort{s.at}})
	q := query("eXaMple.com.", dns.TypeA)
	q.Id, q.CheckingDisabled = 77, true
	q.SetEdns0(4096, true)
	opt := q.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(10, 0, 0, 0)},
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
	must(t, r, q)
	must(t, r, query("example.com.", dns.TypeA))
	all := s.questions()
	got := all[0].msg
	if got.Question[0].Name != "example.com." || !got.RecursionDesired || !got.CheckingDisabled {
		t.Errorf("asked\n%v", got)
	}
	if opt := got.IsEdns0(); opt == nil || opt.UDPSize() != payload || !opt.Do() || len(opt.Option) != 0 {
		t.Errorf("EDNS of the question: %v", opt)
	}
	if got := all[1].msg; got.CheckingDisabled || got.IsEdns0() == nil || got.IsEdns0().Do() {
		t.Errorf("DO and CD of another client came along:\n%v", got)
	}
}

func TestIdsAndPortsAreRandom(t *testing.T) {
	s := serve(t, always(dns.RcodeSuccess, "example.com. 0 A 198.51.100.7"))
	r := resolver(t, Config{Servers: []netip.AddrPort{s.at}})
	const n = 64
	for range n {
		q := query("example.com.", dns.TypeA)
		q.Id = 1
		must(t, r, q)
	}
	ids, ports, steps := make(map[uint16]bool), make(map[uint16]bool), make(map[uint16]bool)
	var last uint16
	for _, h := range s.questions() {
		ids[h.msg.Id], ports[h.from.Port()], steps[h.msg.Id-last] = true, true, true
		last = h.msg.Id
	}
	if len(ids) < n/2 || len(ports) < n/2 || len(steps) < n/2 {
		t.Errorf("%d questions had %d ids, %d distances between them and %d source ports", n, len(ids), len(steps), len(ports))
	}
}

func TestWrongAnswersAreIgnored(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	right := func(h heard) *dns.Msg { return h.reply(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7") }
	wrong := map[string]func(h heard) []byte{
		"with another id": func(h heard) []byte {
			m := right(h)
			m.Id++
			return h.pack(m)
		},
		"to another question": func(h heard) []byte {
			m := right(h)
			m.Question[0].Name = "example.net."
			return h.pack(m)
		},
		"of another type": func(h heard) []byte {
			m := right(h)
			m.Question[0].Qtype = dns.TypeAAAA
			return h.pack(m)
		},
		"of another class": func(h heard) []byte {
			m := right(h)
			m.Question[0].Qclass = dns.ClassCHAOS
			return h.pack(m)
		},
		"in another spelling": func(h heard) []byte {
			m := right(h)
			m.Question[0].Name = "Example.com."
			return h.pack(m)
		},
		"without a question": func(h heard) []byte {
			m := right(h)
			m.Question = nil
			return h.pack(m)
		},
		"with two questions": func(h heard) []byte {
			m := right(h)
			m.Question = append(m.Question, m.Question[0])
			return h.pack(m)
		},
		"that is a question": func(h heard) []byte { return h.pack(h.msg) },
		"of another opcode": func(h heard) []byte {
			m := right(h)
			m.Opcode = dns.OpcodeNotify
			return h.pack(m)
		},
		"with records missing": func(h heard) []byte {
			m := right(h)
			m.Extra = nil
			b := h.pack(m)
			binary.BigEndian.PutUint16(b[countsAt:], 3)
			return b
		},
		"cut off": func(h heard) []byte {
			b := h.pack(right(h))
			return b[:len(b)-3]
		},
		"that is garbage": func(heard) []byte { return []byte("garbage") },
		"that is empty":   func(heard) []byte { return nil },
	}
	for name, make := range wrong {
		t.Run("one "+name, func(t *testing.T) {
			s := serve(t, func(h heard) [][]byte { return [][]byte{make(h), h.pack(right(h))} })
			r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
			m := must(t, r, query("example.com.", dns.TypeA))
			if len(m.Answer) != 1 || r.Stats().Ignored != 1 {
				t.Errorf("ignored %d, answered\n%v", r.Stats().Ignored, m)
			}
		})
	}
	t.Run("one from another port", func(t *testing.T) {
		s := serve(t, func(h heard) [][]byte {
			m := h.reply(dns.RcodeSuccess, "example.com. 60 A 203.0.113.66")
			other.WriteTo(h.pack(m), net.UDPAddrFromAddrPort(h.from))
			return [][]byte{h.pack(right(h))}
		})
		r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
		m := must(t, r, query("example.com.", dns.TypeA))
		if a := m.Answer[0].(*dns.A).A.String(); a != "198.51.100.7" {
			t.Errorf("the answer of another port was taken: %s", a)
		}
	})
}

func TestManyWrongAnswersLeadToTCP(t *testing.T) {
	s := serve(t, func(h heard) [][]byte {
		m := h.reply(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7")
		if h.network == "tcp" {
			return [][]byte{h.pack(m)}
		}
		var guesses [][]byte
		for range tolerance {
			m.Id++
			guesses = append(guesses, h.pack(m))
		}
		return guesses
	})
	r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
	_, trace, err := r.Trace(t.Context(), query("example.com.", dns.TypeA))
	if err != nil || !trace.TCP || r.Stats().Ignored != tolerance {
		t.Errorf("%+v, %v, ignored %d", trace, err, r.Stats().Ignored)
	}
}

// large is an answer of about 64 KiB.
func large(h heard) *dns.Msg {
	m := h.reply(dns.RcodeSuccess)
	text := strings.Repeat("x", 255)
	for range 240 {
		m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: h.msg.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{text}})
	}
	m.Compress = true
	short := &dns.TXT{Hdr: dns.RR_Header{Name: h.msg.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{""}}
	for m.Len()+13 <= dns.MaxMsgSize-1 {
		m.Answer = append(m.Answer, short)
	}
	return m
}

func TestLargeAnswersComeByTCP(t *testing.T) {
	for name, first := range map[string]say{
		"a truncated answer": func(h heard) [][]byte {
			m := large(h)
			m.Truncate(512)
			return [][]byte{h.pack(m)}
		},
		"one truncated within a record": func(h heard) [][]byte {
			m := h.reply(dns.RcodeSuccess, "example.com. 60 TXT abcdefgh")
			m.Truncated = true
			b := h.pack(m)
			return [][]byte{b[:len(b)-30]}
		},
		"one larger than was asked for": func(h heard) [][]byte { return [][]byte{h.pack(large(h))[:room+10]} },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(h heard) [][]byte {
				if h.network == "udp" {
					return first(h)
				}
				return [][]byte{h.pack(large(h))}
			})
			r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
			m, trace, err := r.Trace(t.Context(), query("example.com.", dns.TypeTXT))
			if err != nil {
				t.Fatal(err)
			}
			if m.Truncated || len(m.Answer) < 240 || m.Len() < 65_000 || !trace.TCP || trace.Server != s.at {
				t.Errorf("%d bytes in %d records, truncated %v; %+v", m.Len(), len(m.Answer), m.Truncated, trace)
			}
			if st := r.Stats(); st.TCP != 1 || st.Servers[0].Answers != 1 {
				t.Errorf("%+v", st)
			}
			if _, trace, _ := r.Trace(t.Context(), query("example.com.", dns.TypeTXT)); !trace.Cached || !trace.TCP || len(s.questions()) != 2 {
				t.Errorf("the whole answer was not kept: %+v", trace)
			}
		})
	}
}

func TestAnswersArePassedOnAsTheyAre(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61) + "."
	for name, test := range map[string]struct {
		name    string
		kind    uint16
		rcode   int
		records []string
	}{
		"a loop of CNAMEs":     {"a.example.", dns.TypeA, dns.RcodeSuccess, []string{"a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example."}},
		"a CNAME to itself":    {"a.example.", dns.TypeA, dns.RcodeSuccess, []string{"a.example. 60 CNAME a.example."}},
		"a name of 255 bytes":  {long, dns.TypeA, dns.RcodeSuccess, []string{long + " 60 A 192.0.2.9"}},
		"no such name":         {"a.example.", dns.TypeA, dns.RcodeNameError, []string{"example. 60 SOA ns.example. m.example. 1 2 3 4 60"}},
		"no such record":       {"a.example.", dns.TypeAAAA, dns.RcodeSuccess, []string{"example. 60 SOA ns.example. m.example. 1 2 3 4 60"}},
		"a type unknown to us": {"a.example.", 65280, dns.RcodeSuccess, []string{`a.example. 60 TYPE65280 \# 4 0a000001`}},
		"an odd return code":   {"a.example.", dns.TypeA, dns.RcodeYXDomain, nil},
		"the root":             {".", dns.TypeNS, dns.RcodeSuccess, []string{". 60 NS a.root-servers.net."}},
		"odd bytes in a name":  {`a\000\.\255.example.`, dns.TypeA, dns.RcodeSuccess, []string{`a\000\.\255.example. 60 A 192.0.2.9`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, always(test.rcode, test.records...))
			r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
			for range 2 { // from the cache, too
				m := must(t, r, query(test.name, test.kind))
				var got []string
				for _, r := range slices.Concat(m.Answer, m.Ns) {
					got = append(got, r.String())
				}
				var want []string
				for _, s := range test.records {
					want = append(want, rr(s).String())
				}
				if m.Rcode != test.rcode || !slices.Equal(got, want) || m.Question[0].Name != test.name {
					t.Errorf("got %s %q, expected %q", dns.RcodeToString[m.Rcode], got, want)
				}
				if _, err := m.Pack(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestWhatIsNoQuestionIsNotForwarded(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*dns.Msg)
		rcode  int
	}{
		"a zone transfer":          {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused},
		"the rest of one":          {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeIXFR }, dns.RcodeRefused},
		"an update":                {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"an answer":                {func(m *dns.Msg) { m.Response = true }, dns.RcodeFormatError},
		"a message without asking": {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		"a label of 64 bytes":      {func(m *dns.Msg) { m.Question[0].Name = strings.Repeat("a", 64) + ".example." }, dns.RcodeFormatError},
		"half an escape":           {func(m *dns.Msg) { m.Question[0].Name = `example.com\` }, dns.RcodeFormatError},
		"two at once":              {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, never)
			r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
			q := query("example.com.", dns.TypeA)
			test.change(q)
			m := must(t, r, q)
			if m.Rcode != test.rcode || m.Id != q.Id || !m.Response || len(s.questions()) != 0 || r.Stats().Refused != 1 {
				t.Errorf("%d questions, got\n%v", len(s.questions()), m)
			}
		})
	}
}

func TestOwnGatewaysAreNotAsked(t *testing.T) {
	loop, sound := serveAt(t, "127.0.0.2", never), serve(t, always(dns.RcodeSuccess, "example.com. 0 A 198.51.100.7"))
	avoid := func(a netip.Addr) bool { return a == loop.at.Addr() }
	r := resolver(t, Config{Servers: []netip.AddrPort{loop.at, sound.at}, Avoid: avoid, Timeout: patient})
	must(t, r, query("example.com.", dns.TypeA))
	r = resolver(t, Config{Servers: []netip.AddrPort{loop.at}, Avoid: avoid, Timeout: patient})
	_, err := r.Forward(t.Context(), query("example.com.", dns.TypeA), false)
	if !errors.Is(err, ErrNoServers) || !strings.Contains(fmt.Sprint(err), loop.at.String()) || !strings.Contains(fmt.Sprint(err), "--dns") {
		t.Errorf("got %v", err)
	}
	if len(loop.questions()) != 0 {
		t.Errorf("our own gateway was asked")
	}
}

func TestServerOfIPv6(t *testing.T) {
	s := serveAt(t, "::1", always(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7"))
	r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
	if _, trace, err := r.Trace(t.Context(), query("example.com.", dns.TypeA)); err != nil || trace.Server != s.at {
		t.Errorf("%+v, %v", trace, err)
	}
}

func TestAuthenticatedDataIsBelievedWhereTheFileSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		trust, asked, want bool
	}{
		"not by itself":               {false, true, false},
		"by trust-ad":                 {true, true, true},
		"not for who does not ask it": {true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := Conf{Servers: []netip.AddrPort{one}, TrustAD: test.trust}
			r := resolver(t, Config{Servers: c.Servers, Dial: wires{one: after(0, always(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7"))}.dial})
			r.view.Store(r.see(c, nil))
			q := query("example.com.", dns.TypeA)
			q.AuthenticatedData = test.asked
			if m := must(t, r, q); m.AuthenticatedData != test.want {
				t.Errorf("AD is %v", m.AuthenticatedData)
			}
		})
	}
}

func TestCloseEndsQuestions(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := serve(t, func(heard) [][]byte { asked <- struct{}{}; return nil })
	r := New(Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
	ctx, cancel := context.WithCancel(t.Context())
	var ran, asking sync.WaitGroup
	ran.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	var err error
	asking.Go(func() { _, err = r.Forward(context.Background(), query("example.com.", dns.TypeA), false) })
	<-asked
	cancel()
	ran.Wait()
	asking.Wait()
	if !errors.Is(err, ErrClosed) {
		t.Errorf("a question under way got %v", err)
	}
	if _, err := r.Forward(t.Context(), query("example.com.", dns.TypeA), false); !errors.Is(err, ErrClosed) {
		t.Errorf("a later one got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}
