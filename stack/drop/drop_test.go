package drop_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

func TestEveryReasonHasANameOfItsOwn(t *testing.T) {
	seen := make(map[string]drop.Reason)
	for r := range drop.Reason(drop.NumReasons) {
		name := r.String()
		if other, dup := seen[name]; dup || name == "" || name == "invalid" {
			t.Errorf("reason %d is named %q, as is %d", r, name, other)
		}
		seen[name] = r
	}
	if name := drop.Reason(drop.NumReasons).String(); name != "invalid" {
		t.Errorf("a reason that does not exist is named %q", name)
	}
}

func TestSnapshotHasWhatOccurred(t *testing.T) {
	var c drop.Counters
	c.Add(drop.TooBig, 2)
	c.Add(drop.UnknownVNI, 1)
	c.Add(drop.TooBig, 3)
	if got, want := c.Snapshot(), map[string]uint64{"too-big": 5, "unknown-vni": 1}; !maps.Equal(got, want) {
		t.Errorf("the snapshot is %v, want %v", got, want)
	}
}

func ExampleCounters() {
	var c drop.Counters
	c.Add(drop.SpoofedMAC, 1)
	fmt.Println(c.Snapshot())
	// Output: map[spoofed-mac:1]
}
