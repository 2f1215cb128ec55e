package userns_test

import (
	"fmt"
	"os"

	"github.com/weftnet/weft/engine/userns"
)

// A program that takes namespaces begins so. In the user's namespace it begins again, and goes on.
func ExampleEnter() {
	if len(os.Args) > 1 && os.Args[1] == userns.HoldCommand {
		os.Exit(userns.Hold(os.Args[2:]))
	}
	if err := userns.Enter("/var/lib/weft"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
