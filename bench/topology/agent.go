package topology

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/weftnet/weft/internal/lab"
)

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
	Gateways  []netip.Addr   `yaml:"gateways"`
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
	Routes    []route      `yaml:"routes,omitempty"`
}

type route struct {
	To  netip.Prefix `yaml:"to"`
	Via netip.Addr   `yaml:"via"`
}

func newAgent(node string, vtep netip.Addr) agent {
	a := agent{Node: node, Networks: []network{{
		Name: "bench", VNI: vni, Subnets: []netip.Prefix{subnet}, Gateways: []netip.Addr{gateway},
	}}}
	a.Underlay.Address = vtep
	return a
}

func (s station) endpoint() endpoint {
	return endpoint{Name: s.name, Addresses: []netip.Addr{s.addr}, MAC: s.mac.String()}
}

func (a *agent) attach(c Container, s station, routes ...route) {
	e := s.endpoint()
	e.Netns, e.Interface, e.Routes = c.Host.Path(), "eth0", routes
	a.Networks[0].Endpoints = append(a.Networks[0].Endpoints, e)
}

func (a *agent) remote(vtep netip.Addr, stations ...station) {
	for _, s := range stations {
		e := s.endpoint()
		e.VTEP = vtep.String()
		a.Networks[0].Remotes = append(a.Networks[0].Remotes, e)
	}
}

// run starts the agent, which is this very program, on h and waits until it is ready.
func (a agent) run(ctx context.Context, n *Net, h *lab.Host) error {
	text, err := yaml.Marshal(a)
	if err != nil {
		return err
	}
	dir, err := n.scratch()
	if err != nil {
		return err
	}
	config, socket := filepath.Join(dir, a.Node+".yaml"), filepath.Join(dir, a.Node+".sock")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	d, err := n.start("agent "+a.Node, h.Command("/proc/self/exe", "agent", "--static", config, "--socket", socket))
	if err != nil {
		return err
	}
	if err := d.await(ctx, answers(socket)); err != nil {
		return err
	}
	// An agent works on without an endpoint that it could not attach; the bench cannot.
	if bytes.Contains(d.said(), []byte("level=ERROR")) {
		return d.failure(errors.New("has faults"))
	}
	return nil
}

// answers returns a function that reports whether the agent behind socket says that it is ready.
func answers(socket string) func(context.Context) bool {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unix/v1/status", nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
}
