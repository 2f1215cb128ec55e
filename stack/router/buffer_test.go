package router_test

import (
	"io"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/stack/router"
)

func TestOnlyTheFirstConnectionsOfAContainerHaveBuffersThatGrow(t *testing.T) {
	w := newWorld(t)
	conns := w.accepting(t)
	carry := func(client, server *router.Conn) {
		t.Helper()
		for _, c := range [][2]*router.Conn{{client, server}, {server, client}} {
			const n = 32 << 20
			written := make(chan error, 1)
			go func() { _, err := c[0].Write(make([]byte, n)); written <- err }()
			_, err := io.CopyN(io.Discard, c[1], n)
			must(t, err)
			must(t, next(t, written))
		}
	}
	for i := 1; i <= 40; i++ {
		client := w.dial(t, netip.AddrPortFrom(outside4, 80))
		server := next(t, conns)
		size := router.FixedSize(i)
		if i != 1 && i != 40 {
			continue
		}
		carry(client, server)
		send, receive := server.Buffers()
		if fixed := size != 0; fixed != (i == 40) || fixed && (send != size || receive != size) || !fixed && (send <= 1<<17 || receive <= 1<<17) {
			t.Errorf("connection %d: buffers of %d and %d bytes, want %d (0: they have grown)", i, send, receive, size)
		}
	}
}

func TestTheBuffersOfAllConnectionsOfAContainerAreBounded(t *testing.T) {
	const grown = 8 << 20
	sum := int64(0)
	for i := 1; i <= 16384; i++ {
		size := router.FixedSize(i)
		if size == 0 {
			size = grown
		}
		sum += 2 * size
	}
	if sum > 2<<30 {
		t.Errorf("16384 connections may hold %d bytes, want 2 GiB at most", sum)
	}
}
