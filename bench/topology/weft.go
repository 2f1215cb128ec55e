package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/tap"
)

// weft has an agent on each host, which is this very program, and a TAP as each container's eth0.
var weft = Path{
	Name:  "weft",
	About: "an agent on each host, TAPs as the containers' interfaces, VXLAN over UDP sockets",
	Missing: func() error {
		return probe(func(h *lab.Host) error {
			d, err := tap.Open(tap.Config{Namespace: h.Namespace(), Name: "eth0", MTU: OverlayMTU})
			if err != nil {
				return err
			}
			return d.Close()
		})
	},
	build: func(ctx context.Context, n *Net) error {
		if err := n.containers(); err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "weft-bench-")
		if err != nil {
			return err
		}
		n.close = append(n.close, func() error { return os.RemoveAll(dir) })
		a, b := newAgent("a", vtepA), newAgent("b", vtepB)
		a.attach(n.Client, client)
		a.attach(n.Neighbour, neighbour)
		a.remote(vtepB, server)
		b.attach(n.Server, server)
		b.remote(vtepA, client, neighbour)
		for _, start := range []struct {
			agent
			host *lab.Host
		}{{a, n.a}, {b, n.b}} {
			stop, err := start.run(ctx, start.host, dir)
			if err != nil {
				return err
			}
			n.close = append(n.close, stop)
		}
		return nil
	},
}

// agent is the file that `weft agent --static` reads, as far as the bench needs it.
type agent struct {
	Node     string `yaml:"node"`
	Underlay struct {
		Address netip.Addr `yaml:"address"`
	} `yaml:"underlay"`
	Networks []network `yaml:"networks"`
}

type network struct {
	Name      string         `yaml:"name"`
	VNI       int            `yaml:"vni"`
	Subnets   []netip.Prefix `yaml:"subnets"`
	Endpoints []endpoint     `yaml:"endpoints"`
	Remotes   []endpoint     `yaml:"remotes"`
}

type endpoint struct {
	Name      string       `yaml:"name"`
	Netns     string       `yaml:"netns,omitempty"`
	Interface string       `yaml:"interface,omitempty"`
	Addresses []netip.Addr `yaml:"addresses"`
	MAC       string       `yaml:"mac"`
	VTEP      string       `yaml:"vtep,omitempty"`
}

func newAgent(node string, vtep netip.Addr) agent {
	a := agent{Node: node, Networks: []network{{Name: "bench", VNI: vni, Subnets: []netip.Prefix{subnet}}}}
	a.Underlay.Address = vtep
	return a
}

func (s station) endpoint() endpoint {
	return endpoint{Name: s.name, Addresses: []netip.Addr{s.addr}, MAC: s.mac.String()}
}

func (a *agent) attach(c Container, s station) {
	e := s.endpoint()
	e.Netns, e.Interface = c.Host.Path(), "eth0"
	a.Networks[0].Endpoints = append(a.Networks[0].Endpoints, e)
}

func (a *agent) remote(vtep netip.Addr, stations ...station) {
	for _, s := range stations {
		e := s.endpoint()
		e.VTEP = vtep.String()
		a.Networks[0].Remotes = append(a.Networks[0].Remotes, e)
	}
}

// run starts the agent on h and waits until it is ready.
func (a agent) run(ctx context.Context, h *lab.Host, dir string) (stop func() error, err error) {
	text, err := yaml.Marshal(a)
	if err != nil {
		return nil, err
	}
	config, socket := filepath.Join(dir, a.Node+".yaml"), filepath.Join(dir, a.Node+".sock")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, a.Node+".log")
	log, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := h.Command("/proc/self/exe", "agent", "--static", config, "--socket", socket)
	cmd.Stderr = log
	cmd.SysProcAttr.Setpgid = true // the terminal's interrupt is the harness's to handle
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	stop = func() error {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended already
		select {
		case <-ended:
		case <-time.After(patience):
			cmd.Stop()
			<-ended
		}
		if !cmd.ProcessState.Success() {
			return a.failure(name, fmt.Errorf("did not end well: %v", cmd.ProcessState))
		}
		return nil
	}
	if err := ready(ctx, socket, ended); err != nil {
		return nil, errors.Join(a.failure(name, err), stop())
	}
	// An agent works on without an endpoint that it could not attach; the bench cannot.
	if text, err := os.ReadFile(name); err != nil || bytes.Contains(text, []byte("level=ERROR")) {
		return nil, errors.Join(a.failure(name, errors.Join(err, errors.New("has faults"))), stop())
	}
	return stop, nil
}

// failure adds what the agent logged to err.
func (a agent) failure(log string, err error) error {
	text, _ := os.ReadFile(log) // without it the error is still one
	return fmt.Errorf("agent %s: %w; it said: %s", a.Node, err, bytes.TrimSpace(text))
}

// patience is how long an agent may take to end when it is asked to.
const patience = 5 * time.Second

// startup is how long an agent may take until it answers.
const startup = 15 * time.Second

// ready waits until the agent behind socket says that it is.
func ready(ctx context.Context, socket string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startup, fmt.Errorf("not ready within %v", startup))
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unix/v1/status", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return errors.New("ended before it was ready")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
