package upstream

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzAnswer takes anything for a server's answer: what is let through can be given to clients, at any age.
func FuzzAnswer(f *testing.F) {
	const id = 0x1234
	k := question{name: "example.com.", kind: dns.TypeA, class: dns.ClassINET, recurse: true}
	h := heard{network: "udp", msg: k.message(id, true)}
	for _, m := range []*dns.Msg{
		h.reply(dns.RcodeSuccess, "example.com. 60 CNAME a.example.com.", "a.example.com. 60 A 192.0.2.9"),
		h.reply(dns.RcodeNameError, "example.com. 60 SOA ns.example.com. m.example.com. 1 2 3 4 5"),
		h.reply(dns.RcodeBadVers), h.reply(dns.RcodeSuccess), large(h),
		{MsgHdr: dns.MsgHdr{Id: id, Response: true, Rcode: dns.RcodeRefused}},
		{MsgHdr: dns.MsgHdr{Id: id, Response: true, Truncated: true}, Question: h.msg.Question},
	} {
		m.Compress = true
		f.Add(h.pack(m))
	}
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > dns.MaxMsgSize {
			return
		}
		for _, full := range []bool{false, true} {
			m := k.match(append([]byte(nil), b...), id, full)
			if m == nil {
				continue
			}
			if binary.BigEndian.Uint16(b) != id || !m.Response {
				t.Fatalf("that is no answer to us: %v", m)
			}
			a, err := newAnswer(k, m, true)
			if err != nil {
				continue
			}
			if a.life < 0 || a.life > longest {
				t.Fatalf("it would be kept for %v", a.life)
			}
			q := query("eXample.com.", dns.TypeA)
			got, err := a.give(q, a.at.Add(time.Minute))
			if err != nil || got.Id != q.Id || got.Question[0] != q.Question[0] || got.IsEdns0() != nil {
				t.Fatalf("a client got %v, %v", got, err)
			}
			if _, err := got.Pack(); err != nil {
				t.Fatalf("a client's answer cannot be sent: %v\n%v", err, got)
			}
		}
	})
}
