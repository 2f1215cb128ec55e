package topology

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	node "github.com/weftnet/weft/agent"
	"github.com/weftnet/weft/agent/static"
	"github.com/weftnet/weft/internal/lab"
)

// TestMain makes the test binary the agent that the weft path starts: weft agent --static FILE --socket PATH.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "agent" {
		if os.Getenv("WEFT_TEST_AGENT") == "ends" {
			fmt.Fprintln(os.Stderr, "no mood for it")
			os.Exit(1)
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := node.Run(ctx, node.Options{Static: os.Args[3], Socket: os.Args[5], Log: log}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func needNamespaces(t *testing.T) {
	t.Helper()
	if lab.Unprivileged() {
		t.Skip("takes CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root")
	}
}

// connect opens a TCP connection from one container to another.
func connect(t *testing.T, from, to Container) {
	t.Helper()
	var l net.Listener
	lab.Must(t, to.Host.Do(func() (err error) {
		l, err = net.Listen("tcp", ":5201")
		return err
	}))
	defer l.Close()
	lab.Must(t, from.Host.Do(func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(to.Addr.String(), "5201"), 5*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}))
}

func TestContainersOfEachPathReachEachOther(t *testing.T) {
	needNamespaces(t)
	for _, p := range Paths() {
		for _, offload := range []bool{true, false} {
			name := p.Name + " without offloads"
			if offload {
				name = p.Name + " with offloads"
			}
			t.Run(name, func(t *testing.T) {
				lab.Must(t, p.Missing())
				n, err := p.Build(t.Context(), Options{Offload: offload})
				lab.Must(t, err)
				defer n.Close()
				connect(t, n.Client, n.Server)
				connect(t, n.Server, n.Client)
				connect(t, n.Client, n.Neighbour)
				features, err := n.Features()
				lab.Must(t, err)
				if features["tx-udp_tnl-segmentation"] != offload {
					t.Errorf("tunnel segmentation is %v", !offload)
				}
				lab.Must(t, n.Close())
				lab.Must(t, n.Close()) // is idempotent
			})
		}
	}
}

func TestTheOverlaysMTULeavesRoomForItsHeaders(t *testing.T) {
	needNamespaces(t)
	for _, p := range []Path{kernelVXLAN, weft} {
		t.Run(p.Name, func(t *testing.T) {
			n, err := p.Build(t.Context(), Options{Offload: true})
			lab.Must(t, err)
			defer n.Close()
			for name, c := range map[string]Container{"client": n.Client, "server": n.Server, "neighbour": n.Neighbour} {
				link, err := c.Host.Netlink().LinkByName("eth0")
				lab.Must(t, err)
				if link.Attrs().MTU != OverlayMTU {
					t.Errorf("%s: MTU %d, expected %d", name, link.Attrs().MTU, OverlayMTU)
				}
			}
		})
	}
}

func TestAnAgentThatEndsSaysWhy(t *testing.T) {
	needNamespaces(t)
	t.Setenv("WEFT_TEST_AGENT", "ends")
	_, err := weft.Build(t.Context(), Options{Offload: true})
	if err == nil || !strings.Contains(err.Error(), "agent a: ended before it was ready") || !strings.Contains(err.Error(), "no mood for it") {
		t.Errorf("error %v", err)
	}
}

func TestAnAgentThatEndsLaterIsReportedWhenThePathIsTakenDown(t *testing.T) {
	needNamespaces(t)
	n, err := weft.Build(t.Context(), Options{Offload: true})
	lab.Must(t, err)
	defer n.Close()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	lab.Must(t, err)
	for _, name := range lists {
		text, _ := os.ReadFile(name) // a thread that has ended has no children
		for _, pid := range strings.Fields(string(text)) {
			id, err := strconv.Atoi(pid)
			lab.Must(t, err)
			lab.Must(t, syscall.Kill(id, syscall.SIGKILL))
		}
	}
	lab.Eventually(t, func() bool {
		_, err := n.Client.Host.Netlink().LinkByName("eth0") // the agent's TAP goes with it
		return err != nil
	}, 5*time.Second)
	if err := n.Close(); err == nil || !strings.Contains(err.Error(), "agent a: did not end well: signal: killed") {
		t.Errorf("error %v", err)
	}
}

func TestAPathThatCannotBeBuiltLeavesNothing(t *testing.T) {
	needNamespaces(t)
	var h *lab.Host
	broken := Path{Name: "broken", build: func(_ context.Context, n *Net) error {
		h = n.a
		return os.ErrInvalid
	}}
	_, err := broken.Build(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "build broken: invalid argument") {
		t.Errorf("error %v", err)
	}
	if err := h.Command("true").Run(); err == nil {
		t.Error("its host still runs programs")
	}
}

func TestTheAgentsFileIsWhatTheAgentReads(t *testing.T) {
	needNamespaces(t)
	h := lab.T(t, "client")
	a := newAgent("a", vtepA)
	a.attach(Container{Host: h, Addr: client.addr}, client)
	a.remote(vtepB, server)
	text, err := yaml.Marshal(a)
	lab.Must(t, err)
	c, err := static.Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n := c.Networks[0]
	if len(n.Endpoints) != 1 || n.Endpoints[0].Addresses[0] != client.addr || len(n.Remotes) != 1 || n.Remotes[0].VTEP != vtepB {
		t.Errorf("read %+v", c)
	}
}

// serve answers on a unix socket with the given statuses, the last one for ever.
func serve(t *testing.T, statuses ...int) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	lab.Must(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(statuses[0])
		if len(statuses) > 1 {
			statuses = statuses[1:]
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return socket
}

func TestAnAgentIsReadyOnceItsStatusIsGood(t *testing.T) {
	if err := ready(t.Context(), serve(t, 503, 503, 200), nil); err != nil {
		t.Error(err)
	}
}

func TestAnAgentThatEndsIsNotWaitedFor(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	err := ready(t.Context(), filepath.Join(t.TempDir(), "none"), ended)
	if err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("error %v", err)
	}
}

func TestWaitingForAnAgentCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ready(ctx, serve(t, 503), nil); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error %v", err)
	}
}
