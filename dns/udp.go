package dns

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// maxQuery is the longest message that we read. A question with all its options has a few hundred bytes; of what is
// longer the rest is missing, so that it is malformed.
const maxQuery = 4096

// maxFaults is how many times in a row a socket may fail before we give up on it, faultPause what lies between.
const (
	maxFaults  = 100
	faultPause = 5 * time.Millisecond
)

// datagramConn is a socket that speaks netip, as the kernel's do.
type datagramConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

// boxed makes any net.PacketConn a datagramConn.
type boxed struct{ net.PacketConn }

func (c boxed) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.ReadFrom(b)
	u, _ := from.(*net.UDPAddr)
	if u == nil {
		return n, netip.AddrPort{}, err
	}
	return n, u.AddrPort(), err
}

func (c boxed) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.WriteTo(b, net.UDPAddrFromAddrPort(to))
}

// datagrams returns what answers at a UDP socket.
func (v *service) datagrams(pc net.PacketConn) func() {
	c, ok := pc.(datagramConn)
	if !ok {
		c = boxed{pc}
	}
	return func() {
		r, b := &responder{}, make([]byte, maxQuery)
		for faults := 0; faults < maxFaults; {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				if faults++; !v.pause(faults, "read", err) {
					return
				}
				continue
			}
			faults = 0
			answer, f := v.handle(r, b[:n], from.Addr(), false)
			if f != nil {
				v.tasks.Go(func() {
					defer v.finish(f)
					v.reply(c, v.run(v.ctx, f), from)
				})
				continue
			}
			v.reply(c, answer, from)
		}
	}
}

// reply sends an answer, if there is one.
func (v *service) reply(c datagramConn, answer []byte, to netip.AddrPort) {
	if answer == nil {
		return
	}
	if _, err := c.WriteToUDPAddrPort(answer, to); err != nil {
		v.counters.drops[dropSend].Add(1)
	}
}

// pause waits after a socket's failure. It reports false if there is no use in going on: then the Serve has ended, or ends with err.
func (v *service) pause(faults int, op string, err error) bool {
	if v.ctx.Err() != nil {
		return false
	}
	if faults == 1 {
		v.config.Log.Warn("dns: a socket fails", "network", v.network, "op", op, "err", err)
	}
	if faults == maxFaults {
		err = fmt.Errorf("dns: network %s: %s: %w", v.network, op, err)
		v.failure.CompareAndSwap(nil, &err)
		v.cancel()
		return false
	}
	t := time.NewTimer(faultPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-v.ctx.Done():
		return false
	}
}
