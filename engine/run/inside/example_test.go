package inside_test

import (
	"fmt"

	"github.com/weftnet/weft/engine/run/inside"
)

func ExampleParseVolume() {
	fmt.Println(inside.ParseVolume("/srv/www:/mnt:ro"))
	// Output: {/srv/www /mnt true} <nil>
}
