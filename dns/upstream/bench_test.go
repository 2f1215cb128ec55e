package upstream

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

func BenchmarkForward(b *testing.B) {
	s := serve(b, always(dns.RcodeSuccess, "example.com. 60 A 198.51.100.7"))
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			c := Config{Servers: []netip.AddrPort{s.at}, Entries: -1}
			if cached {
				c.Entries = 0
			}
			r := resolver(b, c)
			var n, failed atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				name := fmt.Sprintf("%d.example.com.", n.Add(1)) // clients that do not share a question
				q := query(name, dns.TypeA)
				for pb.Next() {
					if m, err := r.Forward(b.Context(), q, false); err != nil || m.Rcode != dns.RcodeSuccess {
						failed.Add(1)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
			if failed.Load() > 0 {
				b.Errorf("%d of %d had no answer", failed.Load(), b.N)
			}
		})
	}
}
