package quorum_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/state"
)

// A manager without a store votes for nobody, and does nothing, before a leader adds it.
func Example() {
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	q, err := quorum.Open(quorum.Config{
		Dir:      filepath.Join(dir, "raft"),
		Self:     identity.NodeID{1},
		Timing:   100 * time.Millisecond,
		Listener: lis,
		Dial: func(context.Context, identity.NodeID) (net.Conn, error) {
			return nil, errors.New("there is nobody to talk to")
		},
		Changed: func(s *state.State) { fmt.Println("now at", s.Index) },
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = q.Apply(context.Background(), quorum.ID{1}, state.Command{})
	fmt.Println(errors.Is(err, quorum.ErrNotLeader), q.Part(), q.Leader().IsZero())
	fmt.Println(q.Close())
	// Output:
	// true false true
	// <nil>
}
