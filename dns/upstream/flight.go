package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// flight is a question under way, with all the clients that wait for its answer.
type flight struct {
	done   chan struct{} // closed when answer or err is there
	answer *answer
	err    error
}

// resolve answers from the cache, or by a flight.
func (r *Resolver) resolve(ctx context.Context, q *dns.Msg) (*dns.Msg, Trace, error) {
	r.count.questions.Add(1)
	if rcode := refusal(q); rcode != dns.RcodeSuccess {
		r.count.refused.Add(1)
		return refuse(q, rcode), Trace{}, nil
	}
	k := ask(q)
	a, f, err := r.find(k)
	if err != nil {
		return nil, Trace{}, fmt.Errorf("upstream: %s: %w", k, err)
	}
	cached := a != nil
	if !cached {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, Trace{}, fmt.Errorf("upstream: %s: %w", k, ctx.Err())
		}
		if a, err = f.answer, f.err; err != nil {
			return nil, Trace{}, fmt.Errorf("upstream: %s: %w", k, err)
		}
	}
	now := time.Now()
	t := Trace{Server: a.from, TCP: a.tcp, Took: a.took, Cached: cached}
	if cached {
		t.Age = now.Sub(a.at)
	}
	m, err := a.give(q, now)
	return m, t, err
}

// refusal returns with which code the resolver itself answers a question; success: it does not. A transfer of a zone is no matter
// between a container and its host's resolver, and would be more than one message.
func refusal(q *dns.Msg) int {
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case q.Response || len(q.Question) != 1:
		return dns.RcodeFormatError
	case q.Question[0].Qtype == dns.TypeAXFR || q.Question[0].Qtype == dns.TypeIXFR:
		return dns.RcodeRefused
	}
	if _, ok := dns.IsDomainName(q.Question[0].Name); !ok { // none that came over a network: people can write such
		return dns.RcodeFormatError
	}
	return dns.RcodeSuccess
}

// find returns the answer that the cache has, or the flight that gets it, begun for this question or already under way.
func (r *Resolver) find(k question) (*answer, *flight, error) {
	v := r.current()
	p := v.pool
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	if a := p.cache.get(k, time.Now()); a != nil {
		r.count.hits.Add(1)
		return a, nil, nil
	}
	if f := p.flights[k]; f != nil {
		r.count.joined.Add(1)
		return nil, f, nil
	}
	if r.under >= r.c.Outstanding {
		r.count.busy.Add(1)
		return nil, nil, fmt.Errorf("%w: %d are, which is the limit", ErrBusy, r.under)
	}
	r.count.misses.Add(1)
	f := &flight{done: make(chan struct{})}
	p.flights[k] = f
	r.under++
	r.flying.Go(func() { r.fly(v, k, f) })
	return nil, f, nil
}

// fly gets a flight's answer. No client's end ends it: the others wait for it too, and the next to ask finds it in the cache.
func (r *Resolver) fly(v *view, k question, f *flight) {
	p := v.pool
	begun := time.Now()
	ctx, cancel := context.WithTimeout(r.ctx, r.c.Timeout)
	f.answer, f.err = r.ask(ctx, v, k)
	cancel()
	if f.err != nil {
		r.count.failed.Add(1)
	} else {
		f.answer.took = time.Since(begun)
	}
	r.mu.Lock()
	delete(p.flights, k)
	r.under--
	if f.err == nil {
		p.cache.add(k, f.answer)
	}
	r.mu.Unlock()
	close(f.done)
}

// ask asks the servers in turn, and returns the first good answer of any of them. If there is none, it is the last bad one, and an error
// if no server said anything.
func (r *Resolver) ask(ctx context.Context, v *view, k question) (*answer, error) {
	steps := v.pool.plan(time.Now(), r.c.Timeout, r.c.Avoid)
	if len(steps) == 0 {
		return nil, r.none(v)
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &race{r: r, k: k, conf: &v.pool.conf, steps: steps, results: make(chan result, len(steps)),
		timer: time.NewTimer(0), stop: make(map[*server]context.CancelFunc)}
	defer c.asking.Wait()
	defer cancel()
	defer c.timer.Stop()
	return c.run(ctx)
}

// race is the course of a flight: a step begins when the one before has failed or has had its time, which need not be its end.
type race struct {
	r       *Resolver
	k       question
	conf    *Conf
	steps   []step
	next    int       // step to begin
	begun   time.Time // the one before it
	timer   *time.Timer
	stop    map[*server]context.CancelFunc // of what a server is being asked
	asking  sync.WaitGroup
	results chan result
}

// result is how a step ended.
type result struct {
	step   int
	answer *answer
	err    error
}

// begin begins the next step.
func (c *race) begin(ctx context.Context) {
	i, s := c.next, c.steps[c.next]
	if stop := c.stop[s.server]; stop != nil {
		stop() // a flight has one socket to a server at a time: more would make guesses at its answer easier (RFC 5452 §5)
	}
	one, stop := context.WithCancel(ctx)
	c.stop[s.server] = stop
	c.next, c.begun = i+1, time.Now()
	c.timer.Reset(s.wait)
	c.asking.Go(func() {
		defer stop()
		a, err := c.r.exchange(one, s.server, c.k, c.conf)
		c.results <- result{i, a, err}
	})
}

func (c *race) run(ctx context.Context) (*answer, error) {
	var bad *answer
	var faults []error
	c.begin(ctx)
	for open := 1; open > 0; {
		due := false
		select {
		case v := <-c.results:
			open--
			switch {
			case v.err != nil:
				faults = append(faults, v.err)
			case good(v.answer):
				return v.answer, nil
			default:
				bad = v.answer
			}
			due = v.step == c.next-1
		case <-c.timer.C:
			c.steps[c.next-1].miss(c.begun, time.Now())
			due = true
		case <-ctx.Done():
			if c.r.ctx.Err() != nil {
				return nil, ErrClosed
			}
			open = 0
		}
		if due && c.next < len(c.steps) && ctx.Err() == nil {
			c.begin(ctx)
			open++
		}
	}
	if bad != nil {
		return bad, nil
	}
	return nil, c.silence(faults)
}

// good reports whether an answer ends the race. Where a server failed, refused or does not know how, another one may do better.
func good(a *answer) bool {
	switch a.rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError:
		return false
	}
	return a.rcode <= maxRcode
}

// none says why there is no server.
func (r *Resolver) none(v *view) error {
	switch {
	case v.why != nil:
		return fmt.Errorf("%w: %w; start the agent with --dns, or write a nameserver line there", ErrNoServers, v.why)
	case len(v.conf.Servers) > 0:
		return fmt.Errorf("%w: %s are gateways of this node's own networks; start the agent with --dns and a server elsewhere", ErrNoServers, list(v.conf.Servers))
	}
	return fmt.Errorf("%w: %s names none; start the agent with --dns, or write a nameserver line there", ErrNoServers, r.c.ResolvConf)
}

// silence says that no server answered, and what kept them.
func (c *race) silence(faults []error) error {
	var asked []netip.AddrPort
	for _, s := range c.steps[:c.next] {
		if !slices.Contains(asked, s.at) {
			asked = append(asked, s.at)
		}
	}
	var said []string
	for _, err := range faults {
		if text := err.Error(); !errors.Is(err, context.Canceled) && !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	if len(said) > 0 {
		return fmt.Errorf("%w: asked %s: %s", ErrNoAnswer, list(asked), strings.Join(said, "; "))
	}
	return fmt.Errorf("%w within %s: asked %s", ErrNoAnswer, c.r.c.Timeout, list(asked))
}

func list(servers []netip.AddrPort) string {
	var b strings.Builder
	for i, s := range servers {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.String())
	}
	return b.String()
}
