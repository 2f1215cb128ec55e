package run_test

import (
	"fmt"
	"os"

	"github.com/weftnet/weft/engine/run"
)

// A node without containers.
func Example() {
	data, err := os.MkdirTemp("", "weft-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(data)
	list, err := run.NewStore(data).List()
	fmt.Println(len(list), err)
	// Output:
	// 0 <nil>
}
