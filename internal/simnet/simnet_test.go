package simnet_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/internal/simnet"
)

var a, b, c = simnet.Addr(0), simnet.Addr(1), simnet.Addr(2)

// bubble runs a test in virtual time with a network and nodes at a, b and c.
func bubble(t *testing.T, link simnet.Link, test func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, link)
		at := make(map[netip.AddrPort]*simnet.Transport)
		for _, addr := range []netip.AddrPort{a, b, c} {
			at[addr] = listen(t, n, addr)
		}
		test(t, n, at)
	})
}

func listen(t *testing.T, n *simnet.Network, addr netip.AddrPort) *simnet.Transport {
	t.Helper()
	tr, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func send(t *testing.T, from *simnet.Transport, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := from.WriteTo([]byte(text), to.String()); err != nil {
		t.Fatal(err)
	}
}

// received returns the packets that have arrived so far, in order.
func received(tr *simnet.Transport) (got []string) {
	for {
		select {
		case p := <-tr.PacketCh():
			got = append(got, string(p.Buf))
		default:
			return got
		}
	}
}

// connect opens a stream and returns both ends.
func connect(t *testing.T, from, to *simnet.Transport) (near, far net.Conn) {
	t.Helper()
	near, err := from.DialTimeout(to.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return near, <-to.StreamCh()
}

func TestAPacketArrivesAfterItsLatency(t *testing.T) {
	bubble(t, simnet.Link{Latency: 5 * time.Millisecond}, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		start := time.Now()
		text := []byte("hello")
		sent, err := at[a].WriteTo(text, b.String())
		if err != nil || !sent.Equal(start) {
			t.Fatalf("sent at %s with error %v, expected %s and none", sent, err, start)
		}
		copy(text, "xxxxx") // the sender may use its buffer again
		p := <-at[b].PacketCh()
		if string(p.Buf) != "hello" || p.From.String() != a.String() || p.Timestamp.Sub(start) != 5*time.Millisecond {
			t.Errorf("got %q from %s after %s", p.Buf, p.From, p.Timestamp.Sub(start))
		}
		if got := n.Counters(a); got.SentPackets != 1 || got.SentBytes != 5 || got.Largest != 5 {
			t.Errorf("the sender's counters are %+v", got)
		}
		if got := n.Counters(b); got.ReceivedPackets != 1 || got.ReceivedBytes != 5 {
			t.Errorf("the receiver's counters are %+v", got)
		}
	})
}

func TestLinksLoseDuplicateAndReorderTheirShare(t *testing.T) {
	const packets = 1000
	for _, test := range []struct {
		name      string
		link      simnet.Link
		min, max  int // packets that arrive
		overtaken bool
	}{
		{"a plain one does nothing", simnet.Link{Latency: time.Millisecond}, packets, packets, false},
		{"one that loses a tenth", simnet.Link{Loss: 0.1}, 860, 940, false},
		{"one that duplicates a tenth", simnet.Link{Duplicate: 0.1, Latency: time.Millisecond}, 1060, 1140, false},
		{"one that jitters more than packets are apart", simnet.Link{Latency: time.Millisecond, Jitter: time.Millisecond}, packets, packets, true},
		{"one that reorders a tenth", simnet.Link{Latency: 9 * time.Millisecond, Reorder: 0.1}, packets, packets, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, test.link, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
				var got []string
				for i := range packets {
					send(t, at[a], b, strconv.Itoa(10000+i))
					time.Sleep(100 * time.Microsecond)
					got = append(got, received(at[b])...)
				}
				time.Sleep(time.Second)
				got = append(got, received(at[b])...)
				if len(got) < test.min || len(got) > test.max {
					t.Errorf("%d of %d packets arrived, expected %d to %d", len(got), packets, test.min, test.max)
				}
				if slices.IsSorted(got) == test.overtaken {
					t.Errorf("in order: %t, expected %t", slices.IsSorted(got), !test.overtaken)
				}
				if lost := n.Counters(a).Lost; test.link.Loss > 0 && int(lost) != packets-len(got) {
					t.Errorf("%d counted as lost, %d are missing", lost, packets-len(got))
				}
			})
		})
	}
}

func TestTheSameSeedGivesTheSameFaults(t *testing.T) {
	run := func(seed uint64) (got []string) {
		synctest.Test(t, func(t *testing.T) {
			n := simnet.New(seed, simnet.Link{Latency: time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.2, Duplicate: 0.2})
			from, to := listen(t, n, a), listen(t, n, b)
			for i := range 200 {
				send(t, from, b, strconv.Itoa(i))
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			got = received(to)
		})
		return got
	}
	if !slices.Equal(run(7), run(7)) {
		t.Error("two runs with one seed differ")
	}
	if slices.Equal(run(7), run(8)) {
		t.Error("two runs with two seeds do not differ")
	}
}

func TestAPartitionCutsPacketsAndDialsUntilItHeals(t *testing.T) {
	bubble(t, simnet.Link{Latency: time.Millisecond}, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		send(t, at[a], b, "on the way when it starts")
		n.Partition([]netip.AddrPort{a})
		send(t, at[a], b, "across")
		send(t, at[c], b, "within")
		time.Sleep(time.Second)
		if got := received(at[b]); !slices.Equal(got, []string{"within"}) {
			t.Errorf("%q arrived, expected what was sent within the group", got)
		}
		if got := n.Counters(a).Unreachable; got != 2 {
			t.Errorf("%d packets counted as unreachable, expected 2", got)
		}
		start := time.Now()
		if _, err := at[a].DialTimeout(b.String(), 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("dialing across gave %v, expected a deadline", err)
		}
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("dialing across took %s, expected its time limit", took)
		}
		if n.Reachable(a, b) || !n.Reachable(b, c) {
			t.Error("Reachable does not tell the sides apart")
		}
		n.Heal()
		send(t, at[a], b, "healed")
		time.Sleep(time.Second)
		if got := received(at[b]); !slices.Equal(got, []string{"healed"}) {
			t.Errorf("%q arrived after healing", got)
		}
	})
}

func TestAStreamKeepsOrderUnderFaultsAndSurvivesAPartition(t *testing.T) {
	link := simnet.Link{Latency: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Reorder: 0.1, Duplicate: 0.1}
	bubble(t, link, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		near, far := connect(t, at[a], at[b])
		text := make([]byte, 1<<20) // more than the window
		for i := range text {
			text[i] = byte(rand.Uint32())
		}
		sent := make(chan error, 1)
		go func() {
			_, err := near.Write(text)
			sent <- errors.Join(err, near.Close())
		}()
		got := make([]byte, 1000)
		if _, err := io.ReadFull(far, got); err != nil {
			t.Fatal(err)
		}
		n.Partition([]netip.AddrPort{a})
		far.SetReadDeadline(time.Now().Add(time.Minute))
		if rest, err := io.ReadAll(far); len(rest) > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes and error %v across the partition", len(rest), err)
		}
		far.SetReadDeadline(time.Time{})
		n.Heal()
		rest, err := io.ReadAll(far)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(append(got, rest...), text) {
			t.Error("what arrived is not what was sent")
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if got := n.Counters(a).StreamSent; got != uint64(len(text)) {
			t.Errorf("%d bytes counted as sent, expected %d", got, len(text))
		}
		if got := n.Counters(b).StreamReceived; got != uint64(len(text)) {
			t.Errorf("%d bytes counted as received, expected %d", got, len(text))
		}
	})
}

func TestClosingAStreamIsSeenAtBothEnds(t *testing.T) {
	bubble(t, simnet.Link{Latency: time.Millisecond}, func(t *testing.T, _ *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		near, far := connect(t, at[a], at[b])
		if near.RemoteAddr().String() != b.String() || far.RemoteAddr().String() != a.String() {
			t.Errorf("the ends are %s and %s", near.RemoteAddr(), far.RemoteAddr())
		}
		io.WriteString(near, "last words")
		near.Close()
		near.Close()
		if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
			t.Errorf("read %q and %v", got, err)
		}
		if _, err := io.WriteString(far, "x"); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("writing to a closed end gave %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading from a closed end gave %v", err)
		}
		if _, err := io.WriteString(near, "x"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing at a closed end gave %v", err)
		}
		far.Close()
	})
}

func TestAFullWindowHoldsTheWriterUntilItsDeadline(t *testing.T) {
	bubble(t, simnet.Link{}, func(t *testing.T, _ *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		near, far := connect(t, at[a], at[b])
		defer near.Close()
		defer far.Close()
		near.SetDeadline(time.Now().Add(time.Second))
		wrote, err := near.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || wrote == 0 || wrote == 1<<20 {
			t.Errorf("%d bytes and error %v", wrote, err)
		}
	})
}

func TestACrashIsSilentAndARestartResets(t *testing.T) {
	bubble(t, simnet.Link{Latency: time.Millisecond}, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		near, far := connect(t, at[a], at[b])
		n.Crash(b)
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, simnet.ErrCrashed) {
			t.Errorf("the crashed node's read gave %v", err)
		}
		if _, err := far.Write([]byte("x")); !errors.Is(err, simnet.ErrCrashed) {
			t.Errorf("the crashed node's write gave %v", err)
		}
		far.Close()
		if _, err := at[b].WriteTo([]byte("x"), a.String()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the crashed node's packet gave %v", err)
		}
		if _, err := near.Write([]byte("into the void")); err != nil {
			t.Errorf("the other end noticed at once: %v", err)
		}
		near.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the other end read %v, expected silence", err)
		}
		near.SetReadDeadline(time.Time{})
		send(t, at[a], b, "before the restart")
		time.Sleep(time.Second)
		again := listen(t, n, b)
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other end read %v after the restart, expected a reset", err)
		}
		near.Close()
		send(t, at[a], b, "after it")
		time.Sleep(time.Second)
		if got := received(again); !slices.Equal(got, []string{"after it"}) {
			t.Errorf("the next life received %q", got)
		}
	})
}

func TestAShutDownNodeRefusesDials(t *testing.T) {
	bubble(t, simnet.Link{Latency: time.Millisecond}, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		if _, err := n.Listen(b); err == nil {
			t.Error("two nodes listen at one address")
		}
		at[b].Shutdown()
		at[b].Shutdown()
		if _, err := at[a].DialTimeout(b.String(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialing gave %v", err)
		}
		if _, err := at[b].DialTimeout(a.String(), time.Second); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dialing from it gave %v", err)
		}
	})
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	bubble(t, simnet.Link{}, func(t *testing.T, n *simnet.Network, at map[netip.AddrPort]*simnet.Transport) {
		for range 2000 {
			send(t, at[a], b, "x")
		}
		time.Sleep(time.Second)
		got := len(received(at[b]))
		if over := n.Counters(a).Overflowed; got == 2000 || over != uint64(2000-got) {
			t.Errorf("%d arrived and %d were counted as dropped, of 2000", got, over)
		}
	})
}

// memberlist itself is the contract: five members find each other, one crashes, the others agree on it.
func TestMemberlistRunsOnIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, simnet.Link{Latency: time.Millisecond, Jitter: time.Millisecond, Loss: 0.01})
		var lists []*memberlist.Memberlist
		for i := range 5 {
			cfg := memberlist.DefaultLANConfig()
			cfg.Name = strconv.Itoa(i)
			cfg.Transport = listen(t, n, simnet.Addr(i))
			cfg.LogOutput = io.Discard
			l, err := memberlist.Create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			lists = append(lists, l)
			if _, err := l.Join([]string{simnet.Addr(0).String()}); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want int, lists []*memberlist.Memberlist) {
			t.Helper()
			for i, l := range lists {
				if got := l.NumMembers(); got != want {
					t.Errorf("member %d sees %d, expected %d", i, got, want)
				}
			}
		}
		time.Sleep(10 * time.Second)
		expect(5, lists)
		n.Crash(simnet.Addr(4))
		time.Sleep(time.Minute)
		expect(4, lists[:4])
		for _, l := range lists {
			if err := l.Shutdown(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute) // Shutdown does not wait for probes under way
	})
}
