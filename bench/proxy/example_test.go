package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/weftnet/weft/bench/proxy"
)

func ExampleProxy_Run() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	p, err := proxy.Listen(netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort(server.Addr().String()))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- p.Run(ctx, slog.New(slog.DiscardHandler)) }()

	client, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(client, "hello through the proxy")
	client.Close()
	c, err := server.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	text, _ := io.ReadAll(c)
	c.Close()
	fmt.Println(string(text))
	stop()
	<-done
	// Output: hello through the proxy
}
