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
	"github.com/weftnet/weft/internal/lab"
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show two hosts, four containers and one network, all made for it and removed after",
		Long: `Make two hosts as network namespaces, run an agent on each, attach two containers to each, and show that all reach each
other: by ping and by TCP, within a host and across, with the tables and counters that the agents then have.

Everything is checked; the exit status is 0 only if every check holds. It takes root, or user namespaces, and ping.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if done, code, err := lab.Reexec(); err != nil {
				return err
			} else if done {
				os.Exit(code)
			}
			d := &demo{out: c.OutOrStdout()}
			err := d.run(c.Context())
			if closeErr := d.close(); err == nil {
				err = closeErr
			}
			if c.Context().Err() != nil {
				return errors.New("interrupted; everything the demo made is removed")
			}
			return err
		},
	}
}

// demo holds what was made, for close.
type demo struct {
	out    io.Writer
	dir    string
	hosts  []*lab.Host // the first two are the nodes; then their containers, c1 and c2 on the first
	agents []*lab.Cmd
	failed int
}

const (
	demoMTU  = 1500
	transfer = time.Second // how long each TCP transfer sends
)

// underlay and container return the addresses of a node and of a container, both counted from 0.
func underlay(i int) netip.Addr  { return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}) }
func container(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(2 + i)}) }

func (d *demo) run(ctx context.Context) error {
	if _, err := exec.LookPath("ping"); err != nil {
		return fmt.Errorf("the demo takes ping; install it (Debian: iputils-ping): %w", err)
	}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Two hosts, joined by a wire with an MTU of 1500, and four containers", d.build},
		{"An agent on each host gives its two containers their eth0", d.start},
		{"Ping, from c1 to the other container of its host, and to both of the other host", d.pings},
		{"TCP for a second each, content compared", d.transfers},
		{"What host a knows (weft fdb) and has attached (weft port ls)", d.tables},
		{"What it counted (weft stats)", d.counters},
	} {
		fmt.Fprintf(d.out, "\n== %s\n", step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if d.failed > 0 {
		return fmt.Errorf("%d checks of the demo failed", d.failed)
	}
	fmt.Fprintf(d.out, "\nAll checks hold. Next: docs/static.md describes the file, weft bench run measures it against the kernel.\n")
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
	for _, name := range []string{"a", "b", "c1", "c2", "c3", "c4"} {
		h, err := lab.New(name)
		if err != nil {
			return err
		}
		d.hosts = append(d.hosts, h)
	}
	var o lab.LinkOptions
	o.MTU = demoMTU
	for i := range o.Addresses {
		o.Addresses[i] = []netip.Prefix{netip.PrefixFrom(underlay(i), 24)}
		fmt.Fprintf(d.out, "  host %s %s with containers c%d %s and c%d %s\n", d.hosts[i].Name(), underlay(i), 2*i+1, container(2*i), 2*i+2, container(2*i+1))
	}
	return lab.Link(d.hosts[0], d.hosts[1], o)
}

// config is the file of node i.
func (d *demo) config(i int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "node: %s\nunderlay: {address: %s}\nnetworks:\n  - name: net1\n    vni: 4097\n    subnets: [10.77.0.0/24]\n    endpoints:\n", d.hosts[i].Name(), underlay(i))
	for c := 2 * i; c < 2*i+2; c++ {
		fmt.Fprintf(&b, "      - {name: c%d, netns: %s, addresses: [%s]}\n", c+1, d.hosts[2+c].Path(), container(c))
	}
	b.WriteString("    remotes:\n")
	for c := 2 * (1 - i); c < 2*(1-i)+2; c++ {
		fmt.Fprintf(&b, "      - {name: c%d, addresses: [%s], vtep: %s}\n", c+1, container(c), underlay(1-i))
	}
	return b.String()
}

func (d *demo) socket(i int) string { return filepath.Join(d.dir, d.hosts[i].Name()+".sock") }

func (d *demo) start(ctx context.Context) error {
	for i := range 2 {
		file := filepath.Join(d.dir, d.hosts[i].Name()+".yaml")
		if err := os.WriteFile(file, []byte(d.config(i)), 0o600); err != nil {
			return err
		}
		said := new(bytes.Buffer)
		cmd := d.hosts[i].Command("/proc/self/exe", "agent", "--static", file, "--socket", d.socket(i), "--log-level", "warn")
		cmd.Stderr = said
		cmd.SysProcAttr.Setpgid = true // the terminal's ^C is the demo's, which ends the agents itself
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
	}
	fmt.Fprint(d.out, indented(d.config(0)))
	for i := range 2 {
		ports, err := api.NewClient(d.socket(i)).Ports(ctx, "")
		for _, p := range ports {
			if p.State != api.StateUp {
				err = errors.Join(err, fmt.Errorf("port %s is %s: %s", p.Name, p.State, p.Error))
			}
		}
		if err == nil && len(ports) != 2 {
			err = fmt.Errorf("%d ports, expected 2", len(ports))
		}
		d.check("the agent of host "+d.hosts[i].Name()+" has both its containers attached", err)
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

func (d *demo) pings(ctx context.Context) error {
	for to := 1; to < 4; to++ {
		cmd := d.hosts[2].Command("ping", "-n", "-c", "5", "-i", "0.05", "-W", "2", container(to).String())
		out, err := cmd.CombinedOutput()
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		what := fmt.Sprintf("c1 → c%d  %s", to+1, lines[len(lines)-1])
		if err != nil {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		d.check(what, err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (d *demo) transfers(ctx context.Context) error {
	for _, p := range []struct {
		from, to int
		how      string
	}{{0, 1, "within host a"}, {0, 2, "from host a to host b"}, {3, 1, "from host b to host a"}} {
		rate, err := stream(ctx, d.hosts[2+p.from], d.hosts[2+p.to], netip.AddrPortFrom(container(p.to), 5001), transfer)
		d.check(fmt.Sprintf("c%d → c%d  %5.1f Gbit/s  %s", p.from+1, p.to+1, rate/1e9, p.how), err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (d *demo) tables(ctx context.Context) error {
	if err := errors.Join(d.show(ctx, "fdb"), d.show(ctx, "port", "ls")); err != nil {
		return err
	}
	fdb, err := api.NewClient(d.socket(0)).FDB(ctx, "net1")
	where := make(map[string]int)
	for _, e := range fdb {
		where[e.Where]++
	}
	if err == nil && (where[api.Local] != 2 || where[api.Remote] != 2) {
		err = fmt.Errorf("%d local and %d remote entries", where[api.Local], where[api.Remote])
	}
	d.check("two containers are here, and two behind host b", err)
	return nil
}

func (d *demo) counters(ctx context.Context) error {
	if err := d.show(ctx, "stats"); err != nil {
		return err
	}
	s, err := api.NewClient(d.socket(0)).Stats(ctx)
	if err == nil && (len(s.Tunnel.Peers) != 1 || s.Tunnel.Peers[0].TxFrames == 0 || s.Tunnel.Peers[0].RxFrames == 0) {
		err = fmt.Errorf("peers: %+v", s.Tunnel.Peers)
	}
	d.check("host b is the tunnel's only peer, and frames went both ways", err)
	return nil
}

// show runs another command of this program against the agent of the first host, as a user would.
func (d *demo) show(ctx context.Context, args ...string) error {
	fmt.Fprintf(d.out, "  $ weft %s\n", strings.Join(args, " "))
	out, err := exec.CommandContext(ctx, "/proc/self/exe", append(args, "--socket", d.socket(0))...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("weft %v: %w: %s", args, err, out)
	}
	fmt.Fprint(d.out, indented(string(out)))
	return nil
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

// close ends the agents and removes everything.
func (d *demo) close() error {
	for i, a := range d.agents {
		_ = a.Process.Signal(syscall.SIGTERM) // it may have ended already
		ended := make(chan struct{})
		go func() { _ = a.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			d.check("the agent of host "+d.hosts[i].Name()+" ends when it is told to", errors.New("it still runs after 5 s"))
		}
	}
	var errs []error
	for i := len(d.hosts) - 1; i >= 0; i-- {
		errs = append(errs, d.hosts[i].Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
