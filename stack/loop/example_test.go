package loop_test

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/loop"
)

// socket is a source that tells what it receives.
type socket struct {
	fd  int
	got chan string
}

func (s socket) FD() int { return s.fd }

func (s socket) Ready() (frames int, open bool) {
	var b [100]byte
	n, err := unix.Read(s.fd, b[:])
	if err != nil {
		return 0, err == unix.EAGAIN
	}
	s.got <- string(b[:n])
	return 1, true
}

func Example() {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])

	l, err := loop.New(nil)
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()

	s := socket{pair[0], make(chan string, 1)}
	if err := l.Add(s); err != nil {
		panic(err)
	}
	if _, err := unix.Write(pair[1], []byte("hello")); err != nil {
		panic(err)
	}
	fmt.Println(<-s.got)
	stop()
	fmt.Println(<-ended)
	// Output:
	// hello
	// <nil>
}
