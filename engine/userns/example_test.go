package userns_test

import (
	"fmt"
	"os"

	"github.com/weftnet/weft/engine/userns"
)

// A program that takes namespaces begins and ends so. In the user's namespace it begins again, and goes on.
func ExampleEnter() {
	if len(os.Args) > 1 && os.Args[1] == userns.HoldCommand {
		os.Exit(userns.Hold(os.Args[2:]))
	}
	if err := userns.Enter("/var/lib/weft"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// ... what it is for, and then:
	if err := userns.Leave(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
