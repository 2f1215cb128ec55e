package agent_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
)

// rss returns the resident memory of the agent, in bytes.
func (n *node) rss() (bytes int) {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	lab.Must(n.t, err)
	_, line, _ := strings.Cut(string(text), "VmRSS:")
	_, err = fmt.Sscan(line, &bytes)
	lab.Must(n.t, err)
	return bytes << 10
}

func TestIdleAgentTakesLittleMemory(t *testing.T) {
	for _, c := range []struct{ ports, mebibytes int }{{10, 60}, {500, 400}} {
		t.Run(fmt.Sprintf("%d ports", c.ports), func(t *testing.T) {
			a, b := lay(t, wire{})
			cfg := a.config()
			net := &cfg.Networks[0]
			net.Subnets = []netip.Prefix{netip.MustParsePrefix("10.64.0.0/16"), netip.MustParsePrefix("fd64::/64")}
			// Many interfaces in few namespaces: what they cost the agent is the same.
			var namespaces []*lab.Host
			for range min(c.ports, 10) {
				namespaces = append(namespaces, host(t, "many"))
			}
			for i := range c.ports {
				n := i + 2
				net.Endpoints = append(net.Endpoints, endpoint{
					Name: fmt.Sprintf("c%d", n), NetNS: namespaces[i%len(namespaces)].Path(), Interface: fmt.Sprintf("eth%d", i/len(namespaces)),
					MAC: frame.MAC(0x0242_0a40_0000 | n),
					Addresses: []netip.Addr{
						netip.AddrFrom4([4]byte{10, 64, byte(n >> 8), byte(n)}), netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x64, 14: byte(n >> 8), 15: byte(n)}),
					},
				})
			}
			for n := 20000; n < 20000+c.ports; n++ {
				net.Remotes = append(net.Remotes, endpoint{
					Name: fmt.Sprintf("r%d", n), MAC: frame.MAC(0x0242_0a40_0000 | n), VTEP: b.vtep,
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 64, byte(n >> 8), byte(n)})},
				})
			}
			n := launch(t, a, cfg)
			// The kernel takes 20 ms to move an interface from one namespace to another.
			lab.Eventually(t, func() bool { return strings.Contains(n.log.String(), "node is up") }, 5*patience)
			s, err := n.Status(t.Context())
			lab.Must(t, err)
			if s.Ports.Up != c.ports {
				t.Fatalf("%d of %d ports are up: %v", s.Ports.Up, c.ports, s.Problems)
			}
			// Every container announces itself to all others at first; idle is what comes after.
			var rss, frames uint64
			lab.Eventually(t, func() bool {
				s, err := n.Stats(t.Context())
				lab.Must(t, err)
				before := frames
				frames = s.Threads[0].Frames
				return frames == before
			}, 2*patience)
			rss = uint64(n.rss())
			t.Logf("%d ports: %d MiB resident", c.ports, rss>>20)
			if rss > uint64(c.mebibytes)<<20 {
				t.Errorf("an idle agent with %d ports takes %d MiB; expected less than %d", c.ports, rss>>20, c.mebibytes)
			}
		})
	}
}
