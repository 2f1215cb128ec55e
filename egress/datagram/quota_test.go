package datagram

import (
	"net/netip"
	"sync"
	"testing"
)

func TestAQuotaForgetsWhoHasNothing(t *testing.T) {
	q := NewQuota(3, 20)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 10)})
			for range 1000 {
				if q.Take("blue", a) {
					q.Give("blue", a)
				}
			}
		})
	}
	all.Wait()
	if len(q.held) != 0 || q.sum != 0 {
		t.Errorf("it remembers %d containers, and %d in all, that have nothing", len(q.held), q.sum)
	}
}
