package member_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/internal/lab"
)

// rotated waits until a node has keys of that epoch only.
func (n *node) rotated(epoch uint64) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("the keys are those of epoch %d", epoch), func() error {
		d, err := n.Cluster(n.t.Context())
		if err == nil && (d.KeyEpoch != epoch || d.Rotating) {
			err = errorf("epoch %d is in use; rotating: %t", d.KeyEpoch, d.Rotating)
		}
		return err
	})
}

func TestKeysRotateUnderTraffic(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	l.timing = cluster.Timing{Step: time.Second, Behind: 3 * time.Second, Report: 200 * time.Millisecond, Tick: 200 * time.Millisecond}
	nodes := l.cluster("a", "b", "c")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.network(api.NetworkRequest{Name: "net1"}, b, c)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c1.reaches(c2)
	conn := dial(t, c1, c2)
	lab.Must(t, a.RotateKeys(t.Context()))
	refused(t, a.RotateKeys(t.Context()), "rotation")
	for i, done := 0, false; !done; i++ {
		conn.echo(fmt.Sprint("during the rotation ", i))
		n := nodes[i%3]
		name := fmt.Sprint("n", i)
		x := n.contain(name, "net1")
		if err := x.ping(c1); err != nil {
			t.Error(err)
		}
		if err := c2.ping(x); err != nil {
			t.Error(err)
		}
		lab.Must(t, n.Detach(t.Context(), name))
		lab.Must(t, x.Close())
		d, err := c.Cluster(t.Context())
		lab.Must(t, err)
		done = d.KeyEpoch == 2 && !d.Rotating
	}
	for _, n := range nodes {
		n.rotated(2)
	}
	sound(nodes)

	// A node that misses a rotation takes part again all the same, with what it has attached.
	c3 := c.contain("c3", "net1")
	lab.Must(t, c.stop(unix.SIGKILL))
	lab.Must(t, a.RotateKeys(t.Context()))
	a.rotated(3)
	c.start()
	c.rotated(3)
	a.sees(3)
	b.lists("net1", "c1", "c2", "c3")
	c3.reaches(c1, c2)
	conn.echo("after the rotation")
	sound(nodes)
}
