package run_test

import (
	"fmt"
	"os"

	"github.com/weftnet/weft/engine/run"
)

// A node without containers, and a volume as people write it.
func Example() {
	data, err := os.MkdirTemp("", "weft-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(data)
	list, err := run.NewStore(data).List()
	fmt.Println(len(list), err)
	fmt.Println(run.ParseVolume("/srv/www:/mnt:ro"))
	// Output:
	// 0 <nil>
	// {/srv/www /mnt true} <nil>
}
