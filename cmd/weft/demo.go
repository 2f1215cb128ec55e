package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/engine/run"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/tap"
)

func newDemo() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a cluster of three hosts with six containers, all made for it and removed after",
		Long: `Make three hosts as network namespaces, run an agent on each, join them to a cluster, make a network, and run two
containers on each host. Show that all containers reach each other by name, by ping and by TCP; that they get out,
to a host without weft, and not into another network; and what the cluster then knows.

Everything is checked; the exit status is 0 only if every check holds. It takes root, or user namespaces, and ping.`,
		Example: "  weft demo\n  weft demo --keep",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if done, code, err := lab.Reexec(); err != nil {
				return err
			} else if done {
				os.Exit(code)
			}
			d := &demo{out: c.OutOrStdout()}
			err := d.run(c.Context())
			if err == nil && keep {
				d.keep(c.Context())
				return d.close()
			}
			if closeErr := d.close(); err == nil {
				err = closeErr
			}
			if c.Context().Err() != nil {
				return errors.New("interrupted; everything the demo made is removed")
			}
			return err
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave it running until an interrupt, and say how to look around")
	return c
}

// demo holds what was made, for close.
type demo struct {
	out     io.Writer
	dir     string
	lan     *lab.Host // the switch between the hosts
	outside *lab.Host // on the same wire, without weft
	hosts   []*lab.Host
	agents  []*lab.Cmd
	boxes   []box
	other   box // on a network of its own
	failed  int
}

// box is a container of the demo.
type box struct {
	name string
	host int
	pid  int
	addr netip.Addr
}

const (
	demoHosts = 3
	perHost   = 2
	demoMTU   = 1500
	transfer  = 500 * time.Millisecond // how long each TCP transfer sends
)

// beyond is the address of the host without weft.
var beyond = netip.MustParseAddr("192.0.2.100")

// underlay returns the address of a host, counted from 0.
func underlay(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}) }

func (d *demo) run(ctx context.Context) error {
	for _, program := range []string{"ping", "sleep"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the demo takes %s; install it (Debian: iputils-ping, coreutils): %w", program, err)
		}
	}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Three hosts on one wire with an MTU of 1500", d.build},
		{"An agent on each; the first begins a cluster, the others join", d.join},
		{"A network, made once and present everywhere", d.network},
		{"Two containers on each host, attached before their command starts", d.contain},
		{"Names: what a container is told, and why", d.names},
		{"Ping by name, from every container to every other", d.pings},
		{"TCP for half a second each, content compared", d.transfers},
		{"The way out: to a host without weft, and not into another network", d.leave},
		{"What the cluster knows", d.tables},
	} {
		fmt.Fprintf(d.out, "\n== %s\n", step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if d.failed > 0 {
		return fmt.Errorf("%d checks of the demo failed", d.failed)
	}
	fmt.Fprintf(d.out, "\nAll checks hold. Next: docs/start.md does the same on real hosts, weft bench run measures it against the kernel.\n")
	return nil
}

// check prints one result.
func (d *demo) check(what string, err error) {
	verdict := "ok    "
	if err != nil {
		d.failed++
		verdict = "FAILED"
	}
	fmt.Fprintf(d.out, "  %s  %s\n", verdict, what)
	if err != nil {
		fmt.Fprintf(d.out, "          %v\n", err)
	}
}

func (d *demo) build(context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "weft-demo-"); err != nil {
		return err
	}
	if d.lan, err = lab.New("lan"); err != nil {
		return err
	}
	if err := d.lan.Bridge("br0"); err != nil {
		return err
	}
	for i := range demoHosts {
		h, err := d.host(string(rune('a'+i)), underlay(i))
		if err != nil {
			return err
		}
		d.hosts = append(d.hosts, h)
	}
	d.outside, err = d.host("outside", beyond)
	return err
}

// host makes a host on the wire, where ping is allowed to everybody, as distributions have it.
func (d *demo) host(name string, addr netip.Addr) (*lab.Host, error) {
	h, err := lab.New(name)
	if err != nil {
		return nil, err
	}
	err = lab.Link(h, d.lan, lab.LinkOptions{
		MTU: demoMTU, Names: [2]string{"eth0", name}, Masters: [2]string{"", "br0"},
		Addresses: [2][]netip.Prefix{{netip.PrefixFrom(addr, 24)}},
	})
	if err == nil {
		err = pingForAll(h)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	fmt.Fprintf(d.out, "  host %s %s\n", name, addr)
	return h, nil
}

// pingForAll lets every group make ping sockets. A user namespace with one group has no more.
func pingForAll(h *lab.Host) error {
	const name = "net.ipv4.ping_group_range"
	if h.Sysctl(name, "0 2147483647") == nil {
		return nil
	}
	return h.Sysctl(name, "0 0")
}

func (d *demo) socket(i int) string { return filepath.Join(d.dir, d.hosts[i].Name()+".sock") }
func (d *demo) data(i int) string   { return filepath.Join(d.dir, d.hosts[i].Name()) }

// weft returns this program with other arguments, on host i.
func (d *demo) weft(i int, args ...string) *lab.Cmd {
	cmd := d.hosts[i].Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "WEFT_SOCKET="+d.socket(i), "WEFT_DATA_DIR="+d.data(i))
	cmd.SysProcAttr.Setpgid = true // the terminal's ^C is the demo's, which ends what it made itself
	return cmd
}

// show runs a command on host i as a user would, and prints both.
func (d *demo) show(i int, args ...string) error {
	fmt.Fprintf(d.out, "  %s$ weft %s\n", d.hosts[i].Name(), strings.Join(args, " "))
	out, err := d.weft(i, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("weft %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	fmt.Fprint(d.out, indented(string(out)))
	return nil
}

func (d *demo) join(ctx context.Context) error {
	for i := range d.hosts {
		if err := d.start(ctx, i); err != nil {
			return err
		}
	}
	if err := d.show(0, "init", "--name", "a"); err != nil {
		return err
	}
	tokens, err := api.NewClient(d.socket(0)).Tokens(ctx)
	if err != nil {
		return err
	}
	for i := 1; i < len(d.hosts); i++ {
		if err := d.show(i, "join", "--name", d.hosts[i].Name(), "--token", tokens.Worker, tokens.Remote.String()); err != nil {
			return err
		}
	}
	err = until(ctx, func() error {
		nodes, err := api.NewClient(d.socket(0)).Members(ctx)
		for _, n := range nodes {
			if n.Status != api.NodeReady {
				err = errors.Join(err, fmt.Errorf("node %s is %s", n.Name, n.Status))
			}
		}
		if err == nil && len(nodes) != demoHosts {
			err = fmt.Errorf("%d nodes, expected %d", len(nodes), demoHosts)
		}
		return err
	})
	d.check("three nodes are ready", err)
	return d.show(0, "node", "ls")
}

// start runs the agent of host i.
func (d *demo) start(ctx context.Context, i int) error {
	said := new(bytes.Buffer)
	cmd := d.weft(i, "agent", "--advertise", underlay(i).String(), "--log-level", "warn")
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return err
	}
	d.agents = append(d.agents, cmd)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := ready(ctx, api.NewClient(d.socket(i)), ended); err != nil {
		cmd.Stop()
		return fmt.Errorf("agent of host %s: %w; it said: %s", d.hosts[i].Name(), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// ready waits until an agent answers.
func ready(ctx context.Context, c *api.Client, ended <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("it does not answer within 15 s"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := c.Status(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return fmt.Errorf("it ended: %v", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// until tries again until there is no error, for at most ten seconds.
func until(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) network(ctx context.Context) error {
	if err := d.show(0, "network", "create", "net1"); err != nil {
		return err
	}
	err := until(ctx, func() error {
		_, err := api.NewClient(d.socket(2)).Segment(ctx, "net1")
		return err
	})
	d.check("host c has it too", err)
	return d.show(2, "network", "ls")
}

func (d *demo) contain(ctx context.Context) error {
	for k := range demoHosts * perHost {
		b := box{name: fmt.Sprintf("c%d", k+1), host: k / perHost}
		d.boxes = append(d.boxes, b)
		if err := d.show(b.host, "run", "-d", "--name", b.name, "--network", "net1", "--", "sleep", "3600"); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for i := range d.hosts {
		if err := d.find(ctx, i); err != nil {
			return err
		}
	}
	return d.show(0, "ps")
}

// find learns the addresses and processes of the containers of host i.
func (d *demo) find(ctx context.Context, i int) error {
	endpoints, err := api.NewClient(d.socket(i)).Endpoints(ctx, "net1")
	if err != nil {
		return err
	}
	containers, err := run.NewStore(d.data(i)).List()
	if err != nil {
		return err
	}
	for k := range d.boxes {
		b := &d.boxes[k]
		for _, e := range endpoints {
			if e.Local && e.Name == b.name {
				b.addr = e.Addresses[0].Addr()
			}
		}
		for _, c := range containers {
			if c.Name == b.name {
				b.pid = c.Process.PID
			}
		}
	}
	return nil
}

func (d *demo) names(ctx context.Context) error {
	last := d.boxes[len(d.boxes)-1]
	for _, args := range [][]string{{"exec", "c1", "--", "cat", "/etc/resolv.conf"}, {"dns", "explain", last.name, "--from", "c1"}} {
		if err := d.show(0, args...); err != nil {
			return err
		}
	}
	got, err := api.NewClient(d.socket(0)).Query(ctx, api.LookupRequest{Name: last.name, Type: "A", From: "c1"})
	if err == nil && (len(got.Answers) != 1 || got.Answers[0].Data != last.addr.String()) {
		err = fmt.Errorf("%s: %v", got.Rcode, got.Answers)
	}
	d.check(fmt.Sprintf("c1 is told that %s is %s", last.name, last.addr), err)
	return nil
}

// leave shows what a container reaches beyond its network.
func (d *demo) leave(ctx context.Context) error {
	c1 := d.boxes[0]
	out, err := d.weft(0, "exec", "c1", "--", "ping", "-n", "-c", "2", "-i", "0.05", "-W", "2", beyond.String()).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	d.check("c1 pings the host without weft, "+beyond.String(), err)
	rate, err := stream(ctx, tap.ByPID(c1.pid), d.outside.Namespace(), netip.AddrPortFrom(beyond, 5001), transfer)
	d.check(fmt.Sprintf("c1 → outside  %5.1f Gbit/s by TCP", rate/1e9), err)

	if err := d.show(0, "network", "create", "net2"); err != nil {
		return err
	}
	d.other = box{name: "other"}
	if err := d.show(0, "run", "-d", "--name", d.other.name, "--network", "net2", "--", "sleep", "3600"); err != nil {
		return err
	}
	d.boxes = append(d.boxes, d.other)
	endpoints, err := api.NewClient(d.socket(0)).Endpoints(ctx, "net2")
	if err == nil && len(endpoints) != 1 {
		err = fmt.Errorf("%d endpoints on net2", len(endpoints))
	}
	if err != nil {
		return err
	}
	for _, to := range []string{d.other.name, endpoints[0].Addresses[0].Addr().String()} {
		var reached error
		if out, err := d.weft(0, "exec", "c1", "--", "ping", "-n", "-c", "1", "-W", "1", to).CombinedOutput(); err == nil {
			reached = fmt.Errorf("it does: %s", bytes.TrimSpace(out))
		}
		d.check("c1 does not reach a container of another network as "+to, reached)
	}
	return d.show(0, "egress", "ls")
}

func (d *demo) pings(ctx context.Context) error {
	for _, from := range d.boxes {
		lost := []error{}
		for _, to := range d.boxes {
			if to.name == from.name {
				continue
			}
			out, err := d.weft(from.host, "exec", from.name, "--", "ping", "-n", "-c", "2", "-i", "0.05", "-W", "2", to.name).CombinedOutput()
			if err != nil {
				lost = append(lost, fmt.Errorf("to %s: %w: %s", to.name, err, bytes.TrimSpace(out)))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		d.check(fmt.Sprintf("%s on host %s reaches the five others", from.name, d.hosts[from.host].Name()), errors.Join(lost...))
	}
	return nil
}

func (d *demo) transfers(ctx context.Context) error {
	for k, from := range d.boxes {
		to := d.boxes[(k+1)%len(d.boxes)]
		rate, err := stream(ctx, tap.ByPID(from.pid), tap.ByPID(to.pid), netip.AddrPortFrom(to.addr, 5001), transfer)
		how := "within host " + d.hosts[from.host].Name()
		if from.host != to.host {
			how = "from host " + d.hosts[from.host].Name() + " to host " + d.hosts[to.host].Name()
		}
		d.check(fmt.Sprintf("%s → %s  %5.1f Gbit/s  %s", from.name, to.name, rate/1e9, how), err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (d *demo) tables(ctx context.Context) error {
	for _, args := range [][]string{{"endpoint", "ls"}, {"fdb"}, {"stats"}, {"ipam", "usage"}, {"network", "inspect", "net1", "--format", "{{.Name}} {{.VNI}} {{len .Peers}} nodes {{len .Endpoints}} endpoints"}} {
		if err := d.show(0, args...); err != nil {
			return err
		}
	}
	fdb, err := api.NewClient(d.socket(0)).FDB(ctx, "net1")
	where := make(map[string]int)
	for _, e := range fdb {
		where[e.Where]++
	}
	if err == nil && (where[api.Local] != perHost || where[api.Remote] != (demoHosts-1)*perHost) {
		err = fmt.Errorf("%d local and %d remote entries", where[api.Local], where[api.Remote])
	}
	d.check("host a has two containers itself, and knows the four others", err)
	return nil
}

// keep waits for an interrupt.
func (d *demo) keep(ctx context.Context) {
	fmt.Fprintf(d.out, "\nIt runs until you interrupt it. In another terminal, as host a:\n\n")
	fmt.Fprintf(d.out, "  export WEFT_SOCKET=%s WEFT_DATA_DIR=%s\n", d.socket(0), d.data(0))
	fmt.Fprintf(d.out, "  weft node ls; weft endpoint ls; weft network inspect net1; weft stats; weft egress ls\n")
	fmt.Fprintf(d.out, "  weft exec c1 -- ping c6\n  weft dns explain c6 --from c1\n  weft capture --port c1 | tshark -r -\n")
	<-ctx.Done()
}

// indented sets text off from the demo's own lines.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		if line != "\n" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// close ends containers and agents and removes everything.
func (d *demo) close() error {
	var errs []error
	for _, b := range d.boxes {
		if out, err := d.weft(b.host, "rm", "-f", b.name).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("no container")) {
			errs = append(errs, fmt.Errorf("remove %s: %w: %s", b.name, err, bytes.TrimSpace(out)))
		}
	}
	for i, a := range d.agents {
		_ = a.Process.Signal(syscall.SIGTERM) // it may have ended already
		ended := make(chan struct{})
		go func() { _ = a.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			d.check("the agent of host "+d.hosts[i].Name()+" ends when it is told to", errors.New("it still runs after 5 s"))
			a.Stop()
		}
	}
	for i := len(d.hosts) - 1; i >= 0; i-- {
		errs = append(errs, d.hosts[i].Close())
	}
	if d.outside != nil {
		errs = append(errs, d.outside.Close())
	}
	if d.lan != nil {
		errs = append(errs, d.lan.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
