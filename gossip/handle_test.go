package gossip

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
	"github.com/weftnet/weft/gossip/wire"
	"github.com/weftnet/weft/internal/simnet"
)

// message seals a body as a node sends it.
func message(t testing.TB, from int, network state.NetworkID, k wire.Kind, keys state.Keyring, body []byte) []byte {
	t.Helper()
	b := wire.Head{Kind: k, Sender: idOf(from), Network: network}.Append(nil)
	if network.IsZero() {
		return append(b, body...)
	}
	ring, err := record.NewRing(keys)
	if err != nil {
		t.Fatal(err)
	}
	return ring.Seal(b, body)
}

func TestWhatIsForgedReplayedOrDamagedIsRefusedAndCounted(t *testing.T) {
	keys := ring(1, 1)
	good := func(t *testing.T) *record.Record {
		return signed(t, 1, red, record.Record{Key: "good", Value: []byte("1"), Time: uint64(time.Now().Add(time.Minute).UnixMilli())})
	}
	forged := func(t *testing.T) []byte { // node 1's record with another value
		b := bytes.Clone(good(t).Wire())
		b[28+len("good")]++
		return b
	}
	old := func(t *testing.T) []byte {
		return signed(t, 1, red, record.Record{Key: "a", Value: []byte("old"), Time: uint64(time.Now().Add(-time.Hour).UnixMilli())}).Wire()
	}
	for _, test := range []struct {
		name string
		why  reason
		make func(t *testing.T) []byte
	}{
		{"an empty message", truncated, func(*testing.T) []byte { return nil }},
		{"garbage", unknownVersion, func(*testing.T) []byte { return bytes.Repeat([]byte{0xee}, 500) }},
		{"too much", tooLarge, func(*testing.T) []byte { return make([]byte, wire.MaxMessage+1) }},
		{"a message of a stranger", unknownSender, func(t *testing.T) []byte { return message(t, 77, red, wire.Push, keys, good(t).Wire()) }},
		{"a message of this node itself", unknownSender, func(t *testing.T) []byte { return message(t, 0, red, wire.Push, keys, good(t).Wire()) }},
		{"a message of a network without part", unknownNetwork, func(t *testing.T) []byte { return message(t, 1, blue, wire.Push, keys, good(t).Wire()) }},
		{"a message under a key that is not there", unknownEpoch, func(t *testing.T) []byte { return message(t, 1, red, wire.Push, ring(1, 9), good(t).Wire()) }},
		{"a message under another key", badSeal, func(t *testing.T) []byte { return message(t, 1, red, wire.Push, ring(2, 1), good(t).Wire()) }},
		{"a message under another sender's name", badSeal, func(t *testing.T) []byte {
			b := message(t, 1, red, wire.Push, keys, good(t).Wire())
			id := idOf(2)
			copy(b[2:], id[:])
			return b
		}},
		{"a message under another kind", badSeal, func(t *testing.T) []byte {
			b := message(t, 1, red, wire.Push, keys, good(t).Wire())
			b[1] = byte(wire.Records)
			return b
		}},
		{"a message that was cut", badSeal, func(t *testing.T) []byte {
			b := message(t, 1, red, wire.Push, keys, good(t).Wire())
			return b[:len(b)-1]
		}},
		{"a record that was changed", badSignature, func(t *testing.T) []byte { return message(t, 1, red, wire.Push, keys, forged(t)) }},
		{"a record that was cut", truncated, func(t *testing.T) []byte { return message(t, 1, red, wire.Push, keys, good(t).Wire()[:50]) }},
		{"a record of another network", badSignature, func(t *testing.T) []byte {
			r := signed(t, 1, blue, record.Record{Key: "good", Time: good(t).Time})
			return message(t, 1, red, wire.Push, keys, r.Wire())
		}},
		{"a record of a stranger", unknownOwner, func(t *testing.T) []byte {
			return message(t, 1, red, wire.Push, keys, signed(t, 77, red, record.Record{Key: "good", Time: 1}).Wire())
		}},
		{"a replayed older record", stale, func(t *testing.T) []byte { return message(t, 1, red, wire.Push, keys, old(t)) }},
		{"a record from before its owner took part", earlierLife, func(t *testing.T) []byte {
			r := signed(t, 1, red, record.Record{Key: "before", Time: 5})
			return message(t, 1, red, wire.Push, keys, r.Wire())
		}},
		{"an own record that another signed", badSignature, func(t *testing.T) []byte {
			r, err := record.New(keyOf(1), red, record.Record{Owner: idOf(0), Key: "mine", Time: good(t).Time})
			if err != nil {
				t.Fatal(err)
			}
			return message(t, 1, red, wire.Push, keys, r.Wire())
		}},
		{"a digest in a network", malformed, func(t *testing.T) []byte { return message(t, 1, red, wire.Digest, keys, wire.Digests{}.Append(nil)) }},
		{"a digest that was cut", truncated, func(t *testing.T) []byte { return message(t, 1, state.NetworkID{}, wire.Digest, keys, []byte{0, 3, 1}) }},
		{"a question of a node that takes no part", notMember, func(t *testing.T) []byte {
			return message(t, 2, red, wire.Want, keys, wire.Wants{Token: 1}.Append(nil))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, 3, lan, func(t *testing.T, c *cluster) {
				n := c.nodes[0]
				n.enter(red)
				c.nodes[1].enter(red)
				c.nodes[1].put(red, "a", "1")
				c.until("it is there", func() bool { return n.sees(red, "1/a=1") })
				time.Sleep(time.Second)
				before := n.Stats().Refused
				n.receive(test.make(t))
				time.Sleep(time.Millisecond)
				after := n.Stats().Refused
				if after[reasonNames[test.why]] != before[reasonNames[test.why]]+1 {
					t.Errorf("refused %v, expected one more %q than %v", after, reasonNames[test.why], before)
				}
				if !n.sees(red, "1/a=1") {
					t.Errorf("the records are %v now", n.visible(red))
				}
			})
		})
	}
}

func TestAnOwnRecordOfAnEarlierLifeIsCorrected(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		c.nodes[0].put(red, "kept", "now")
		time.Sleep(5 * time.Second)
		// Written under a clock that was a day ahead: newer than all that node 0 writes by the clock.
		ahead := uint64(time.Now().Add(24 * time.Hour).UnixMilli())
		for _, r := range []record.Record{{Key: "kept", Value: []byte("then")}, {Key: "lost", Value: []byte("then")}} {
			r.Time = ahead
			c.nodes[1].offer(red, []*record.Record{signed(t, 0, red, r)}, false)
		}
		if !c.nodes[1].sees(red, "0/kept=then", "0/lost=then") {
			t.Fatal("the old records were not taken")
		}
		took := c.until("the owner has its word", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/kept=now") }) })
		t.Logf("after %s", took)
		c.nodes[0].put(red, "kept", "later")
		c.until("it still can write", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/kept=later") }) })
	})
}

// A node whose clock went back by an hour while it was down must still be heard.
func TestARestartUnderAnEarlierClockIsHeard(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		n := c.nodes[0]
		n.mu.Lock()
		n.clock = uint64(time.Now().Add(time.Hour).UnixMilli()) // it runs ahead in this life
		n.mu.Unlock()
		for _, n := range c.nodes {
			n.enter(red)
		}
		n.put(red, "a", "1")
		n.put(red, "old", "1")
		c.until("all see it", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/a=1", "0/old=1") }) })
		n.stop()
		n.start()
		n.enter(red)
		n.put(red, "a", "2")
		took := c.until("all see the new life", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/a=2") }) })
		t.Logf("after %s", took)
		time.Sleep(time.Minute)
		if !all(c.nodes, func(n *node) bool { return n.sees(red, "0/a=2") }) {
			t.Error("it did not stay")
		}
	})
}

func TestADeletionOutlivesANodeThatWasAway(t *testing.T) {
	for _, away := range []time.Duration{time.Minute, 3*time.Hour + time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			bubble(t, 4, lan, func(t *testing.T, c *cluster) {
				for _, n := range c.nodes {
					n.enter(red)
				}
				c.nodes[0].put(red, "a", "1")
				c.nodes[0].put(red, "b", "1")
				c.until("all see it", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/a=1", "0/b=1") }) })
				c.net.Partition([]netip.AddrPort{simnet.Addr(3)})
				c.nodes[0].Delete(red, "a")
				time.Sleep(away)
				c.net.Heal()
				c.until("all see it gone", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/b=1") }) })
				time.Sleep(time.Minute)
				if !all(c.nodes, func(n *node) bool { return n.sees(red, "0/b=1") }) {
					t.Error("it came back")
				}
			})
		})
	}
}

// moby coalesced a deletion and a creation that followed at once.
func TestADeletionAndAPutRightAfterItEndInThePut(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		n := c.nodes[0]
		for i := range 20 {
			n.put(red, "a", fmt.Sprint(i))
			n.Delete(red, "a")
			n.put(red, "a", fmt.Sprint(i, " again"))
			time.Sleep(time.Duration(i) * 5 * time.Millisecond)
		}
		c.until("all see the last", func() bool { return all(c.nodes, func(n *node) bool { return n.sees(red, "0/a=19 again") }) })
	})
}

func TestRecordsOfANodeThatIsDeadForLongGo(t *testing.T) {
	bubble(t, 0, lan, func(t *testing.T, c *cluster) {
		c.forget = time.Hour
		for range 4 {
			c.add()
		}
		for _, n := range c.nodes {
			n.enter(red)
			n.put(red, "a", "1")
		}
		time.Sleep(5 * time.Second)
		c.nodes[3].crash()
		time.Sleep(50 * time.Minute)
		for _, n := range c.nodes[:3] {
			if len(n.Records(red)) != 4 {
				t.Errorf("node %d has %d records after 50 minutes, expected 4", n.i, len(n.Records(red)))
			}
		}
		// A node that starts now counts the hour anew, but learns from the others that theirs is over.
		c.nodes[2].stop()
		c.nodes[2].start()
		c.nodes[2].enter(red)
		c.nodes[2].put(red, "a", "1")
		time.Sleep(20 * time.Minute)
		for _, n := range c.nodes[:3] {
			if len(n.Records(red)) != 3 {
				t.Errorf("node %d has %d records after 70 minutes, expected 3", n.i, len(n.Records(red)))
			}
		}
		differed := c.nodes[0].Stats().Differed
		time.Sleep(time.Minute)
		if now := c.nodes[0].Stats().Differed; now != differed {
			t.Errorf("%d digests differed in a minute, though nothing changes", now-differed)
		}
		c.nodes[3].start()
		c.nodes[3].enter(red)
		c.nodes[3].put(red, "b", "2")
		c.until("it is back", func() bool { return all(c.nodes, func(n *node) bool { return n.visible(red)["3/b=2"] }) })
	})
}

func TestABurstIsBoundedAndStarvesNobody(t *testing.T) {
	bubble(t, 4, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		time.Sleep(3 * time.Second)
		for i := range 10_000 {
			c.nodes[0].put(red, fmt.Sprint("key", i), "v")
		}
		time.Sleep(20 * time.Millisecond) // the relaying begins
		c.nodes[1].put(red, "own", "1")
		took := c.until("all see the other's", func() bool {
			return all(c.nodes, func(n *node) bool { return n.value(red, 1, "own") == "1" })
		})
		if took > time.Second {
			t.Errorf("an own record waited %s behind relayed ones", took)
		}
		most := 0
		took = c.until("all have all", func() bool {
			for _, n := range c.nodes[1:] {
				most = max(most, n.Stats().Relayed)
			}
			return all(c.nodes, func(n *node) bool { return len(n.Records(red)) == 10_001 })
		})
		t.Logf("all have 10,000 records after %s; at most %d waited to be relayed", took, most)
		if most > 2*maxRelayed {
			t.Errorf("%d records waited to be relayed, expected at most %d", most, 2*maxRelayed)
		}
		c.until("all is sent", func() bool { return c.nodes[0].Stats().Own == 0 })
	})
}

func TestLossIsHealedWithinSeconds(t *testing.T) {
	lossy := lan
	lossy.Loss = 0.2
	bubble(t, 10, lossy, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
		}
		time.Sleep(5 * time.Second)
		for i := range 50 {
			c.nodes[i%10].put(red, "a", fmt.Sprint(i))
			took := c.until("all have it", func() bool {
				return all(c.nodes, func(n *node) bool { return n.value(red, i%10, "a") == fmt.Sprint(i) })
			})
			if took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		}
	})
}

func TestANodeThatTheDirectoryLearnsOfLateComesIn(t *testing.T) {
	bubble(t, 3, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
			n.put(red, "a", "1")
		}
		late := &node{c: c, i: 3, key: keyOf(3)}
		late.start() // nobody knows it yet
		late.enter(red)
		late.put(red, "a", "1")
		time.Sleep(10 * time.Second)
		for _, n := range c.nodes {
			if len(n.Members()) != 3 || len(n.Records(red)) != 3 {
				t.Errorf("node %d took a stranger in: %v", n.i, n.visible(red))
			}
		}
		c.nodes = append(c.nodes, late)
		c.dir.set(publicKey(late.key), true)
		took := c.until("all see its record", func() bool { return all(c.nodes, func(n *node) bool { return len(n.visible(red)) == 4 }) })
		t.Logf("after %s", took)
		if took > 10*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestLeaveTakesAllAlong(t *testing.T) {
	bubble(t, 4, lan, func(t *testing.T, c *cluster) {
		for _, n := range c.nodes {
			n.enter(red)
			n.put(red, "a", "1")
		}
		time.Sleep(3 * time.Second)
		if err := c.nodes[3].Leave(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		c.nodes[3].stop()
		c.until("its records are gone", func() bool {
			return all(c.nodes[:3], func(n *node) bool {
				return maps.Equal(n.visible(red), map[string]bool{"0/a=1": true, "1/a=1": true, "2/a=1": true})
			})
		})
		for _, n := range c.nodes[:3] {
			if got := len(n.Records(red)); got != 3 {
				t.Errorf("node %d has %d records, hidden ones too", n.i, got)
			}
		}
	})
}
