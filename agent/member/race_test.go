package member_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

func TestManyAttachAtOnceAndNoAddressIsGivenTwice(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b", "c")
	a := nodes[0]
	a.network(api.NetworkRequest{Name: "net1", Subnets: subnet("10.1.0.0/27")}, nodes...) // 29 addresses
	var wait sync.WaitGroup
	var mu sync.Mutex
	var boxes []*box
	full := 0
	for i := range 33 {
		n, name := nodes[i%3], fmt.Sprint("c", i)
		h := lab.T(t, name)
		wait.Go(func() {
			got, err := n.try(h, name, api.Attachment{Network: "net1"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				boxes = append(boxes, &box{h, n, name, got[0].Addresses[0].Addr()})
			case strings.Contains(err.Error(), "all 29 addresses"):
				full++
			default:
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wait.Wait()
	if len(boxes) != 29 || full != 4 {
		t.Errorf("%d are attached, and %d have found the network full; expected 29 and 4", len(boxes), full)
	}
	holder := make(map[string]string)
	var names []string
	for _, x := range boxes {
		if other := holder[x.addr.String()]; other != "" {
			t.Errorf("%s and %s have both %s", other, x.name, x.addr)
		}
		holder[x.addr.String()] = x.name
		names = append(names, x.name)
	}
	for _, n := range nodes {
		n.lists("net1", names...)
	}
	for _, x := range boxes {
		x.reaches(boxes[0])
	}
	sound(nodes)
}

func TestOneContainerAttachedByManyCommandsIsAttachedOnce(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	a.network(api.NetworkRequest{Name: "net1"}, b)
	h := lab.T(t, "c1")
	var wait sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wait.Go(func() { _, err := b.try(h, "c1", api.Attachment{Network: "net1"}); errs <- err })
	}
	wait.Wait()
	done := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			done++
		} else {
			refused(t, err, "c1")
		}
	}
	if have := interfaces(t, h); done != 1 || len(have) != 1 {
		t.Errorf("%d commands attached it, and it has %v", done, have)
	}
	b.lists("net1", "c1")
	sound(nodes)
}

func TestNetworkRemovedWhileContainersAttachIsGoneOrInUse(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	nodes := newLAN(t).cluster("a", "b")
	a, b := nodes[0], nodes[1]
	h := lab.T(t, "c1")
	for i := range 8 {
		name := fmt.Sprint("net", i)
		a.network(api.NetworkRequest{Name: name}, b)
		var wait sync.WaitGroup
		var attached, removed error
		wait.Go(func() { _, attached = b.try(h, "c1", api.Attachment{Network: name}) })
		wait.Go(func() { removed = a.RemoveNetwork(t.Context(), name) })
		wait.Wait()
		switch {
		case attached == nil && removed == nil:
			t.Errorf("%s is removed, and a container was attached to it", name)
		case attached != nil && removed != nil:
			t.Errorf("%s was neither removed (%v) nor attached (%v)", name, removed, attached)
		case attached == nil:
			refused(t, removed, name)
			lab.Must(t, b.Detach(t.Context(), "c1"))
		default:
			refused(t, attached, name)
		}
		if have := interfaces(t, h); len(have) != 0 {
			t.Errorf("the container has %v", have)
		}
	}
	sound(nodes)
}

func TestManagerKilledWhileContainersAttach(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	l.timing = impatient
	nodes := l.managers(1, "a", "b", "c", "w")
	a, w := nodes[0], nodes[3]
	a.network(api.NetworkRequest{Name: "net1"}, nodes...)
	keep := w.contain("keep", "net1")
	var leader *node
	for _, n := range nodes {
		d, err := w.Cluster(t.Context())
		lab.Must(t, err)
		if d.Leader == n.Name() {
			leader = n
		}
	}
	done := make(chan struct{})
	var boxes []*box
	for i := range 20 { // takes more leases than one
		name := fmt.Sprint("c", i)
		boxes = append(boxes, &box{Host: lab.T(t, name), node: w, name: name})
	}
	go func() {
		defer close(done)
		for _, x := range boxes {
			got, err := w.try(x.Host, x.name, api.Attachment{Network: "net1"})
			for err != nil && strings.Contains(err.Error(), "no quorum") {
				got, err = w.try(x.Host, x.name, api.Attachment{Network: "net1"})
			}
			if err != nil {
				t.Errorf("%s: %v", x.name, err)
				return
			}
			x.addr = got[0].Addresses[0].Addr()
		}
	}()
	lab.Must(t, leader.stop(unix.SIGKILL))
	<-done
	if t.Failed() {
		return
	}
	leader.start()
	for _, n := range nodes {
		n.sees(4)
	}
	names := []string{"keep"}
	for _, x := range boxes {
		names = append(names, x.name)
	}
	w.lists("net1", names...)
	other := a.contain("other", "net1")
	for _, x := range boxes {
		x.reaches(keep, other)
	}
	sound(nodes)
}
