package board_test

import (
	"fmt"
	"log/slog"

	"github.com/weftnet/weft/cluster/board"
	"github.com/weftnet/weft/cluster/state"
)

func Example() {
	b := board.New("/var/lib/weft", nil, slog.Default()) // Keep would write there
	changed := b.Next()
	b.Set(&state.State{Index: 7})
	<-changed
	b.Set(&state.State{Index: 6}) // late news from a slow manager
	fmt.Println(b.Get().Index)
	// Output: 7
}
