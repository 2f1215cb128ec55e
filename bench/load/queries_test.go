package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/internal/lab"
)

// resolve answers queries on b with what answer makes of them, nil for silence, until the test ends.
func resolve(t *testing.T, b *lab.Host, answer func(q *mdns.Msg) *mdns.Msg) {
	t.Helper()
	var c net.PacketConn
	lab.Must(t, b.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", "192.0.2.2:53")
		return err
	}))
	done := make(chan error, 1)
	go func() { done <- respond(c, answer) }()
	t.Cleanup(func() {
		c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the resolver ended: %v", err)
		}
	})
}

func respond(c net.PacketConn, answer func(q *mdns.Msg) *mdns.Msg) error {
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		q := new(mdns.Msg)
		if err := q.Unpack(buf[:n]); err != nil {
			return err
		}
		r := answer(q)
		if r == nil {
			continue
		}
		text, err := r.Pack()
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(text, from); err != nil && !errors.Is(err, net.ErrClosed) {
			// The client has gone; whoever asks next is another.
			continue
		}
	}
}

// located answers with one.
func located(q *mdns.Msg) *mdns.Msg {
	r := new(mdns.Msg)
	r.SetReply(q)
	r.Answer = append(r.Answer, &mdns.A{
		Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 1}, A: net.IPv4(192, 0, 2, 9),
	})
	return r
}

var asked = Spec{Kind: Query, Server: netip.MustParseAddr("192.0.2.2"), Names: []string{"one", "two.example", "three.example."}}

func TestQueriesAreCountedAndTimed(t *testing.T) {
	a, b := hosts(t)
	seen := make(map[string]bool)
	resolve(t, b, func(q *mdns.Msg) *mdns.Msg {
		seen[q.Question[0].String()] = true
		if !q.RecursionDesired || q.Question[0].Qtype != mdns.TypeA {
			t.Errorf("a client asks %s", q)
		}
		return located(q)
	})
	o, err := Run(t.Context(), a, b, asked, short)
	lab.Must(t, err)
	if o.Client.Count < 100 || !near(o.Client.Latency.Count(), o.Client.Count) || o.Client.Loss() > 0.01 {
		o.Client.Latency = nil
		t.Errorf("got %+v", o)
	}
	if len(seen) != len(asked.Names) {
		t.Errorf("asked for %v", seen)
	}
}

func TestQueriesWithoutAnswerAreLostAndLateAnswersDoNotCount(t *testing.T) {
	a, b := hosts(t)
	count := 0
	resolve(t, b, func(q *mdns.Msg) *mdns.Msg {
		r := located(q)
		if count++; count > len(asked.Names) && count%2 == 0 {
			r.Id -= window // as if to the query before it in the same place
		}
		return r
	})
	// An unanswered query keeps its place in the window for half a second.
	o, err := Run(t.Context(), a, b, asked, Window{Duration: 2 * overdue})
	lab.Must(t, err)
	if loss := o.Client.Loss(); loss < 0.2 || loss > 0.8 {
		o.Client.Latency = nil
		t.Errorf("loss %v, %+v", loss, o.Client)
	}
}

func TestAResolverThatAnswersWronglyEndsTheLoad(t *testing.T) {
	a, b := hosts(t)
	tests := []struct {
		name   string
		change func(*mdns.Msg)
		want   string
	}{
		{"no such name", func(m *mdns.Msg) { m.Rcode, m.Answer = mdns.RcodeNameError, nil }, "code 3"},
		{"no address", func(m *mdns.Msg) { m.Answer = nil }, "without an address"},
		{"cut off", func(m *mdns.Msg) { m.Truncated = true }, "without an address"},
		{"another question", func(m *mdns.Msg) { m.Question[0].Name = "uno." }, "another question"},
		{"no answer but a query", func(m *mdns.Msg) { m.Response = false }, "a query came back"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resolve(t, b, func(q *mdns.Msg) *mdns.Msg {
				r := located(q)
				tt.change(r)
				return r
			})
			_, err := Run(t.Context(), a, b, asked, short)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "asked for one") {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("later", func(t *testing.T) {
		var count atomic.Int32
		resolve(t, b, func(q *mdns.Msg) *mdns.Msg {
			r := located(q)
			if count.Add(1) > 100 {
				r.Rcode = mdns.RcodeServerFailure
			}
			return r
		})
		if _, err := Run(t.Context(), a, b, asked, Window{Duration: time.Minute}); err == nil || !strings.Contains(err.Error(), "code 2") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAQuestionIsOneThatOthersRead(t *testing.T) {
	b, err := question("a.bc.example")
	lab.Must(t, err)
	m := new(mdns.Msg)
	if err := m.Unpack(b); err != nil || len(m.Question) != 1 || m.Question[0].Name != "a.bc.example." {
		t.Errorf("%v: %s", err, m)
	}
}

func TestAnAnswerTwiceCountsOnce(t *testing.T) {
	ask, err := question("one")
	lab.Must(t, err)
	m := newGenerator(asked, false).meter()
	a := newAsker(-1, 0, [][]byte{ask}, m)
	a.free = a.free[:0]
	a.slots[3] = slot{generation: 7, busy: true, ask: ask}
	answer, err := located(&mdns.Msg{Question: []mdns.Question{{Name: "one.", Qtype: mdns.TypeA, Qclass: mdns.ClassINET}}}).Pack()
	lab.Must(t, err)
	for _, id := range []uint16{6<<4 | 3, 7<<4 | 4, 7<<4 | 3, 7<<4 | 3} {
		binary.BigEndian.PutUint16(answer, id)
		lab.Must(t, a.take(answer, time.Millisecond))
	}
	if n := m.count.Load(); n != 1 || fmt.Sprint(a.free) != "[3]" {
		t.Errorf("counted %d, free %v", n, a.free)
	}
}

func FuzzVerify(f *testing.F) {
	ask, err := question("name0")
	lab.Must(f, err)
	answer, err := located(&mdns.Msg{Question: []mdns.Question{{Name: "name0.", Qtype: mdns.TypeA, Qclass: mdns.ClassINET}}}).Pack()
	lab.Must(f, err)
	f.Add(answer)
	f.Add(ask)
	f.Add(answer[:headerLen])
	unasked := bytes.Clone(answer)
	unasked[5] = 0 // questions
	f.Add(unasked)
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) < headerLen || verify(ask, answer) != nil {
			return
		}
		if m := new(mdns.Msg); m.Unpack(answer) == nil && (!m.Response || m.Rcode != mdns.RcodeSuccess || m.Question[0].Name != "name0.") {
			t.Errorf("accepted %s", m)
		}
	})
}
