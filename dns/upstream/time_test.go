package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

var sound = always(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7")

func silent(heard, net.Conn) {}

// took returns how long a question took, and how it ended.
func took(t *testing.T, r *Resolver, name string) (time.Duration, Trace, error) {
	t.Helper()
	begun := time.Now()
	_, trace, err := r.Trace(t.Context(), query(name, dns.TypeA))
	return time.Since(begun), trace, err
}

func TestEachServerHasItsShareOfTheTime(t *testing.T) {
	for name, test := range map[string]struct {
		servers []netip.AddrPort
		wires   wires
		took    time.Duration
		from    netip.AddrPort
	}{
		"the first one answers":              {[]netip.AddrPort{one, two}, wires{one: after(time.Second, sound), two: silent}, time.Second, one},
		"the first one is silent":            {[]netip.AddrPort{one, two}, wires{one: silent, two: after(0, sound)}, 1250 * time.Millisecond, two},
		"the first one is slow, both are":    {[]netip.AddrPort{one, two}, wires{one: after(2*time.Second, sound), two: after(time.Minute, sound)}, 2 * time.Second, one},
		"the third one answers":              {[]netip.AddrPort{one, two, three}, wires{one: silent, two: silent, three: after(0, sound)}, 5 * time.Second / 3, three},
		"the last one has what is left":      {[]netip.AddrPort{one}, wires{one: nthOnly(3, after(time.Second, sound))}, 5*time.Second/3*2 + time.Second, one},
		"a datagram is lost":                 {[]netip.AddrPort{one}, wires{one: nthOnly(2, after(0, sound))}, 5 * time.Second / 3, one},
		"a forger is faster":                 {[]netip.AddrPort{one}, wires{one: forged(time.Second)}, time.Second, one},
		"TCP stalls within a message":        {[]netip.AddrPort{one, two}, wires{one: stalls, two: after(0, sound)}, 1250 * time.Millisecond, two},
		"the last one gives up, one is slow": {[]netip.AddrPort{one, two}, wires{one: after(3*time.Second, sound), two: after(0, always(dns.RcodeServerFailure))}, 4250 * time.Millisecond, one},
		"nobody answers":                     {[]netip.AddrPort{one, two, three}, wires{one: silent, two: silent, three: silent}, 5 * time.Second, netip.AddrPort{}},
		"nobody answers at the only one":     {[]netip.AddrPort{one}, wires{one: silent}, 5 * time.Second, netip.AddrPort{}},
		"what it says is not worth having":   {[]netip.AddrPort{one, two}, wires{one: after(0, always(dns.RcodeServerFailure)), two: silent}, 5 * time.Second, one},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := resolver(t, Config{Servers: test.servers, Dial: test.wires.dial})
				d, trace, err := took(t, r, "example.com.")
				if err != nil && (test.from.IsValid() || !errors.Is(err, ErrNoAnswer)) {
					t.Error(err)
				}
				if off := d - test.took; off.Abs() > time.Microsecond || trace.Server != test.from {
					t.Errorf("took %v from %v, expected %v from %v", d, trace.Server, test.took, test.from)
				}
			})
		})
	}
}

// nthOnly answers the nth question alone.
func nthOnly(n int64, then func(heard, net.Conn)) func(heard, net.Conn) {
	var asked atomic.Int64
	return func(h heard, conn net.Conn) {
		if asked.Add(1) == n {
			then(h, conn)
		}
	}
}

// forged sends wrong answers, then the right one.
func forged(wait time.Duration) func(heard, net.Conn) {
	return func(h heard, conn net.Conn) {
		for range 10 {
			m := h.reply(dns.RcodeSuccess, "example.com. 60 A 203.0.113.66")
			m.Id ^= 0x5555
			conn.Write(h.pack(m))
		}
		after(wait, sound)(h, conn)
	}
}

// stalls promises a message by TCP, and sends a part of it.
func stalls(h heard, conn net.Conn) {
	m := h.reply(dns.RcodeSuccess)
	m.Truncated = true
	b := h.pack(m)
	conn.Write(b[:len(b)-1])
}

func TestServerThatIsDownIsAskedLastUntilItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		var asked atomic.Int64
		w := wires{two: after(0, sound), one: func(h heard, conn net.Conn) {
			asked.Add(1)
			if back.Load() {
				after(50*time.Millisecond, sound)(h, conn)
			}
		}}
		r := resolver(t, Config{Servers: []netip.AddrPort{one, two}, Dial: w.dial, Entries: -1})
		expect := func(when string, want time.Duration, from netip.AddrPort) {
			t.Helper()
			if d, trace, err := took(t, r, "example.com."); err != nil || d != want || trace.Server != from {
				t.Errorf("%s: took %v from %v, expected %v from %v; %v", when, d, trace.Server, want, from, err)
			}
		}
		expect("at first", 1250*time.Millisecond, two)
		expect("when it is known", 0, two)
		if s := r.Stats().Servers; !s[0].Down || s[1].Down {
			t.Errorf("%+v", s)
		}
		time.Sleep(penalty)
		expect("when it is tried again", patience, two)
		expect("when that has failed", 0, two)
		back.Store(true)
		expect("while nobody tries", 0, two)
		time.Sleep(penalty)
		n := asked.Load()
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() { took(t, r, fmt.Sprintf("%d.example.com.", i)) })
		}
		all.Wait()
		if asked.Load() != n+1 {
			t.Errorf("%d questions tried it at once, expected one", asked.Load()-n)
		}
		expect("when it is back", 50*time.Millisecond, one)
	})
}

func TestServerIsNotDownForANameThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wires{two: after(0, sound), one: func(h heard, conn net.Conn) {
			if h.msg.Question[0].Name != "slow.example.com." {
				after(0, sound)(h, conn)
			}
		}}
		r := resolver(t, Config{Servers: []netip.AddrPort{one, two}, Dial: w.dial, Entries: -1})
		var slow sync.WaitGroup
		slow.Go(func() { took(t, r, "slow.example.com.") })
		time.Sleep(time.Second)
		took(t, r, "example.com.")
		slow.Wait()
		if s := r.Stats().Servers; s[0].Down || s[0].Failed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestServerIsNotDownForWantOfTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wires{two: after(0, sound), one: func(h heard, conn net.Conn) {
			if h.network == "tcp" {
				conn.Close()
				return
			}
			m := h.reply(dns.RcodeSuccess)
			m.Truncated = true
			conn.Write(h.pack(m))
		}}
		r := resolver(t, Config{Servers: []netip.AddrPort{one, two}, Dial: w.dial})
		if d, trace, err := took(t, r, "example.com."); err != nil || d != 0 || trace.Server != two {
			t.Errorf("took %v: %+v, %v", d, trace, err)
		}
		if s := r.Stats(); s.Servers[0].Down || s.Servers[0].Failed != 1 || s.TCP != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestClientsThatAskTheSameShareAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		w := wires{one: func(h heard, conn net.Conn) {
			asked.Add(1)
			after(time.Second, always(dns.RcodeSuccess, "example.com. 0 A 198.51.100.7"))(h, conn)
		}}
		r := resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial})
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { // the first one, which the question is begun for
			if _, err := r.Forward(impatient, query("example.com.", dns.TypeA), false); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient one got %v", err)
			}
		})
		synctest.Wait()
		for i := range 10 {
			all.Go(func() {
				q := query([]string{"example.com.", "EXAMPLE.com."}[i%2], dns.TypeA)
				m, err := r.Forward(t.Context(), q, i%3 == 0)
				if err != nil || m.Id != q.Id || m.Question[0] != q.Question[0] {
					t.Errorf("%v, %v", m, err)
				}
			})
		}
		all.Wait()
		if s := r.Stats(); asked.Load() != 1 || s.Joined != 10 || s.Misses != 1 || s.Questions != 11 {
			t.Errorf("asked %d times: %+v", asked.Load(), s)
		}
		if took(t, r, "example.com."); asked.Load() != 2 {
			t.Error("an answer with TTL 0 was kept")
		}
	})
}

func TestDifferentQuestionsShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		w := wires{one: func(h heard, conn net.Conn) { asked.Add(1); after(time.Second, sound)(h, conn) }}
		r := resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial})
		changes := []func(*dns.Msg){
			func(*dns.Msg) {},
			func(m *dns.Msg) { m.Question[0].Name = "www.example.com." },
			func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
			func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
			func(m *dns.Msg) { m.CheckingDisabled = true },
			func(m *dns.Msg) { m.RecursionDesired = false },
			func(m *dns.Msg) { m.SetEdns0(1232, true) },
		}
		var all sync.WaitGroup
		for _, change := range changes {
			q := query("example.com.", dns.TypeA)
			change(q)
			all.Go(func() { r.Forward(t.Context(), q, false) })
		}
		all.Wait()
		if n := int(asked.Load()); n != len(changes) {
			t.Errorf("%d questions were asked, expected %d", n, len(changes))
		}
	})
}

func TestQuestionsUnderWayAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wires{one: after(time.Second, sound)}
		r := resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial, Outstanding: 2})
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() {
				if _, _, err := took(t, r, fmt.Sprintf("%d.example.com.", i)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if d, _, err := took(t, r, "2.example.com."); !errors.Is(err, ErrBusy) || d != 0 {
			t.Errorf("the third one got %v after %v", err, d)
		}
		all.Go(func() {
			if _, _, err := took(t, r, "0.example.com."); err != nil {
				t.Errorf("one that joins costs nothing, but got %v", err)
			}
		})
		all.Wait()
		if _, trace, err := took(t, r, "0.example.com."); err != nil || !trace.Cached {
			t.Errorf("%+v, %v", trace, err)
		}
		if _, _, err := took(t, r, "2.example.com."); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); s.Busy != 1 || s.Under != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnswersAreKeptForTheirTime(t *testing.T) {
	const soa = "example.com. 300 SOA ns.example.com. m.example.com. 1 2 3 4 "
	for name, test := range map[string]struct {
		rcode   int
		records []string
		life    time.Duration
	}{
		"a record's TTL":                     {0, []string{"example.com. 60 A 192.0.2.9"}, time.Minute},
		"the shortest TTL":                   {0, []string{"example.com. 60 CNAME a.example.com.", "a.example.com. 7 A 192.0.2.9"}, 7 * time.Second},
		"not at all with TTL 0":              {0, []string{"example.com. 0 A 192.0.2.9"}, 0},
		"not at all with a negative TTL":     {0, []string{"example.com. 2147483648 A 192.0.2.9"}, 0},
		"an hour at most":                    {0, []string{"example.com. 2147483647 A 192.0.2.9"}, time.Hour},
		"no such name: the SOA's minimum":    {dns.RcodeNameError, []string{soa + "20"}, 20 * time.Second},
		"no such name: the SOA's own TTL":    {dns.RcodeNameError, []string{soa + "900"}, 300 * time.Second},
		"no such name, and no SOA":           {dns.RcodeNameError, nil, 0},
		"no such record: the SOA's minimum":  {0, []string{soa + "20"}, 20 * time.Second},
		"no such record behind a CNAME":      {0, []string{"example.com. 10 CNAME a.example.com.", soa + "20"}, 10 * time.Second},
		"a CNAME that leads nowhere":         {0, []string{"example.com. 10 CNAME a.example.com."}, 0},
		"no such name behind a CNAME":        {dns.RcodeNameError, []string{"example.com. 90 CNAME a.example.com.", soa + "20"}, 20 * time.Second},
		"not a failure":                      {dns.RcodeServerFailure, []string{soa + "20"}, 0},
		"not a refusal":                      {dns.RcodeRefused, []string{soa + "20"}, 0},
		"not what is neither a yes nor a no": {dns.RcodeYXDomain, []string{soa + "20"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: wires{one: after(0, always(test.rcode, test.records...))}.dial})
				cached := func() bool {
					_, trace, err := took(t, r, "example.com.")
					if err != nil {
						t.Fatal(err)
					}
					return trace.Cached
				}
				cached()
				if test.life > 0 {
					time.Sleep(test.life - time.Nanosecond)
					if !cached() {
						t.Errorf("it was not kept for %v", test.life)
					}
					time.Sleep(time.Nanosecond)
				}
				if cached() {
					t.Errorf("it was kept for longer than %v", test.life)
				}
			})
		})
	}
}

func TestTTLsRunInTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records = "example.com. 100 CNAME a.example.com."
		w := wires{one: after(time.Second, always(dns.RcodeSuccess, records, "a.example.com. 60 A 192.0.2.9"))}
		r := resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial})
		for _, test := range []struct {
			wait       time.Duration
			first, two uint32
		}{{0, 100, 60}, {10 * time.Second, 90, 50}, {900 * time.Millisecond, 90, 50}, {49 * time.Second, 41, 1}} {
			time.Sleep(test.wait)
			m, trace, err := r.Trace(t.Context(), query("example.com.", dns.TypeA))
			if err != nil {
				t.Fatal(err)
			}
			if a, b := m.Answer[0].Header().Ttl, m.Answer[1].Header().Ttl; a != test.first || b != test.two {
				t.Errorf("%v later the TTLs are %d and %d, expected %d and %d", trace.Age, a, b, test.first, test.two)
			}
			if trace.Took != time.Second || trace.Server != one || trace.Cached != (test.wait > 0) {
				t.Errorf("%+v", trace)
			}
			m.Answer[0].Header().Ttl = 7 // the answer is the caller's own
		}
		if s := r.Stats(); s.Hits != 3 || s.Misses != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wires{one: func(h heard, conn net.Conn) {
			after(0, always(dns.RcodeSuccess, h.msg.Question[0].Name+" 60 TXT abcdefghijklmnopqrstuvwxyz"))(h, conn)
		}}
		fill := func(r *Resolver, n int) Stats {
			for i := range n {
				r.Forward(t.Context(), query(fmt.Sprintf("%d.example.com.", i), dns.TypeTXT), false)
			}
			return r.Stats()
		}
		r := resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial, Entries: 10})
		if s := fill(r, 50); s.Entries != 10 {
			t.Errorf("%d entries, expected 10", s.Entries)
		}
		r = resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial, Bytes: 5000})
		s := fill(r, 50)
		if s.Bytes > 5000 || s.Bytes < 4000 || s.Entries < 10 {
			t.Errorf("%d bytes in %d entries, expected 5000 at most", s.Bytes, s.Entries)
		}
		time.Sleep(2 * time.Minute)
		if again := fill(r, 50); again.Bytes != s.Bytes || again.Entries != s.Entries || again.Hits != 0 {
			t.Errorf("when all were old, the cache came from %+v to %+v", s, again)
		}
		if s := fill(r, 50); s.Bytes <= 0 {
			t.Errorf("%+v", s)
		}
		if s := fill(resolver(t, Config{Servers: []netip.AddrPort{one}, Dial: w.dial, Entries: -1}), 2); s.Entries != 0 || s.Bytes != 0 {
			t.Errorf("a resolver without a cache has one: %+v", s)
		}
	})
}
