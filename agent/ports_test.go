package agent_test

import (
	"strings"
	"testing"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/vxlan"
)

func TestContainersOnALinuxBridgeReachRemoteOnes(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		name := "in the agent's namespace"
		if elsewhere {
			name = "in a namespace of the engine's"
		}
		t.Run(name, func(t *testing.T) {
			a, b := lay(t, wire{})
			c2, c3, c4, c5 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4), newContainer(t, 5)
			engine, bridge := a, &linuxBridge{Name: "br0"}
			if elsewhere {
				engine = site{Host: host(t, "engine")}
				bridge.NetNS = engine.Path()
			}
			lab.Must(t, engine.Bridge("br0"))
			cfg := a.config(c5).with(b, c4)
			for _, c := range []*container{c2, c3} {
				engine.veth(t, c, "br0", wire{}.overlayMTU(), false)
				e := c.here()
				e.NetNS, e.Bridge = "", bridge
				cfg.Networks[0].Endpoints = append(cfg.Networks[0].Endpoints, e)
			}
			n := start(t, a, cfg)
			start(t, b, b.config(c4).with(a, c2, c3, c5))
			ping(t, c2, c3.v4, 56) // the bridge's own business
			for _, c := range []*container{c2, c3} {
				for _, to := range []*container{c4, c5} {
					ping(t, c, to.v4, 1450-28, "-M", "do")
					ping(t, to, c.v6, 4000)
					echoes(t, c, to, to.v4, 100)
					transfer(t, to, c, c.v6, 32<<20, a, b, engine)
					transfer(t, c, to, to.v4, 32<<20, a, b, engine)
					groups(t, c, to)
				}
			}
			p := n.port("br0")
			if p.RxReads*4 > p.RxFrames {
				t.Errorf("%d frames came in %d reads; expected superframes as the containers sent them", p.RxFrames, p.RxReads)
			}
			if p.Kind != api.KindBridge || p.Bridge != "br0" || len(p.Owners) != 2 || p.Drops[drop.SpoofedAddress.String()] != 0 {
				t.Errorf("the bridge's port is %+v; expected two owners and no address refused", p)
			}
			// Behind the same port there may still be a stranger.
			stranger := newContainer(t, 6)
			engine.veth(t, stranger, "br0", wire{}.overlayMTU(), false)
			before := n.drops(drop.SpoofedMAC)
			if reaches(stranger, c4.v4) {
				t.Error("a container on the bridge that the file does not know reaches another node")
			}
			n.counts(drop.SpoofedMAC, before)
		})
	}
}

func TestPortInUseIsNamedWithWhatProbablyHasIt(t *testing.T) {
	a, _ := lay(t, wire{})
	lab.Must(t, a.VXLAN("vxlan0", lab.VXLANOptions{VNI: vni, Local: a.vtep}))
	c2 := newContainer(t, 2)
	n := launch(t, a, a.config(c2))
	<-n.ended
	if err := n.cmd.Wait(); err == nil {
		t.Error("an agent without a tunnel ended as if all was well")
	}
	for _, want := range []string{"192.0.2.1:4789", "in use", "kernel VXLAN device", "ip -d link show type vxlan"} {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("the agent said %q; expected %q in it", n.log, want)
		}
	}
	if !c2.absent("eth0") {
		t.Error("an agent that could not start has attached a container")
	}
	// On another port the two live side by side.
	cfg := a.config(c2)
	cfg.Underlay.Port = vxlan.Port + 1
	start(t, a, cfg)
}

func TestSecondAgentOnTheSameAddressIsRefused(t *testing.T) {
	a, _ := lay(t, wire{})
	start(t, a, a.config())
	n := launch(t, a, a.config())
	<-n.ended
	if n.cmd.Wait() == nil || !strings.Contains(n.log.String(), "another agent") {
		t.Errorf("a second agent at the same address said %q; expected a complaint", n.log)
	}
}

func TestUnderlayAddressOfAnotherHostIsRefused(t *testing.T) {
	a, b := lay(t, wire{})
	cfg := a.config()
	cfg.Underlay.Address = b.vtep
	n := launch(t, a, cfg)
	<-n.ended
	if n.cmd.Wait() == nil || !strings.Contains(n.log.String(), "192.0.2.2 is not an address of this host") {
		t.Errorf("the agent said %q; expected a complaint about its address", n.log)
	}
}

func TestContainerThatIsNotThereIsReportedAndHarmsNobody(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	cfg := a.config(c2, c3, c4)
	cfg.Networks[0].Endpoints[2].NetNS = "/run/netns/nowhere"
	n := start(t, a, cfg)
	ping(t, c2, c3.v4, 56)
	s, err := n.Status(t.Context())
	lab.Must(t, err)
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "c4") || !strings.Contains(s.Problems[0], "/run/netns/nowhere") {
		t.Errorf("the problems are %q; expected one, about c4 and /run/netns/nowhere", s.Problems)
	}
	if !strings.Contains(n.log.String(), "/run/netns/nowhere") {
		t.Errorf("the agent said %q; expected a complaint about /run/netns/nowhere", n.log)
	}
	if p := n.port("c4"); p.State != api.StateGone || p.Error == "" {
		t.Errorf("the port is %s: %q; expected it gone, with a reason", p.State, p.Error)
	}
	n.reload(a.config(c2, c3, c4))
	n.said("level=INFO", "reloaded")
	ping(t, c4, c2.v4, 56)
	if s, err = n.Status(t.Context()); err != nil || len(s.Problems) != 0 {
		t.Errorf("the problems are %q (%v); expected none once the container is there", s.Problems, err)
	}
}

func TestTakenInterfaceNameIsReported(t *testing.T) {
	a, _ := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	lab.Must(t, c3.Bridge("eth0"))
	n := start(t, a, a.config(c2, c3))
	if p := n.port("c3"); p.State != api.StateGone || !strings.Contains(p.Error, "eth0") || !strings.Contains(p.Error, "taken") {
		t.Errorf("the port is %s: %q; expected it gone since eth0 is taken", p.State, p.Error)
	}
	if p := n.port("c2"); p.State != api.StateUp {
		t.Errorf("the other port is %s: %s", p.State, p.Error)
	}
}
