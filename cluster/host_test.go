package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// quick is the timing of tests: as short as two busy processors allow.
var quick = Timing{
	Raft: 150 * time.Millisecond, Tick: 40 * time.Millisecond, Report: 100 * time.Millisecond, Beat: 200 * time.Millisecond,
	Propose: 8 * time.Second, Step: 100 * time.Millisecond, Behind: time.Second, Demoted: 2 * time.Second,
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// host is a member that runs, in a directory of its own.
type host struct {
	t    testing.TB
	name string
	cfg  Config
	*Member
	cancel context.CancelFunc
	ended  chan error
	log    *logbook
}

// logbook keeps what a host logs, to show it when its test fails.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logbook) says(text string) bool { return strings.Contains(l.String(), text) }

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs a member of its own directory, which is no member of a cluster yet.
func start(t testing.TB, name string, change ...func(*Config)) *host {
	t.Helper()
	h := &host{t: t, name: name, log: &logbook{}, cfg: Config{
		Dir: t.TempDir(), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Version: "test", Timing: quick,
	}}
	h.cfg.Log = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, c := range change {
		c(&h.cfg)
	}
	h.boot()
	t.Cleanup(func() {
		h.kill()
		if t.Failed() && os.Getenv("WEFT_TEST_LOG") != "" {
			t.Logf("%s:\n%s", name, h.log)
		}
	})
	return h
}

// boot runs the member of the directory, anew on the same port.
func (h *host) boot() {
	h.t.Helper()
	m, err := Open(h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.cfg.Listen = m.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	h.Member, h.cancel, h.ended = m, cancel, make(chan error, 1)
	ended := h.ended
	go func() { ended <- m.Run(ctx) }()
}

// kill ends the member without a word to the others.
func (h *host) kill() {
	h.cancel()
	if err := <-h.ended; err != nil {
		h.t.Errorf("%s: Run: %v", h.name, err)
	}
	h.ended <- nil
}

// found makes the host the first manager of a cluster.
func (h *host) found() *host {
	h.t.Helper()
	if err := h.Init(h.t.Context(), InitOptions{Name: h.name}); err != nil {
		h.t.Fatal(err)
	}
	return h
}

// join makes the host a member of the cluster of a manager.
func (h *host) join(manager *host, role state.Role) *host {
	h.t.Helper()
	if err := h.tryJoin(manager, role); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) tryJoin(manager *host, role state.Role) error {
	return h.Join(h.t.Context(), JoinOptions{Token: manager.token(role), Remote: manager.Addr().String(), Name: h.name})
}

func (h *host) token(role state.Role) identity.Token {
	h.t.Helper()
	worker, manager, err := h.JoinTokens(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if role == state.Manager {
		return manager
	}
	return worker
}

// propose has the cluster do a command.
func (h *host) propose(c state.Command) state.Result {
	h.t.Helper()
	r, err := h.Propose(h.t.Context(), c)
	if err != nil {
		h.t.Fatalf("%s: %v", h.name, err)
	}
	return r
}

// network is the command that makes a network.
func network(name string) state.Command {
	c := &state.CreateNetwork{Secret: newSecret(), Spec: state.NetworkSpec{Name: name, Driver: state.Overlay}}
	copy(c.ID[:], newSecret())
	return state.Command{CreateNetwork: c}
}

// has reports whether the host's state has a network.
func (h *host) has(name string) bool {
	s := h.State()
	if s == nil {
		return false
	}
	_, err := s.Network(name)
	return err == nil
}

// until waits for what must become true.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// trio is a cluster of three managers, all of which vote.
func trio(t testing.TB) []*host {
	t.Helper()
	a := start(t, "a").found()
	hosts := []*host{a, start(t, "b").join(a, state.Manager), start(t, "c").join(a, state.Manager)}
	voting(t, hosts...)
	return hosts
}

// voting waits until exactly these hosts vote, and all know the leader.
func voting(t testing.TB, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		until(t, fmt.Sprintf("%s sees %d voters and a leader", h.name, len(hosts)), func() bool {
			q := h.quorum.Load()
			if q == nil || q.Leader().IsZero() {
				return false
			}
			voters, learners := q.Voters()
			return len(voters) == len(hosts) && len(learners) == 0
		})
	}
}

// leading returns the leader and the others.
func leading(t testing.TB, hosts []*host) (leader *host, others []*host) {
	t.Helper()
	until(t, "one of them leads", func() bool {
		leader, others = nil, nil
		for _, h := range hosts {
			if q := h.quorum.Load(); q != nil && q.Leading() {
				leader = h
			} else {
				others = append(others, h)
			}
		}
		return leader != nil && len(others) == len(hosts)-1
	})
	return leader, others
}

// says checks that an error is of a kind and names what it should.
func says(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; expected one with %q", words)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("the error %q is not of the kind %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
}
