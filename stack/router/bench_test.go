package router_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/router"
)

// sinkhole is a Link that takes all.
type sinkhole struct{ packets atomic.Int64 }

func (s *sinkhole) Send(netip.Addr, *frame.Offload, [][]byte) drop.Reason {
	s.packets.Add(1)
	return drop.None
}

// opened hands the router what opens a connection from a port, and returns the connection.
func (w *raw) opened(t testing.TB, conns <-chan *router.Conn, p uint16) (c *router.Conn, next32 uint32) {
	src, dst := port(inside4, p), port(outside4, 80)
	w.receive(tcp(src, dst, syn, 1, 0, nil))
	at := binary.BigEndian.Uint32(w.await(func(b []byte) bool { // and not what others are sent again
		return b[33] == syn|ack && binary.BigEndian.Uint16(b[22:]) == p
	})[24:]) + 1
	w.receive(tcp(src, dst, ack, 2, at, nil))
	return next(t, conns), at
}

func (w *raw) accepting() <-chan *router.Conn {
	conns := make(chan *router.Conn, 1)
	w.tcp = func(ctx context.Context, q *router.Request) {
		if c, err := q.Accept(ctx); err == nil {
			conns <- c
		}
	}
	return conns
}

// BenchmarkReceive is what the data path pays for a superframe of a connection: handing it to netstack, whose goroutine does the rest.
func BenchmarkReceive(b *testing.B) {
	for name, n := range map[string]int{"64KiB": 65000, "1400B": 1400} {
		b.Run(name, func(b *testing.B) {
			w := newRaw(b)
			conn, at := w.opened(b, w.accepting(), 999)
			go func() { _, _ = conn.WriteTo(nothing{}) }()
			seq := uint32(2)
			p := tcp(port(inside4, 999), port(outside4, 80), ack, seq, at, make([]byte, n))
			f := framed(p)
			f.Parse()
			b.SetBytes(int64(n))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				for conn.Info().Received+1<<17 < uint64(seq-2) { // the window
					runtime.Gosched()
				}
				binary.BigEndian.PutUint32(f.Bytes()[38:], seq)
				f.Checksum = frame.Verified
				if reason := w.router.Receive(nil, f); reason != drop.None {
					b.Fatal(reason)
				}
				seq += uint32(n)
			}
		})
	}
}

type nothing struct{}

func (nothing) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkStream copies between a socket and a container, whose own netstack takes about half of the time.
func BenchmarkStream(b *testing.B) {
	const n = 1 << 20
	b.Run("WriteTo", func(b *testing.B) {
		client, server := newWorld(b).pair(b)
		near, far := loopback(b)
		go func() { _, _ = server.WriteTo(near) }()
		chunk := make([]byte, n)
		b.SetBytes(n)
		b.ReportAllocs()
		b.ResetTimer()
		go func() {
			for range b.N {
				_, _ = client.Write(chunk)
			}
		}()
		if _, err := io.CopyN(io.Discard, far, int64(b.N)*n); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("ReadFrom", func(b *testing.B) {
		client, server := newWorld(b).pair(b)
		near, far := loopback(b)
		go func() { _, _ = server.ReadFrom(near) }()
		chunk := make([]byte, n)
		b.SetBytes(n)
		b.ReportAllocs()
		b.ResetTimer()
		go func() {
			for range b.N {
				_, _ = far.Write(chunk)
			}
		}()
		buf := make([]byte, n)
		for range b.N {
			if _, err := io.ReadFull(client, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkIdle is the memory of a connection that does nothing, in the router alone.
func BenchmarkIdle(b *testing.B) {
	const n = 10000
	for range b.N {
		w := newRaw(b)
		conns := w.accepting()
		var held []*router.Conn
		before := memory()
		for i := range n {
			c, _ := w.opened(b, conns, uint16(i+1))
			held = append(held, c)
		}
		w.sent()
		b.ReportMetric(float64(memory()-before)/n, "bytes/conn")
		runtime.KeepAlive(held)
		must(b, w.router.Close())
	}
}

func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkKernel is a stream between a namespace's kernel and a socket of this host, through TAP, bridge and netstack. The clients' own
// work in the kernel is in the figures.
func BenchmarkKernel(b *testing.B) {
	const n = 1 << 20
	chunk := make([]byte, n)
	for name, up := range map[string]bool{"up": true, "down": false} {
		b.Run(name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(b, err)
			defer l.Close()
			k := newKernel(b, false, &forward{tcp: func(ctx context.Context, q *router.Request) {
				out, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return
				}
				defer out.Close()
				if in, err := q.Accept(ctx); err == nil {
					if up {
						_, _ = in.WriteTo(out)
					} else {
						_, _ = in.ReadFrom(out)
					}
					_ = in.Close()
				}
			}})
			client, err := k.dial("tcp", "192.0.2.9:80")
			must(b, err)
			defer client.Close()
			far, err := l.Accept()
			must(b, err)
			defer far.Close()
			from, to := net.Conn(far), client
			if up {
				from, to = client, far
			}
			b.SetBytes(n)
			b.ResetTimer()
			began := spent(b)
			go func() {
				for range b.N {
					_, _ = from.Write(chunk)
				}
			}()
			buf := make([]byte, n)
			for range b.N {
				if _, err := io.ReadFull(to, buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((spent(b)-began)/float64(b.N)*1000, "cpu-s/GB")
		})
	}
}

// spent is this process's time on CPUs so far, in seconds.
func spent(b *testing.B) float64 {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
