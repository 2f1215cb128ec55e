package relay_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/weftnet/weft/stack/relay"
)

// A proxy between two connections of this host.
func ExampleRun() {
	dial := func() (near, far *net.TCPConn) {
		l, _ := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		defer l.Close()
		near, _ = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
		far, _ = l.AcceptTCP()
		return near, far
	}
	a, client := dial()
	b, server := dial()
	var count relay.Counters
	done := make(chan error)
	go func() { done <- relay.Run(context.Background(), relay.Host(a), relay.Host(b), &count) }()

	_, _ = io.WriteString(client, "anybody there?")
	_ = client.CloseWrite()
	question, _ := io.ReadAll(server)
	_, _ = io.WriteString(server, "yes")
	_ = server.Close()
	answer, _ := io.ReadAll(client)
	_ = client.Close()

	fmt.Printf("%s %s\n", question, answer)
	fmt.Println(<-done, count.Up.Load(), count.Down.Load())
	// Output:
	// anybody there? yes
	// <nil> 14 3
}
