package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/rpc"
	"github.com/weftnet/weft/cluster/state"
)

// takePart has a host lease an address of a network, and returns the network.
func (h *host) takePart(id state.NetworkID) {
	h.t.Helper()
	if _, err := h.Propose(h.t.Context(), state.Command{Lease: &state.AskLease{Network: id, Count: 1}}); err != nil {
		h.t.Fatal(err)
	}
}

func TestOnlyWhoTakesPartMayAskAboutANetwork(t *testing.T) {
	asked := make(chan string, 1)
	answer := func(err error) Known {
		return func(ctx context.Context, owner identity.NodeID, network state.NetworkID, key string) error {
			asked <- fmt.Sprint(owner, network, key)
			return err
		}
	}
	a := start(t, "a", func(c *Config) { c.Known = answer(nil) }).found()
	b := start(t, "b", func(c *Config) { c.Known = answer(fmt.Errorf("its record is another's: %w", state.ErrInvalid)) }).join(a, state.Worker)
	c := start(t, "c").join(a, state.Worker)
	web := state.NetworkID{1}
	if _, err := a.Propose(t.Context(), state.Command{CreateNetwork: &state.CreateNetwork{
		ID: web, Secret: newSecret(), Spec: state.NetworkSpec{Name: "web", Driver: state.Overlay},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Known(t.Context(), a.ID(), web, "k"); !errors.Is(err, state.ErrDenied) {
		t.Errorf("who takes no part asks: %v", err)
	}
	b.takePart(web)
	if err := b.Known(t.Context(), a.ID(), web, "k"); err != nil {
		t.Errorf("one that takes no part is asked: %v; expected no objection, having no container there", err)
	}
	a.takePart(web)
	if err := b.Known(t.Context(), a.ID(), web, "k"); err != nil {
		t.Errorf("both take part: %v", err)
	}
	if got, want := <-asked, fmt.Sprint(b.ID(), web, "k"); got != want {
		t.Errorf("asked was %s, expected %s", got, want)
	}
	if err := a.Known(t.Context(), b.ID(), web, "k"); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("of a record that is refused: %v", err)
	}
	<-asked
	if err := a.Known(t.Context(), c.ID(), web, "k"); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("of a node that keeps no records: %v", err)
	}
}

// The asker has just got its lease, and the asked one does not know of it yet.
func TestQuestionWaitsForTheStateThatItIsAbout(t *testing.T) {
	a := start(t, "a").found()
	b := start(t, "b", func(c *Config) {
		c.Known = func(ctx context.Context, _ identity.NodeID, _ state.NetworkID, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
	}).join(a, state.Worker)
	n := node{b.Member}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := n.Known(ctx, a.ID(), &rpc.Known{Network: state.NetworkID{1}, Key: "k", Index: 1 << 40}); !errors.Is(err, rpc.ErrUnavailable) {
		t.Errorf("of a state that never comes: %v", err)
	}
	web := state.NetworkID{1}
	if _, err := a.Propose(t.Context(), state.Command{CreateNetwork: &state.CreateNetwork{
		ID: web, Secret: newSecret(), Spec: state.NetworkSpec{Name: "web", Driver: state.Overlay},
	}}); err != nil {
		t.Fatal(err)
	}
	a.takePart(web)
	b.takePart(web)
	soon, cancelSoon := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancelSoon()
	if err := n.Known(soon, a.ID(), &rpc.Known{Network: web, Key: "k", Index: a.index()}); !errors.Is(err, rpc.ErrUnavailable) {
		t.Errorf("of a record that has not come: %v", err)
	}
	answered := make(chan error, 1)
	later := b.index() + 1
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		answered <- n.Known(ctx, a.ID(), &rpc.Known{Network: state.NetworkID{9}, Key: "k", Index: later})
	}()
	select {
	case err := <-answered:
		if b.index() < later {
			t.Errorf("answered before the state was there: %v", err)
		}
	default:
	}
	for b.index() < later {
		if _, err := a.Propose(t.Context(), state.Command{Lease: &state.AskLease{Network: web, Count: 1}}); err != nil {
			t.Fatal(err)
		}
		changed := b.Changed()
		if b.index() >= later {
			break
		}
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("b does not follow")
		}
	}
	if err := <-answered; !errors.Is(err, state.ErrDenied) {
		t.Errorf("with the state: %v", err)
	}
}
