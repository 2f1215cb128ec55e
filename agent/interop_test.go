package agent_test

import (
	"fmt"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

// wires are the underlays that traffic is tested on: veths with offloads pass the kernel's superframes through unsegmented and with
// checksums owed; without, every packet is as on a real wire.
var wires = []struct {
	name string
	wire
}{
	{"over IPv4 with offloads", wire{}},
	{"over IPv4 without offloads", wire{noOffload: true}},
	{"over IPv6 with offloads", wire{v6: true}},
	{"over IPv6 without offloads", wire{v6: true, noOffload: true}},
}

func TestWeftAndTheKernelsVXLANUnderstandEachOther(t *testing.T) {
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			a, b := lay(t, w.wire)
			c2, c3 := newContainer(t, 2), newContainer(t, 3)
			b.kernel(t, w.wire, c3, a.vtep, c2)
			n := start(t, a, a.config(c2).with(b, c3))
			before := n.refusals()
			converse(t, c2, c3, w.overlayMTU(), a, b)
			n.nothingLost(before)
		})
	}
}

func TestGibibyteArrivesAsItWasSent(t *testing.T) {
	if testing.Short() {
		t.Skip("a gibibyte each way")
	}
	w := wire{noOffload: true}
	a, b := lay(t, w)
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	b.kernel(t, w, c3, a.vtep, c2)
	start(t, a, a.config(c2).with(b, c3))
	transfer(t, c2, c3, c3.v4, 1<<30, a, b)
	transfer(t, c3, c2, c2.v6, 1<<30, a, b)
}

func TestStaticVTEPSpeaksForWhatNobodyOwns(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	b.kernel(t, wire{}, c3, a.vtep, c2)
	cfg := a.config(c2)
	cfg.Networks[0].VTEPs = append(cfg.Networks[0].VTEPs, b.vtep)
	start(t, a, cfg)
	converse(t, c2, c3, wire{}.overlayMTU(), a, b)
}

// converse makes two containers exchange every kind of traffic, both ways and over both IP versions. mtu is the overlay's.
func converse(t *testing.T, x, y *container, mtu int, between ...site) {
	for _, way := range [][2]*container{{x, y}, {y, x}} {
		from, to := way[0], way[1]
		for _, addr := range to.addresses() {
			family := "IPv4"
			if addr.Is6() {
				family = "IPv6"
			}
			t.Run(fmt.Sprintf("%s to %s by %s", from.Name(), to.Name(), family), func(t *testing.T) {
				fits := mtu - headers(addr)
				for _, size := range []int{56, fits - 1, fits} {
					ping(t, from, addr, size, "-M", "do")
				}
				for _, size := range []int{fits + 1, 8000, 60000} {
					ping(t, from, addr, size, "-M", "dont")
				}
				datagrams(t, from, to, addr, mtu)
				echoes(t, from, to, addr, 500)
				transfer(t, from, to, addr, 64<<20, between...)
			})
		}
		t.Run(fmt.Sprintf("%s to groups that %s is in", from.Name(), to.Name()), func(t *testing.T) { groups(t, from, to) })
	}
}

// nothingLost fails the test if the node has refused a frame since that it should have carried. A kernel host's bridge speaks on the
// overlay in its own name, which nobody has claimed: not-owner.
func (n *node) nothingLost(since map[string]uint64) {
	n.t.Helper()
	for reason, count := range n.refusals() {
		if count > since[reason] && reason != drop.NotOwner.String() {
			n.t.Errorf("agent %s refused %d frames that were right: %s", n.cfg.Node, count-since[reason], reason)
		}
	}
}
