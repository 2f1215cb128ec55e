package output_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weftnet/weft/engine/run/output"
)

func Example() {
	dir, err := os.MkdirTemp("", "weft-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log")
	l, err := output.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	pipes, err := l.Pipes()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(pipes[0], "hello")
	pipes[0].Close()
	pipes[1].Close()
	l.Drain()
	fmt.Println(output.Print(context.Background(), path, output.Options{Tail: 1}, os.Stdout, os.Stderr))
	// Output:
	// hello
	// <nil>
}
