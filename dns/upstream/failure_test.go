package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestNextServerIsAskedAtOnceWhereOneFails(t *testing.T) {
	cut := func(s say) say { // what a server with an answer too large for UDP says
		return func(h heard) [][]byte {
			if h.network == "tcp" {
				return s(h)
			}
			m := h.reply(dns.RcodeSuccess)
			m.Truncated = true
			return [][]byte{h.pack(m)}
		}
	}
	for name, first := range map[string]say{
		"with SERVFAIL": always(dns.RcodeServerFailure),
		"with REFUSED":  always(dns.RcodeRefused),
		"with NOTIMP":   always(dns.RcodeNotImplemented),
		"with FORMERR":  always(dns.RcodeFormatError),
		"with BADVERS": func(h heard) [][]byte {
			if h.msg.IsEdns0() == nil {
				return always(dns.RcodeServerFailure)(h)
			}
			return always(dns.RcodeBadVers)(h)
		},
		"with a bare header": func(h heard) [][]byte {
			m := h.reply(dns.RcodeRefused)
			m.Question, m.Extra = nil, nil
			return [][]byte{h.pack(m)}
		},
		"by closing TCP at once":                cut(never),
		"by closing TCP within a length prefix": cut(func(heard) [][]byte { return [][]byte{{1}} }),
		"by a length prefix that promises more": cut(func(h heard) [][]byte { return [][]byte{h.frame(make([]byte, 4000))[:100]} }),
		"by a length prefix that promises less": cut(func(h heard) [][]byte { return [][]byte{{0, 5}, h.pack(h.reply(dns.RcodeSuccess))[2:]} }),
		"by a truncated answer over TCP": cut(func(h heard) [][]byte {
			return [][]byte{h.pack(&dns.Msg{MsgHdr: dns.MsgHdr{Id: h.msg.Id, Response: true, Truncated: true}, Question: h.msg.Question})}
		}),
		"by TCP messages that are no answer at all": cut(func(h heard) [][]byte {
			var all [][]byte
			for range tolerance {
				all = append(all, h.frame([]byte("garbage")))
			}
			return all
		}),
	} {
		t.Run(name, func(t *testing.T) {
			bad := serve(t, first)
			sound := serve(t, always(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7"))
			r := resolver(t, Config{Servers: []netip.AddrPort{bad.at, sound.at}, Timeout: patient})
			_, trace, err := r.Trace(t.Context(), query("example.com.", dns.TypeA))
			if err != nil || trace.Server != sound.at || len(bad.questions()) == 0 {
				t.Errorf("%+v, %v", trace, err)
			}
		})
	}
	t.Run("with ICMP port unreachable", func(t *testing.T) {
		gone := closedPort(t)
		sound := serve(t, always(dns.RcodeSuccess, "example.com. 0 A 198.51.100.7"))
		r := resolver(t, Config{Servers: []netip.AddrPort{gone, sound.at}, Timeout: patient})
		must(t, r, query("example.com.", dns.TypeA))
		must(t, r, query("example.com.", dns.TypeA))
		if s := r.Stats().Servers; s[0].Asked != 1 || !s[0].Down || s[1].Down || s[1].Answers != 2 {
			t.Errorf("the one that is there is to be preferred from then on: %+v", s)
		}
	})
}

// closedPort returns an address at which nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestAllServersFail(t *testing.T) {
	a, b := serve(t, always(dns.RcodeRefused)), serve(t, always(dns.RcodeServerFailure))
	r := resolver(t, Config{Servers: []netip.AddrPort{a.at, b.at}, Timeout: patient})
	for range 2 {
		if m := must(t, r, query("example.com.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure || m.Question[0].Name != "example.com." {
			t.Errorf("got\n%v", m)
		}
	}
	if n := len(a.questions()); n != 4 {
		t.Errorf("%d questions, expected 2 for each of ours: failures are not kept", n)
	}
	gone := closedPort(t)
	r = resolver(t, Config{Servers: []netip.AddrPort{gone}, Timeout: patient})
	_, err := r.Forward(t.Context(), query("example.com.", dns.TypeA), false)
	if !errors.Is(err, ErrNoAnswer) || !strings.Contains(fmt.Sprint(err), gone.String()) || !strings.Contains(fmt.Sprint(err), "refused") {
		t.Errorf("got %v", err)
	}
	if s := r.Stats(); s.Failed != 1 || s.Under != 0 {
		t.Errorf("%+v", s)
	}
}

func TestServerWithoutEDNSIsAskedWithout(t *testing.T) {
	for name, bare := range map[string]bool{"in full": false, "with a bare header": true} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(h heard) [][]byte {
				if h.msg.IsEdns0() == nil {
					return [][]byte{h.pack(h.reply(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7"))}
				}
				m := new(dns.Msg)
				m.SetRcode(h.msg, dns.RcodeFormatError)
				if bare {
					m.Question = nil
				}
				return [][]byte{h.pack(m)}
			})
			r := resolver(t, Config{Servers: []netip.AddrPort{s.at}, Timeout: patient})
			if m := must(t, r, query("example.com.", dns.TypeA)); len(m.Answer) != 1 || len(s.questions()) != 2 {
				t.Errorf("%d questions, answered\n%v", len(s.questions()), m)
			}
		})
	}
}
