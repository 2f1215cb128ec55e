package member_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent"
	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/internal/lab"
)

// agentRole marks the environment of the processes that the tests start as agents, and holds their options.
const agentRole = "WEFT_TEST_MEMBER"

func TestMain(m *testing.M) {
	if o := os.Getenv(agentRole); o != "" {
		os.Exit(runAgent(o))
	}
	// They wait most of the time: for elections, suspicions, timeouts.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(max(6, runtime.NumCPU()))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func runAgent(options string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	collect := make(chan os.Signal, 1)
	signal.Notify(collect, unix.SIGUSR1)
	go func() {
		for range collect {
			runtime.GC() // closed devices keep their descriptors until then: that is no leak
		}
	}()
	var o place
	err := json.Unmarshal([]byte(options), &o)
	if err == nil {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		err = agent.Run(ctx, agent.Options{Dir: o.Dir, Socket: o.Socket, Advertise: o.Advertise, Timing: o.Timing, Version: "test", Log: log})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// place is where an agent keeps its things.
type place struct {
	Dir, Socket string
	Advertise   netip.Addr
	Timing      cluster.Timing
}

const patience = 30 * time.Second // for what takes milliseconds on an idle machine

// lan is a wire that several hosts share.
type lan struct {
	t      testing.TB
	wire   *lab.Host
	timing cluster.Timing // of the agents
	agents []*node
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	l := &lan{t: t, wire: lab.T(t, "lan")}
	lab.Must(t, l.wire.Bridge("br0"))
	return l
}

// node is a host with an agent.
type node struct {
	*api.Client
	*lab.Host
	t    testing.TB
	addr netip.Addr
	dir  string
	place
	disk  int // a process in whose mount namespace the data directory is a small disk of its own; 0 for none
	cmd   *lab.Cmd
	log   *lab.Journal
	ended chan struct{}
}

// node makes a host on the wire and starts its agent. When the test ends, so does the agent: by SIGTERM, and without a complaint.
func (l *lan) node(name string) *node {
	l.t.Helper()
	n := &node{t: l.t, Host: lab.T(l.t, name), addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(len(l.agents) + 1)})}
	lab.Must(l.t, lab.Link(n.Host, l.wire, lab.LinkOptions{
		Names: [2]string{"eth0", name}, Masters: [2]string{"", "br0"}, Addresses: [2][]netip.Prefix{{netip.PrefixFrom(n.addr, 24)}},
	}))
	l.agents = append(l.agents, n)
	var err error
	n.dir, err = os.MkdirTemp("", "weft") // the test's own directory has a name too long for a socket
	lab.Must(l.t, err)
	l.t.Cleanup(func() { os.RemoveAll(n.dir) })
	n.place = place{Dir: filepath.Join(n.dir, "data"), Socket: filepath.Join(n.dir, "s"), Advertise: n.addr, Timing: l.timing}
	n.Client = api.NewClient(n.Socket)
	n.start()
	l.t.Cleanup(func() {
		if l.t.Failed() {
			l.t.Logf("agent %s said:\n%s", name, n.log)
		}
		if err := n.stop(unix.SIGTERM); err != nil {
			l.t.Errorf("agent %s ended by SIGTERM: %v; it said:\n%s", name, err, n.log)
		}
	})
	return n
}

// start runs the agent and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	options, err := json.Marshal(n.place)
	lab.Must(n.t, err)
	exe, err := os.Executable()
	lab.Must(n.t, err)
	cmd, ended := n.Command(exe), make(chan struct{})
	if n.disk != 0 {
		cmd = n.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", n.disk), exe)
	}
	n.log = &lab.Journal{}
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.Env = append(os.Environ(), agentRole+"="+string(options))
	lab.Must(n.t, cmd.Start())
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	n.cmd, n.ended = cmd, ended
	n.eventually("the agent answers", func() error {
		_, err := n.Status(n.t.Context())
		select {
		case <-ended:
			n.t.Fatalf("agent %s ended:\n%s", n.Name(), n.log)
		default:
		}
		return err
	})
}

// stop ends the agent by a signal and returns what became of it.
func (n *node) stop(s unix.Signal) error {
	select {
	case <-n.ended:
		return nil
	default:
	}
	_ = n.cmd.Process.Signal(s)
	select {
	case <-n.ended:
		if s == unix.SIGKILL {
			return nil
		}
		return n.cmd.Wait()
	case <-time.After(patience):
		_ = n.cmd.Process.Signal(unix.SIGQUIT) // for the stacks in the journal
		<-n.ended
		return fmt.Errorf("it went on for %s:\n%s", patience, n.log)
	}
}

// eventually waits until try has no error.
func (n *node) eventually(what string, try func() error) {
	n.t.Helper()
	for end := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			n.t.Fatalf("node %s: not within %s: %s: %v\nits agent said:\n%s", n.Name(), patience, what, err, n.log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cluster makes so many nodes, the first of them a manager, and joins them.
func (l *lan) cluster(names ...string) []*node {
	l.t.Helper()
	var all []*node
	for i, name := range names {
		n := l.node(name)
		all = append(all, n)
		if i == 0 {
			_, err := n.Init(l.t.Context(), api.InitRequest{Name: name})
			lab.Must(l.t, err)
			continue
		}
		n.join(all[0], false)
	}
	for _, n := range all {
		n.sees(len(names))
	}
	return all
}

// join makes n a member of the cluster that manager belongs to.
func (n *node) join(manager *node, asManager bool) {
	n.t.Helper()
	tokens, err := manager.Tokens(n.t.Context())
	lab.Must(n.t, err)
	token := tokens.Worker
	if asManager {
		token = tokens.Manager
	}
	_, err = n.Join(n.t.Context(), api.JoinRequest{Token: token, Remote: tokens.Remote.String(), Name: n.Name()})
	lab.Must(n.t, err)
}

// sees waits until so many nodes are ready.
func (n *node) sees(count int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d nodes are ready", count), func() error {
		all, err := n.Members(n.t.Context())
		ready := 0
		for _, m := range all {
			if m.Status == api.NodeReady {
				ready++
			}
		}
		if err == nil && ready != count {
			err = fmt.Errorf("%d of %d are", ready, len(all))
		}
		return err
	})
}

// network makes a network and waits until all nodes have it.
func (n *node) network(r api.NetworkRequest, all ...*node) api.NetworkDetail {
	n.t.Helper()
	made, err := n.CreateNetwork(n.t.Context(), r)
	lab.Must(n.t, err)
	for _, other := range all {
		other.eventually("network "+r.Name+" is there", func() error {
			_, err := other.Segment(n.t.Context(), r.Name)
			return err
		})
	}
	return made
}
