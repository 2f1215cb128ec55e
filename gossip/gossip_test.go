package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/internal/simnet"
)

func TestWhatOnePutsAllGet(t *testing.T) {
	for _, size := range []int{3, 10} {
		t.Run(fmt.Sprintf("%d nodes", size), func(t *testing.T) {
			bubble(t, size, lan, func(t *testing.T, c *cluster) {
				var want []string
				for i, n := range c.nodes {
					n.enter(red)
					n.put(red, "web", fmt.Sprint(i))
					want = append(want, fmt.Sprintf("%d/web=%d", i, i))
				}
				c.until("all see all", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, want...) }) })
				time.Sleep(5 * time.Second)
				c.nodes[0].put(red, "web", "new")
				want[0] = "0/web=new"
				took := c.until("all see the change", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, want...) }) })
				if took > 500*time.Millisecond {
					t.Errorf("took %s, expected less than half a second", took)
				}
				c.nodes[0].Delete(red, "web")
				c.until("all see it go", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, want[1:]...) }) })
			})
		})
	}
}

func TestOnlyThoseWhoTakePartHoldOrAreSentRecords(t *testing.T) {
	bubble(t, 5, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes[:3] {
			n.enter(red)
		}
		c.nodes[0].put(red, "a", "1")
		c.until("those who take part see it", func() bool { return all(c.nodes[:3], func(n *node) bool { return n.sees(red, "0/a=1") }) })
		c.nodes[2].Exit(red)
		time.Sleep(5 * time.Second)
		before := c.nodes[2].Stats().Refused["unknown network"]
		for i := range 50 {
			c.nodes[0].put(red, "a", fmt.Sprint("v", i))
			time.Sleep(100 * time.Millisecond)
		}
		for _, n := range c.nodes[2:] {
			if got := n.Records(red); len(got) != 0 || n.holds(red, nil) {
				t.Errorf("node %d, which takes no part, holds %v", n.i, got)
			}
		}
		if after := c.nodes[2].Stats().Refused["unknown network"]; after != before {
			t.Errorf("%d messages of the network reached the node that left it", after-before)
		}
		for _, n := range c.nodes[3:] {
			if s := n.Stats(); s.Refused["unknown network"] != 0 {
				t.Errorf("%d messages of the network reached node %d, which never took part", s.Refused["unknown network"], n.i)
			}
		}
		if err := c.nodes[3].Put(red, "a", nil); !errors.Is(err, ErrNotEntered) {
			t.Errorf("a put without taking part gave %v", err)
		}
	})
}

func TestAnExitTakesTheRecordsAlong(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		c.nodes[0].put(red, "a", "1")
		c.until("all see it", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/a=1") }) })
		c.nodes[0].Exit(red)
		c.until("it is gone", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red) }) })
		c.nodes[0].enter(red)
		c.nodes[0].put(red, "b", "2")
		c.until("only the new one is there", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/b=2") }) })
		time.Sleep(time.Minute)
		if !all(c.nodes, func(n *node) bool { return n.sees(red, "0/b=2") }) {
			t.Error("what was before the exit came back")
		}
	})
}

func TestSyncReturnsWithTheRecords(t *testing.T) {
	bubble(t, 4, lan, func(t *testing.T, c *cluster) {
		var want []string
		for _, n := range c.nodes[:3] {
			n.enter(red)
			for k := range 200 {
				n.put(red, fmt.Sprint("key", k), "v")
				want = append(want, fmt.Sprintf("%d/key%d=v", n.i, k))
			}
		}
		time.Sleep(10 * time.Second)
		n := c.nodes[3]
		n.enter(red)
		start := time.Now()
		if err := n.Sync(t.Context(), red); err != nil {
			t.Fatal(err)
		}
		if !n.sees(red, want...) {
			t.Errorf("sees %d records after Sync, expected %d", len(n.visible(red)), len(want))
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %s", took)
		}

		late := c.add() // which has just started, and knows nobody's part yet
		late.enter(red)
		if err := late.Sync(t.Context(), red); err != nil {
			t.Fatal(err)
		}
		if !late.sees(red, want...) {
			t.Errorf("the new node sees %d records after Sync, expected %d", len(late.visible(red)), len(want))
		}
	})
}

func TestSyncEndsAtOnceAloneAndWithItsContext(t *testing.T) {
	bubble(t, 1, lan, func(t *testing.T, c *cluster) {
		n := c.nodes[0]
		if err := n.Sync(t.Context(), red); !errors.Is(err, ErrNotEntered) {
			t.Errorf("Sync of a network without part: %v", err)
		}
		n.enter(red)
		start := time.Now()
		if err := n.Sync(t.Context(), red); err != nil || time.Since(start) != 0 {
			t.Errorf("Sync of a lone node: %v after %s", err, time.Since(start))
		}
		other := c.add()
		other.enter(red)
		c.until("they know of each other's part", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.peersOf(red)) == 1
		})
		c.net.Partition([]netip.AddrPort{simnet.Addr(0)})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := n.Sync(ctx, red); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Sync without an answer: %v", err)
		}
	})
}

func TestACrashHidesAndAReturnShows(t *testing.T) {
	bubble(t, 5, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		gone := c.nodes[4]
		gone.put(red, "a", "1")
		gone.put(red, "old", "1")
		c.until("all see it", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "4/a=1", "4/old=1") }) })
		gone.crash()
		took := c.until("all hide it", func() bool { return all(c.nodes[:4], func(n *node) bool { return n.sees(red) }) })
		t.Logf("hidden after %s", took)
		if took > 5*time.Second {
			t.Errorf("hidden after %s, expected some seconds at most", took)
		}
		for _, n := range c.nodes[:4] {
			if len(n.Records(red)) != 2 {
				t.Errorf("node %d has dropped what it should hide", n.i)
			}
		}
		time.Sleep(30 * time.Second)
		gone.start()
		gone.enter(red)
		gone.put(red, "a", "1")
		took = c.until("all see what it put again, and no more", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "4/a=1") }) })
		t.Logf("back after %s", took)
		if took > settleTime+2*time.Second {
			t.Errorf("back after %s", took)
		}
	})
}

func TestARestartDoesNotFlap(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		again := c.nodes[2]
		again.put(red, "a", "1")
		c.until("all see it", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "2/a=1") }) })
		time.Sleep(5 * time.Second)
		again.stop()
		again.start()
		again.enter(red)
		time.Sleep(500 * time.Millisecond) // virtual: the agent looks what it has
		again.put(red, "a", "1")
		for range 1000 {
			if !all(c.nodes, func(n *node) bool { return n.sees(red, "2/a=1") }) {
				t.Fatal("the record was gone for a moment")
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

func TestAPartitionHealsWithoutLoss(t *testing.T) {
	for _, long := range []time.Duration{time.Minute, time.Hour} {
		t.Run(long.String(), func(t *testing.T) {
			bubble(t, 6, lan, func(t *testing.T, c *cluster) {
				for _, n := range c.nodes {
					n.enter(red)
					n.put(red, "kept", "0")
					n.put(red, "gone", "0")
				}
				time.Sleep(5 * time.Second)
				c.net.Partition([]netip.AddrPort{simnet.Addr(0), simnet.Addr(1), simnet.Addr(2)})
				var want []string
				for i, n := range c.nodes {
					n.put(red, "new", "1")
					n.Delete(red, "gone")
					want = append(want, fmt.Sprintf("%d/new=1", i), fmt.Sprintf("%d/kept=0", i))
				}
				c.until("the sides lose sight of each other", func() bool {
					return all(c.nodes, func(n *node) bool { return len(n.visible(red)) == 6 })
				})
				time.Sleep(long)
				c.net.Heal()
				took := c.until("all see all", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, want...) }) })
				t.Logf("healed after %s", took)
			})
		})
	}
}

func TestKeysRotateUnderWritesWithoutLoss(t *testing.T) {
	bubble(t, 5, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		stop := make(chan struct{})
		go func() { // writes all the while
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					n := c.nodes[i%5]
					n.put(red, fmt.Sprint("key", i%20), fmt.Sprint(i))
				}
			}
		}()
		for _, keys := range []struct {
			primary uint64
			others  []uint64
		}{{1, []uint64{2}}, {2, []uint64{1}}, {2, nil}, {2, []uint64{3}}, {3, []uint64{2}}, {3, nil}} {
			for _, n := range c.nodes { // one after the other, as reports come in
				if err := errors.Join(n.SetKeys(ring('g', keys.primary, keys.others...)), n.Enter(red, ring(1, keys.primary, keys.others...))); err != nil {
					t.Fatal(err)
				}
				time.Sleep(700 * time.Millisecond)
			}
		}
		close(stop)
		synctest.Wait()
		c.until("all see the same", func() bool {
			want := c.nodes[0].visible(red)
			return len(want) == 20 && all(c.nodes, func(n *node) bool { return fmt.Sprint(n.visible(red)) == fmt.Sprint(want) })
		})
		for _, n := range c.nodes {
			s := n.Stats()
			if s.Refused["unknown key epoch"]+s.Refused["bad seal"] > 0 {
				t.Errorf("node %d refused messages during the rotation: %v", n.i, s.Refused)
			}
			if have := n.ring.GetKeys(); len(have) != 1 || have[0][1] != 3 {
				t.Errorf("node %d still has %d keys for memberlist", n.i, len(have))
			}
		}
	})
}

func TestARemovedNodeAndItsRecordsGoAtOnce(t *testing.T) {
	bubble(t, 4, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
			n.put(red, "a", "1")
		}
		time.Sleep(3 * time.Second)
		removed := c.nodes[3]
		c.dir.set(publicKey(removed.key), false)
		removed.put(red, "b", "2")
		if got := len(c.nodes[0].Records(red)); got != 3 {
			t.Errorf("%d records at once after the removal, expected 3", got)
		}
		time.Sleep(5 * time.Second)
		for _, n := range c.nodes[:3] {
			if !n.sees(red, "0/a=1", "1/a=1", "2/a=1") {
				t.Errorf("node %d sees %v", n.i, n.visible(red))
			}
			if n.holds(red, func(t *table) bool { return t.owners[removed.cfg.Self] != nil }) {
				t.Errorf("node %d keeps records of the removed node", n.i)
			}
			if len(n.Members()) != 3 {
				t.Errorf("node %d lists %d members", n.i, len(n.Members()))
			}
		}
	})
}

// The word that a node takes part may get lost with it, so that nobody is there to take it back.
func TestRecordsOfANodeThatNobodyKnowsToTakePartGo(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		first, second := c.nodes[0], c.nodes[1]
		first.enter(red)
		time.Sleep(5 * time.Second)
		orphan := signed(t, 2, red, record.Record{Key: "a", Value: []byte("1"), Time: uint64(time.Now().UnixMilli())})
		first.offer(red, []*record.Record{orphan}, true)
		if !first.sees(red, "2/a=1") {
			t.Error("news of a node that takes part, for all one knows, was not taken")
		}
		time.Sleep(partTime * 2 / 3)
		second.enter(red) // it would drop the record later than the first, and give it back to it before
		time.Sleep(2 * partTime)
		for range 60 {
			if !first.sees(red) || !second.sees(red) {
				t.Fatalf("after %s the first has %v and the second %v", 3*partTime, first.visible(red), second.visible(red))
			}
			time.Sleep(time.Second)
		}
	})
}
