package duty_test

import (
	"fmt"
	"time"

	"github.com/weftnet/weft/cluster/duty"
	"github.com/weftnet/weft/cluster/state"
)

func Example() {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &state.State{Cluster: state.Cluster{Gossip: state.Keyring{Keys: []state.Key{{Epoch: 1, Created: made}}, Primary: 1}}}
	timing := duty.Timing{Rotate: 12 * time.Hour, Step: 10 * time.Second, Behind: 5 * time.Minute}
	term := duty.Begin(made)
	fmt.Printf("%q\n", term.Rotate(s, nil, made.Add(time.Hour), timing))
	fmt.Printf("%q\n", term.Rotate(s, nil, made.Add(13*time.Hour), timing))
	// Output:
	// ""
	// "install"
}
