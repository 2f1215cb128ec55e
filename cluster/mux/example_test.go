package mux_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/mux"
)

func Example() {
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	id, err := identity.Load(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	nobody := func(identity.NodeID) error { return fmt.Errorf("this node is a member of no cluster") }
	m := mux.New(lis, mux.Config{
		TLS:   func() *tls.Config { return id.ServerTLS(nobody, identity.JoinALPN, identity.NodeALPN) },
		Admit: func(_ string, peer identity.NodeID) error { return nobody(peer) },
		Log:   slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	joins := m.Listen(identity.JoinALPN)
	cancel()
	fmt.Println(m.Run(ctx))
	_, err = joins.Accept()
	fmt.Println(err)
	// Output:
	// <nil>
	// use of closed network connection
}
