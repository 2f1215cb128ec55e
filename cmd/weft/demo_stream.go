package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/weftnet/weft/stack/tap"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// received is what one end of a stream saw of it.
type received struct {
	bytes int64
	sum   uint32
	took  time.Duration
	err   error
}

// stream sends random bytes by TCP from one namespace to another for a while, compares what arrived, and returns the rate in bits per
// second as the receiver saw it.
func stream(ctx context.Context, from, to tap.Namespace, addr netip.AddrPort, length time.Duration) (rate float64, err error) {
	var lis net.Listener
	err = to.Do(func() (err error) {
		lis, err = net.Listen("tcp", addr.String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer lis.Close()
	result := make(chan received, 1)
	go func() { result <- receive(lis) }()

	var conn net.Conn
	err = from.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr.String())
		return err
	})
	if err != nil {
		lis.Close()
		<-result
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); lis.Close() })
	defer stop()
	sent := send(conn, length)
	got := <-result
	if err := errors.Join(sent.err, got.err); err != nil {
		return 0, err
	}
	if sent.bytes != got.bytes || sent.sum != got.sum {
		return 0, fmt.Errorf("sent %d bytes with CRC %08x, received %d with %08x", sent.bytes, sent.sum, got.bytes, got.sum)
	}
	return float64(got.bytes) * 8 / got.took.Seconds(), nil
}

// send sends for a while, then waits until the other end has read it all.
func send(conn net.Conn, length time.Duration) (s received) {
	block := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range block {
		block[i] = byte(rng.Uint32())
	}
	end := time.Now().Add(length)
	_ = conn.SetDeadline(end.Add(10 * time.Second)) // a TCP connection takes deadlines
	for time.Now().Before(end) {
		n, err := conn.Write(block)
		s.bytes += int64(n)
		s.sum = crc32.Update(s.sum, castagnoli, block[:n])
		if err != nil {
			s.err = err
			return s
		}
	}
	s.err = conn.(*net.TCPConn).CloseWrite()
	return s
}

func receive(lis net.Listener) (r received) {
	conn, err := lis.Accept()
	if err != nil {
		r.err = err
		return r
	}
	defer conn.Close()
	begin := time.Now()
	_ = conn.SetDeadline(begin.Add(30 * time.Second)) // a TCP connection takes deadlines
	block := make([]byte, 1<<20)
	for {
		n, err := conn.Read(block)
		r.bytes += int64(n)
		r.sum = crc32.Update(r.sum, castagnoli, block[:n])
		if err != nil {
			r.took = time.Since(begin)
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return r
		}
	}
}
