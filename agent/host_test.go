package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent"
	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// agentRole marks the environment of the processes that the tests start as agents: an agent raises GOMAXPROCS, locks threads, and its
// sockets belong in its host's namespace.
const agentRole = "WEFT_TEST_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(agentRole) != "" {
		os.Exit(runAgent(os.Args[1], os.Args[2]))
	}
	if os.Getenv(unprivileged) != "" {
		if done, code, err := lab.Reexec(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		} else if done {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

func runAgent(static, socket string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	count := make(chan os.Signal, 1)
	signal.Notify(count, unix.SIGUSR1)
	go func() {
		for range count {
			runtime.GC() // what waits for a collection is no leak
			fmt.Fprintln(os.Stderr, "goroutines:", runtime.NumGoroutine())
		}
	}()
	err := agent.Run(ctx, agent.Options{
		Static: static, Socket: socket, Version: "test", Reload: reload, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// The file of an agent. It is written as JSON, which is YAML too.
type (
	config struct {
		Node     string    `json:"node"`
		Underlay underlay  `json:"underlay"`
		Threads  int       `json:"threads,omitempty"`
		Networks []network `json:"networks"`
	}
	underlay struct {
		Address netip.Addr `json:"address"`
		Port    int        `json:"port,omitempty"`
	}
	network struct {
		Name      string         `json:"name"`
		VNI       uint32         `json:"vni"`
		Subnets   []netip.Prefix `json:"subnets"`
		MTU       int            `json:"mtu,omitempty"`
		Spoof     string         `json:"spoof,omitempty"`
		Egress    string         `json:"egress,omitempty"`
		Internal  bool           `json:"internal,omitempty"`
		Endpoints []endpoint     `json:"endpoints,omitempty"`
		Remotes   []endpoint     `json:"remotes,omitempty"`
		VTEPs     []netip.Addr   `json:"vteps,omitempty"`
	}
	endpoint struct {
		Name       string       `json:"name"`
		NetNS      string       `json:"netns,omitempty"`
		Bridge     *linuxBridge `json:"bridge,omitempty"`
		Interface  string       `json:"interface,omitempty"`
		Addresses  []netip.Addr `json:"addresses,omitempty"`
		MAC        frame.MAC    `json:"mac"`
		Aliases    []string     `json:"aliases,omitempty"`
		Queues     int          `json:"queues,omitempty"`
		Persistent bool         `json:"persistent,omitempty"`
		VTEP       netip.Addr   `json:"vtep,omitzero"`
	}
	linuxBridge struct {
		Name  string `json:"name"`
		NetNS string `json:"netns,omitempty"`
	}
)

// The overlay network of most tests.
const vni = 77

var subnets = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")}

// container is a host that is meant to be attached to the overlay, by a TAP or a veth that becomes its eth0.
type container struct {
	*lab.Host
	v4, v6 netip.Addr
	mac    frame.MAC
}

// host makes a test host that keeps the frames of a flow in order: by default a veth hands each frame to the backlog of the CPU that
// its sender happens to run on, and one that moved on overtakes itself (the kernel's VXLAN suffers from that just as well).
func host(t testing.TB, name string) *lab.Host {
	t.Helper()
	h := lab.T(t, name)
	if err := h.Sysctl("net.core.rps_default_mask", "1"); !errors.Is(err, fs.ErrNotExist) { // since Linux 6.3
		lab.Must(t, err)
	}
	return h
}

// newContainer makes container number n, which is its last address byte as well; 1 is the gateway.
func newContainer(t testing.TB, n int) *container {
	t.Helper()
	return &container{
		Host: host(t, fmt.Sprintf("c%d", n)),
		v4:   netip.AddrFrom4([4]byte{10, 77, byte(n >> 8), byte(n)}),
		v6:   netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 14: byte(n >> 8), 15: byte(n)}),
		mac:  frame.MAC(0x0242_0a4d_0000 | n),
	}
}

func (c *container) addresses() []netip.Addr { return []netip.Addr{c.v4, c.v6} }

// prefixes returns the addresses as an interface has them.
func (c *container) prefixes() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(c.v4, 24), netip.PrefixFrom(c.v6, 64)}
}

// here describes the container to its own agent, there to another one.
func (c *container) here() endpoint {
	return endpoint{Name: c.Name(), NetNS: c.Path(), Addresses: c.addresses(), MAC: c.mac}
}

func (c *container) there(vtep netip.Addr) endpoint {
	return endpoint{Name: c.Name(), Addresses: c.addresses(), MAC: c.mac, VTEP: vtep}
}

// wire is what lies between the hosts.
type wire struct {
	v6        bool
	noOffload bool // as between NICs without tunnel offloads
	mtu       int  // 0 is 1500
}

// overhead is what VXLAN adds to a packet on this wire.
func (w wire) overhead() int {
	if w.v6 {
		return 70
	}
	return 50
}

// overlayMTU is what the wire leaves for the containers' packets.
func (w wire) overlayMTU() int {
	if w.mtu == 0 {
		return 1500 - w.overhead()
	}
	return w.mtu - w.overhead()
}

// site is a host at one end of the wire.
type site struct {
	*lab.Host
	vtep netip.Addr
}

// lay makes two hosts and the wire between them.
func lay(t testing.TB, w wire) (a, b site) {
	t.Helper()
	addrs, bits := [2]string{"192.0.2.1", "192.0.2.2"}, 24
	if w.v6 {
		addrs, bits = [2]string{"2001:db8::1", "2001:db8::2"}, 64
	}
	a = site{host(t, "a"), netip.MustParseAddr(addrs[0])}
	b = site{host(t, "b"), netip.MustParseAddr(addrs[1])}
	opt := lab.LinkOptions{MTU: w.mtu, NoOffload: w.noOffload}
	opt.Addresses[0] = []netip.Prefix{netip.PrefixFrom(a.vtep, bits)}
	opt.Addresses[1] = []netip.Prefix{netip.PrefixFrom(b.vtep, bits)}
	lab.Must(t, lab.Link(a.Host, b.Host, opt))
	return a, b
}

// config returns the file for an agent at s with these containers.
func (s site) config(local ...*container) config {
	n := network{Name: "net", VNI: vni, Subnets: subnets}
	for _, c := range local {
		n.Endpoints = append(n.Endpoints, c.here())
	}
	return config{Node: s.Name(), Underlay: underlay{Address: s.vtep}, Networks: []network{n}}
}

// with adds containers of another site to the first network.
func (c config) with(s site, remote ...*container) config {
	for _, r := range remote {
		c.Networks[0].Remotes = append(c.Networks[0].Remotes, r.there(s.vtep))
	}
	return c
}

// node is a running agent.
type node struct {
	*api.Client
	t            testing.TB
	site         site
	cfg          config
	file, socket string
	cmd          *lab.Cmd
	log          *lab.Journal
	ended        chan struct{}
}

const patience = 20 * time.Second // for what takes milliseconds on an idle machine

// launch starts an agent and does not wait for it. When the test ends, so does the agent: by SIGTERM, and without a complaint.
func launch(t testing.TB, s site, cfg config) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft") // the test's own directory has a name too long for a socket
	lab.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{t: t, site: s, file: filepath.Join(dir, "node.yaml"), socket: filepath.Join(dir, "api.sock")}
	n.Client = api.NewClient(n.socket)
	n.write(cfg)
	n.exec()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agent %s said:\n%s", cfg.Node, n.log)
		}
		select {
		case <-n.ended:
		default:
			if err := n.stop(unix.SIGTERM); err != nil {
				t.Errorf("agent %s ended by SIGTERM: %v; it said:\n%s", cfg.Node, err, n.log)
			}
		}
	})
	return n
}

// start starts an agent and waits until it is up.
func start(t testing.TB, s site, cfg config) *node {
	t.Helper()
	n := launch(t, s, cfg)
	n.ready()
	return n
}

func (n *node) write(cfg config) {
	n.t.Helper()
	text, err := json.MarshalIndent(cfg, "", "  ")
	lab.Must(n.t, err)
	lab.Must(n.t, os.WriteFile(n.file, text, 0o600))
	n.cfg = cfg
}

// exec starts the agent's process.
func (n *node) exec() {
	n.t.Helper()
	cmd, ended := n.site.Command("/proc/self/exe", n.file, n.socket), make(chan struct{})
	n.log = &lab.Journal{}
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.Env = append(os.Environ(), agentRole+"=1")
	lab.Must(n.t, cmd.Start())
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	n.cmd, n.ended = cmd, ended
}

func (n *node) ready() {
	n.t.Helper()
	n.await("node is up", 1)
}

// await waits until the agent has said text so many times.
func (n *node) await(text string, times int) {
	n.t.Helper()
	for end := time.Now().Add(patience); strings.Count(n.log.String(), text) < times; {
		select {
		case <-n.ended:
			n.t.Fatalf("agent %s ended before it said %q %d times; it said:\n%s", n.cfg.Node, text, times, n.log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			n.t.Fatalf("agent %s did not say %q %d times; it said:\n%s", n.cfg.Node, text, times, n.log)
		}
	}
}

// reload makes the agent read cfg, and waits until it has said what it thinks of it.
func (n *node) reload(cfg config) {
	n.t.Helper()
	n.write(cfg)
	n.hangup()
}

func (n *node) hangup() {
	n.t.Helper()
	const said = "msg=reload"
	times := strings.Count(n.log.String(), said)
	lab.Must(n.t, n.cmd.Process.Signal(unix.SIGHUP))
	n.await(said, times+1)
}

// stop ends the agent by a signal and returns what became of it.
func (n *node) stop(s unix.Signal) error {
	_ = n.cmd.Process.Signal(s)
	select {
	case <-n.ended:
		return n.cmd.Wait()
	case <-time.After(patience):
		_ = n.cmd.Process.Signal(unix.SIGQUIT) // for the stacks in the journal
		<-n.ended
		return fmt.Errorf("it went on for %s", patience)
	}
}

// refusals returns what the node has refused so far, by reason: in its tunnel, from the underlay in its networks, and at its ports.
func (n *node) refusals() map[string]uint64 {
	n.t.Helper()
	s, err := n.Stats(n.t.Context())
	lab.Must(n.t, err)
	ports, err := n.Ports(n.t.Context(), "")
	lab.Must(n.t, err)
	counted := []map[string]uint64{s.Tunnel.Drops}
	for _, net := range s.Networks {
		counted = append(counted, net.Drops)
	}
	for _, p := range ports {
		counted = append(counted, p.Drops)
	}
	all := make(map[string]uint64)
	for _, c := range counted {
		for reason, count := range c {
			all[reason] += count
		}
	}
	return all
}

// drops returns how many frames the node has refused for reason.
func (n *node) drops(reason drop.Reason) uint64 {
	n.t.Helper()
	return n.refusals()[reason.String()]
}

// port returns the status of the port of the name.
func (n *node) port(name string) api.PortStatus {
	n.t.Helper()
	ports, err := n.Ports(n.t.Context(), "")
	lab.Must(n.t, err)
	for _, p := range ports {
		if p.Name == name {
			return p
		}
	}
	n.t.Fatalf("agent %s has no port %s, but %v", n.cfg.Node, name, ports)
	return api.PortStatus{}
}

// kernel makes s a VXLAN endpoint of the kernel's, with container c on its bridge and the others behind peer.
func (s site) kernel(t testing.TB, w wire, c *container, peer netip.Addr, others ...*container) {
	t.Helper()
	mtu := w.overlayMTU()
	lab.Must(t, s.Bridge("br0"))
	v := lab.VXLANOptions{VNI: vni, Local: s.vtep, MTU: mtu, Bridge: "br0", Entries: []lab.Entry{{VTEP: peer}}}
	for _, o := range others {
		v.Entries = append(v.Entries, lab.Entry{MAC: o.mac, VTEP: peer})
	}
	lab.Must(t, s.VXLAN("vxlan0", v))
	if w.noOffload {
		lab.Must(t, s.Offload("vxlan0", false))
	}
	s.veth(t, c, "br0", mtu, w.noOffload)
}

// veth puts a container on a bridge of s, as container engines do.
func (s site) veth(t testing.TB, c *container, bridge string, mtu int, noOffload bool) {
	t.Helper()
	lab.Must(t, lab.Link(s.Host, c.Host, lab.LinkOptions{
		Names: [2]string{"v" + c.Name(), "eth0"}, Masters: [2]string{bridge, ""}, MACs: [2]frame.MAC{0, c.mac},
		Addresses: [2][]netip.Prefix{nil, c.prefixes()}, MTU: mtu, NoOffload: noOffload,
	}))
}
