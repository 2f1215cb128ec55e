package gossip

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/simnet"
)

// cluster is the nodes under measurement, and the driver's own state. One goroutine drives; puts are watched by others.
type cluster struct {
	opt   Options
	size  int
	net   *simnet.Network
	dice  *rand.Rand
	dir   directory
	ended sync.WaitGroup

	mu     sync.Mutex
	live   []*node  // that take part and are in sync
	spare  []person // who is not running
	number uint64   // of the last put
	faults []error  // of the driver's goroutines
}

// simulate measures one cluster by the clock it finds: the real one, or a synctest bubble's.
func simulate(ctx context.Context, opt Options, size int, progress func(string)) (*Result, error) {
	c := &cluster{
		opt: opt, size: size,
		net:  simnet.New(opt.Seed, opt.Link),
		dice: rand.New(rand.NewPCG(opt.Seed, uint64(size))),
		dir:  make(directory),
	}
	joins := int(opt.Churn/opt.Every)/2 + 1 // as many as join at most
	for i := range size + joins {
		p := newPerson(opt.Seed, i)
		c.dir[p.id] = p.key.Public().(ed25519.PublicKey)
		c.spare = append(c.spare, p)
	}
	defer c.close()
	r := &Result{Nodes: size}
	for _, step := range []struct {
		name string
		do   func(context.Context, *Result) error
	}{{"forming", c.form}, {"idle", c.idle}, {"quiet puts", c.quiet}, {"churn", c.churn}} {
		progress(fmt.Sprintf("%d nodes: %s", size, step.name))
		if err := step.do(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	for i := range size + joins {
		r.Largest = max(r.Largest, c.net.Counters(simnet.Addr(i)).Largest)
	}
	return r, nil
}

// forming is how long the nodes of a cluster have to find each other.
const forming = 5 * time.Minute

// form starts the nodes, the first one alone and the others a few at a time, and waits until all have what all wrote.
func (c *cluster) form(ctx context.Context, _ *Result) error {
	const together = 10
	var starting sync.WaitGroup
	for i := range c.size {
		who := c.take()
		peers := c.peers()
		starting.Go(func() {
			n, err := c.launch(who, peers)
			if err != nil {
				c.fault(err)
				return
			}
			c.enlist(n)
		})
		if i%together == 0 {
			starting.Wait()
		}
	}
	starting.Wait()
	for limit := time.Now().Add(forming); ; {
		missing := c.missing()
		switch err := c.faulty(); {
		case err != nil:
			return err
		case missing == 0:
			return pause(ctx, 5*time.Second)
		case time.Now().After(limit):
			return fmt.Errorf("after %s, %d nodes have not all records or members", forming, missing)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// launch starts a node and has it write its records.
func (c *cluster) launch(who person, peers []netip.AddrPort) (*node, error) {
	n, err := start(c.net, who, c.dir, peers, c.opt.Seed)
	if err != nil {
		return nil, err
	}
	for i := range c.opt.Records {
		if err := n.g.Put(network, fmt.Sprintf("endpoint/%d", i), make([]byte, 150)); err != nil {
			n.end()
			return nil, err
		}
	}
	return n, nil
}

// missing counts the nodes that do not have all of the others' records, or do not see all of them alive.
func (c *cluster) missing() (count int) {
	live := c.running()
	for _, n := range live {
		visible := 0
		for _, r := range n.g.Records(network) {
			if !r.Hidden {
				visible++
			}
		}
		if visible < len(live)*c.opt.Records || len(n.g.Members()) < len(live) {
			count++
		}
	}
	return count
}

// idle counts what it costs that nothing happens.
func (c *cluster) idle(ctx context.Context, r *Result) error {
	return c.cost(&r.Idle, func() error { return pause(ctx, c.opt.Idle) })
}

// quiet measures puts one after the other.
func (c *cluster) quiet(ctx context.Context, r *Result) error {
	var took samples
	for range c.opt.Puts {
		live := c.running()
		if err := c.measure(live[c.dice.IntN(len(live))], live, &took); err != nil {
			return err
		}
		if err := pause(ctx, time.Duration(float64(time.Second)*c.dice.Float64())); err != nil {
			return err
		}
	}
	r.Quiet = took.spread()
	return nil
}

// measure puts at one node and waits until all of the targets have it.
func (c *cluster) measure(writer *node, targets []*node, into *samples) error {
	c.mu.Lock()
	c.number++
	number := c.number
	c.mu.Unlock()
	begin := time.Now()
	limit := begin.Add(c.opt.Limit)
	if err := writer.put(number); err != nil {
		return err
	}
	var (
		mu    sync.Mutex
		last  = begin
		all   = true
		watch sync.WaitGroup
	)
	for _, n := range targets {
		if n == writer {
			continue
		}
		watch.Go(func() {
			at, ok := n.await(writer.id, number, limit)
			mu.Lock()
			defer mu.Unlock()
			if at.After(last) {
				last = at
			}
			all = all && ok
		})
	}
	watch.Wait()
	into.add(last.Sub(begin), all)
	return nil
}

// headers is what UDP and IPv4 add to a packet.
const headers = 28

// cost counts what all nodes send, and what the processors do, while something goes on.
func (c *cluster) cost(into *Cost, while func() error) error {
	sum := func() (packets, bytes float64) {
		for i := range len(c.dir) {
			s := c.net.Counters(simnet.Addr(i))
			packets += float64(s.SentPackets)
			bytes += float64(s.SentBytes + s.SentPackets*headers + s.StreamSent)
		}
		return packets, bytes
	}
	begin := time.Now()
	packets, bytes := sum()
	used, err := processorTime()
	if err != nil {
		return err
	}
	if err := while(); err != nil {
		return err
	}
	took := time.Since(begin).Seconds()
	if took == 0 {
		return nil
	}
	packetsNow, bytesNow := sum()
	usedNow, err := processorTime()
	if err != nil {
		return err
	}
	each := took * float64(c.size)
	*into = Cost{
		Bytes: (bytesNow - bytes) / each, Packets: (packetsNow - packets) / each,
		CPU: (usedNow - used) / each, Used: (usedNow - used) / took,
	}
	return nil
}

// processorTime returns what this process has used, in seconds.
func processorTime() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read own processor time: %w", err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, nil
}

// pause waits, unless the run is called off.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take returns a person who is not running, a new one or one of an earlier life.
func (c *cluster) take() person {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	if len(c.spare) > 1 && c.dice.IntN(2) == 0 {
		i = len(c.spare) - 1
	}
	p := c.spare[i]
	c.spare = append(c.spare[:i], c.spare[i+1:]...)
	return p
}

// release puts back a person whose life has ended.
func (c *cluster) release(p person) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = append(c.spare, p)
}

// peers returns where up to three live nodes listen.
func (c *cluster) peers() (addrs []netip.AddrPort) {
	live := c.running()
	for _, i := range c.dice.Perm(len(live))[:min(len(live), 3)] {
		addrs = append(addrs, live[i].addr)
	}
	return addrs
}

// running returns the live nodes. The slice is the caller's.
func (c *cluster) running() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*node(nil), c.live...)
}

func (c *cluster) enlist(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = append(c.live, n)
}

func (c *cluster) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, err)
}

func (c *cluster) faulty() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.faults...)
}

// close ends all nodes and waits for them.
func (c *cluster) close() {
	for _, n := range c.running() {
		close(n.gone)
		c.ended.Go(n.end)
	}
	c.ended.Wait()
}
