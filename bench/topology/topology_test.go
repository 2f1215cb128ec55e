package topology

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
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
	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/bench/proxy"
	"github.com/weftnet/weft/internal/lab"
)

// TestMain makes the test binary what paths start: weft agent --static FILE --socket PATH, and weft bench proxy AT TO.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "bench" && os.Args[2] == "proxy" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := proxy.Main(ctx, os.Args[3], os.Args[4], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
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
		if p.Group != Overlay {
			continue
		}
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
				connect(t, n.Client, n.Neighbor)
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

// need skips a test of a path that this host cannot run because a program is missing.
func need(t *testing.T, p Path) {
	t.Helper()
	if err := p.Missing(); err != nil {
		if strings.Contains(err.Error(), "is not installed") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
}

// inGroup calls test with each path of a group that this host can run, built.
func inGroup(t *testing.T, g Group, test func(*testing.T, *Net)) {
	needNamespaces(t)
	for _, p := range Paths() {
		if p.Group == g {
			t.Run(p.Name, func(t *testing.T) {
				need(t, p)
				n, err := p.Build(t.Context(), Options{Offload: true})
				lab.Must(t, err)
				defer n.Close()
				test(t, n)
				lab.Must(t, n.Close())
			})
		}
	}
}

func TestContainersReachTheOutsideByEachWayOut(t *testing.T) {
	inGroup(t, Egress, func(t *testing.T, n *Net) {
		if n.Neighbor.Host != nil || len(n.Names) > 0 {
			t.Errorf("got %+v", n)
		}
		var l net.Listener
		var pc net.PacketConn
		at := net.JoinHostPort("", strconv.Itoa(load.Port))
		lab.Must(t, n.Server.Host.Do(func() (err error) {
			if l, err = net.Listen("tcp4", at); err == nil {
				pc, err = net.ListenPacket("udp4", at)
			}
			return err
		}))
		defer l.Close()
		defer pc.Close()
		go func() {
			buf := make([]byte, 100)
			if n, from, err := pc.ReadFrom(buf); err == nil {
				_, _ = pc.WriteTo(buf[:n], from)
			}
		}()
		to := net.JoinHostPort(n.Server.Addr.String(), strconv.Itoa(load.Port))
		lab.Must(t, n.Client.Host.Do(func() error {
			c, err := net.DialTimeout("tcp", to, 5*time.Second)
			if err != nil {
				return err
			}
			c.Close()
			d, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			defer d.Close()
			_ = d.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := d.Write([]byte("hello")); err != nil {
				return err
			}
			_, err = d.Read(make([]byte, 100))
			return err
		}))
		c, err := l.Accept()
		lab.Must(t, err)
		defer c.Close()
		// The outside knows the host, not the container.
		if from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); from != vtepA {
			t.Errorf("the connection comes from %s", from)
		}
	})
}

func TestEachResolverKnowsTheNames(t *testing.T) {
	inGroup(t, Names, func(t *testing.T, n *Net) {
		if len(n.Names) != known {
			t.Errorf("%d names", len(n.Names))
		}
		for _, i := range []int{0, known - 1} {
			var addrs []netip.Addr
			err := n.Client.Host.Do(func() (err error) {
				addrs, err = lookup(t.Context(), n.Server.Addr, n.Names[i])
				return err
			})
			if err != nil || len(addrs) != 1 || addrs[0] != others()[i].addr {
				t.Errorf("%s is at %v, %v; expected %s", n.Names[i], addrs, err, others()[i].addr)
			}
		}
	})
}

func TestAMissingProgramIsNamedWithItsPackage(t *testing.T) {
	_, err := program("weft-no-such-program", "weft-none")
	if err == nil || err.Error() != "weft-no-such-program is not installed; apt-get install weft-none" {
		t.Errorf("error %v", err)
	}
}

func TestTheOverlaysMTULeavesRoomForItsHeaders(t *testing.T) {
	needNamespaces(t)
	for _, p := range []Path{kernelVXLAN, weft} {
		t.Run(p.Name, func(t *testing.T) {
			n, err := p.Build(t.Context(), Options{Offload: true})
			lab.Must(t, err)
			defer n.Close()
			for name, c := range map[string]Container{"client": n.Client, "server": n.Server, "neighbor": n.Neighbor} {
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
	if err := await(t.Context(), nil, answers(serve(t, 503, 503, 200))); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatEndsIsNotWaitedFor(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	err := await(t.Context(), ended, answers(filepath.Join(t.TempDir(), "none")))
	if err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("error %v", err)
	}
}

func TestWaitingForAProgramCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := await(ctx, nil, answers(serve(t, 503))); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error %v", err)
	}
}

// lookup asks the resolver at a server for a name's IPv4 addresses, from the namespace of the calling thread.
func lookup(ctx context.Context, server netip.Addr, name string) ([]netip.Addr, error) {
	c, err := net.Dial("udp", net.JoinHostPort(server.String(), "53"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return r.LookupNetIP(ctx, "ip4", name+".")
}
