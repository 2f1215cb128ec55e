package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// FuzzCommand looks for commands of members that end a manager, that lead to a state which cannot be read again, or by which
// a worker changes what is not its own.
func FuzzCommand(f *testing.F) {
	c := full(f)
	for _, cmd := range everyCommand(c.State, idOf("m1")) {
		text, err := json.Marshal(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	bridge := create(NetworkSpec{Name: "mine", Driver: Bridge, IPv6: true, Ask: []Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}}})
	text, err := json.Marshal(bridge)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"release":{"addresses":[""]},"report":{}}`))
	f.Add([]byte(`{"create_network":{"spec":{"driver":"bridge","ask":[{},{}]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var cmd Command
		if json.Unmarshal(b, &cmd) != nil {
			return
		}
		cmd.At = c.now.Add(time.Hour)
		before := c.Encode()
		for _, by := range []string{"m1", "a"} {
			cmd.By = idOf(by)
			next, _, err := c.Apply(&cmd)
			if err != nil {
				continue
			}
			if _, err := Decode(next.Encode()); err != nil {
				t.Fatalf("%s of %s leads to a state that cannot be read: %v", b, by, err)
			}
			if by == "a" {
				if err := onlyOwn(c.State, next, cmd.By); err != nil {
					t.Fatalf("%s of a worker: %v", b, err)
				}
			}
		}
		if !bytes.Equal(c.Encode(), before) {
			t.Fatal("a command wrote to the state")
		}
	})
}

func TestAWorkerDoesNotFillTheManagers(t *testing.T) {
	c := newCluster(t)
	bridge := func(i int) Command {
		cmd := create(NetworkSpec{Name: fmt.Sprintf("n%d", i), Driver: Bridge, Ask: []Subnet{{Prefix: prefix("10.1.0.0/24")}}})
		cmd.By = idOf("a")
		return cmd
	}
	for i := range maxBridges {
		c.do(bridge(i))
	}
	c.refuses(bridge(maxBridges), ErrExhausted, "node a has 256 bridge networks")
	other := bridge(maxBridges)
	other.By = idOf("b")
	c.do(other)
	c.network(NetworkSpec{Name: "overlay"})

	long := NetworkSpec{Name: "long", Labels: map[string]string{}}
	for i := range maxTexts / maxText {
		long.Labels[fmt.Sprint(i)] = strings.Repeat("x", maxText)
	}
	c.refuses(create(long), ErrInvalid, "bytes of labels", "65536")
	c.refuses(Command{By: idOf("a"), Report: &Report{Version: "1\x1b[2J"}}, ErrInvalid, `1\x1b[2J`, "printable")
}

// onlyOwn says what a worker changed that is not its own.
func onlyOwn(before, after *State, id identity.NodeID) error {
	if !reflect.DeepEqual(before.Cluster, after.Cluster) {
		return fmt.Errorf("the cluster becomes %+v", after.Cluster)
	}
	for other := range before.Nodes {
		if other != id && !reflect.DeepEqual(before.Nodes[other], after.Nodes[other]) {
			return fmt.Errorf("another node becomes %+v", after.Nodes[other])
		}
	}
	if n := after.Nodes[id]; n != nil {
		own := *n
		own.Report = before.Nodes[id].Report
		if !reflect.DeepEqual(&own, before.Nodes[id]) {
			return fmt.Errorf("its own node becomes %+v", n)
		}
	}
	for _, s := range []*State{before, after} {
		for nid, n := range s.Networks {
			if n.Node == id {
				continue
			}
			was, is := before.Networks[nid], after.Networks[nid]
			if was == nil || is == nil {
				return fmt.Errorf("network %s is made or removed", n.Name)
			}
			if !reflect.DeepEqual(was.NetworkSpec, is.NetworkSpec) || !reflect.DeepEqual(was.Keys, is.Keys) || !reflect.DeepEqual(was.Subnets, is.Subnets) {
				return fmt.Errorf("network %s becomes %+v", n.Name, is)
			}
			for other := range before.Nodes {
				if other != id && !reflect.DeepEqual(before.Lease(nid, other), after.Lease(nid, other)) {
					return fmt.Errorf("another's lease in %s becomes %+v", n.Name, after.Lease(nid, other))
				}
			}
		}
	}
	return nil
}
