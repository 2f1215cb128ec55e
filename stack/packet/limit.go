package packet

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// What a container is sent at most. Linux sends a host one error a second after a burst of six (net.ipv4.icmp_ratelimit), for a router
// is one of many there on the way. Here all that come to a container pass one place, those of the routers beyond included, and a
// traceroute of thirty hops with three probes each, sixteen of them under way, is to read right: the larger figure of RFC 4443 §2.4 (f).
const (
	errorBurst = 100
	errorEvery = 10 * time.Millisecond
	slots      = 4096
)

// Limiter bounds the ICMP errors that each container is sent (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)): a token bucket for each, in a
// table of fixed size. Containers that share a place in it, by a hash that nobody foretells, share its tokens. Its methods may be
// called from any goroutine.
type Limiter struct {
	now   func() time.Time
	start time.Time
	seed  maphash.Seed

	// full holds when each bucket will be full again, in time since start: a token taken puts that off by errorEvery, and
	// there is none if that is more than errorBurst of these away.
	full [slots]atomic.Int64
}

// NewLimiter returns a limiter that tells the time by now (nil: time.Now).
func NewLimiter(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now, start: now(), seed: maphash.MakeSeed()}
}

// Allow reports whether the container may be sent one error more, and counts it if so.
func (l *Limiter) Allow(container netip.Addr) bool {
	full := &l.full[l.slot(container)]
	now := int64(l.now().Sub(l.start))
	for {
		was := full.Load()
		next := max(was, now) + int64(errorEvery)
		if next-now > errorBurst*int64(errorEvery) {
			return false
		}
		if full.CompareAndSwap(was, next) {
			return true
		}
	}
}

// slot returns the container's place.
func (l *Limiter) slot(container netip.Addr) int {
	key := container.As16()
	return int(maphash.Bytes(l.seed, key[:]) % slots)
}
