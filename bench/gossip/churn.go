package gossip

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// churn has nodes join, leave and crash, and measures puts meanwhile.
func (c *cluster) churn(ctx context.Context, r *Result) error {
	if c.opt.Churn == 0 {
		return nil
	}
	var puts, joins, ready samples
	err := c.cost(&r.Busy, func() error {
		var (
			limit = time.Now().Add(c.opt.Churn)
			event = time.NewTicker(c.opt.Every)
			put   = time.NewTimer(c.gap())
			turns int
		)
		defer event.Stop()
		defer put.Stop()
		for time.Now().Before(limit) {
			select {
			case <-event.C:
				c.turn(turns, &joins, &ready)
				turns++
			case <-put.C:
				c.scatter(&puts)
				put.Reset(c.gap())
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	c.ended.Wait()
	r.Churn, r.Join, r.Ready = puts.spread(), joins.spread(), ready.spread()
	if err != nil {
		return err
	}
	return c.faulty()
}

// gap draws the time until the next put.
func (c *cluster) gap() time.Duration {
	return time.Duration(c.dice.ExpFloat64() / c.opt.Rate * float64(time.Second))
}

// turn lets one thing happen: a join, a leave, a join, a crash, and so on.
func (c *cluster) turn(i int, joins, ready *samples) {
	if i%2 == 0 {
		who, peers := c.take(), c.peers()
		c.ended.Go(func() { c.join(who, peers, joins, ready) })
		return
	}
	n := c.strike()
	if n == nil {
		return
	}
	close(n.gone)
	if i%4 == 3 {
		c.net.Crash(n.addr)
	}
	c.ended.Go(func() {
		if i%4 != 3 {
			n.g.Leave(time.Second) // crashed peers may keep it from being acknowledged, which is no fault
		}
		n.end()
		c.release(n.person)
	})
}

// strike takes a random node off the list whose puts are all done; nil if there is none, or only one node is left.
func (c *cluster) strike() *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.dice.Perm(len(c.live)) {
		if n := c.live[i]; n.pending.Load() == 0 && len(c.live) > 1 {
			c.live = slices.Delete(c.live, i, i+1)
			return n
		}
	}
	return nil
}

// join starts a node that writes at once, measures that, and enlists the node when it is in sync.
func (c *cluster) join(who person, peers []netip.AddrPort, joins, ready *samples) {
	begin := time.Now()
	n, err := c.launch(who, peers)
	if err != nil {
		c.fault(err)
		return
	}
	n.pending.Add(1)
	defer n.pending.Add(-1)
	c.ended.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.opt.Limit)
		defer cancel()
		err := n.g.Sync(ctx, network)
		ready.add(time.Since(begin), err == nil)
		c.enlist(n)
	})
	if err := c.measure(n, c.running(), joins); err != nil {
		c.fault(err)
	}
}

// scatter measures a put at a random node.
func (c *cluster) scatter(puts *samples) {
	c.mu.Lock()
	n := c.live[c.dice.IntN(len(c.live))]
	n.pending.Add(1) // under the lock, so that strike does not take it meanwhile
	targets := slices.Clone(c.live)
	c.mu.Unlock()
	c.ended.Go(func() {
		defer n.pending.Add(-1)
		if err := c.measure(n, targets, puts); err != nil {
			c.fault(err)
		}
	})
}
