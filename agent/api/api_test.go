package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/stack/capture"
	"github.com/weftnet/weft/stack/frame"
)

// fake is a node with one network and two ports.
type fake struct{ tap *capture.Tap }

var (
	mac  = frame.MAC(0x02420a4d0002)
	vtep = netip.MustParseAddr("192.0.2.2")
)

func (f fake) Tap() *capture.Tap { return f.tap }

func (f fake) Status() Status {
	return Status{Node: "a", PID: 7, Started: time.Unix(1e9, 0).UTC(), Underlay: netip.MustParseAddrPort("192.0.2.1:4789"), Threads: 1, Problems: []string{}}
}

func (f fake) Networks() []Network {
	return []Network{{Name: "net1", VNI: 4097, Subnets: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}, {Name: "net2", VNI: 4098}}
}

func (f fake) FDB() []FDBEntry {
	return []FDBEntry{
		{Network: "net1", VNI: 4097, MAC: &mac, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.2")}, Where: Local, Port: "c1", Name: "c1"},
		{Network: "net2", VNI: 4098, Addresses: []netip.Addr{}, Where: Static, VTEP: &vtep},
	}
}

func (f fake) Ports() []PortStatus {
	return []PortStatus{{Network: "net1", Name: "c1", State: StateUp, Owners: []Owner{{"c1", mac, nil}}}, {Network: "net2", Name: "c2", State: StateGone}}
}

func (f fake) Stats() Stats {
	return Stats{Tunnel: TunnelStats{Drops: map[string]uint64{"unknown-vni": 3}}}
}

// serve runs a server until the test ends.
func serve(t *testing.T) (node fake, socket string, stop func() error) {
	t.Helper()
	node = fake{capture.New()}
	socket = filepath.Join(t.TempDir(), "s")
	s, err := Listen(socket, node)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return node, socket, stop
}

func TestClientReadsWhatTheNodeSays(t *testing.T) {
	node, socket, _ := serve(t)
	c, ctx := NewClient(socket), t.Context()
	for _, q := range []struct {
		name string
		got  func() (any, error)
		want any
	}{
		{"status", func() (any, error) { return c.Status(ctx) }, node.Status()},
		{"networks", func() (any, error) { return c.Networks(ctx) }, node.Networks()},
		{"fdb", func() (any, error) { return c.FDB(ctx, "") }, node.FDB()},
		{"fdb of one network", func() (any, error) { return c.FDB(ctx, "net2") }, node.FDB()[1:]},
		{"ports", func() (any, error) { return c.Ports(ctx, "") }, node.Ports()},
		{"ports of one network", func() (any, error) { return c.Ports(ctx, "net1") }, node.Ports()[:1]},
		{"stats", func() (any, error) { return c.Stats(ctx) }, node.Stats()},
	} {
		got, err := q.got()
		if err != nil || !reflect.DeepEqual(got, q.want) {
			t.Errorf("%s: got %+v, %v\nexpected %+v", q.name, got, err, q.want)
		}
	}
}

func TestAnswersAreJSONInSnakeCase(t *testing.T) {
	_, socket, _ := serve(t)
	body, err := NewClient(socket).ask(t.Context(), http.MethodGet, "/v1/fdb", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	var got []map[string]any
	if err := json.NewDecoder(body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"network": "net1", "vni": 4097.0, "mac": "02:42:0a:4d:00:02", "addresses": []any{"10.77.0.2"}, "where": "local", "port": "c1", "name": "c1"},
		{"network": "net2", "vni": 4098.0, "addresses": []any{}, "where": "static", "vtep": "192.0.2.2"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, expected %v", got, want)
	}
}

func TestFaultyRequestsAreAnsweredWithReasonAndStatus(t *testing.T) {
	_, socket, _ := serve(t)
	for _, c := range []struct {
		method, url string
		status      int
		part        string
	}{
		{"POST", "/v1/status", 405, "method POST"},
		{"GET", "/v2/status", 404, "no /v2/status here"},
		{"GET", "/v1/status?x=1", 400, `unknown parameter "x"; /v1/status takes none`},
		{"GET", "/v1/fdb?network=net3", 404, `no network "net3"; this node has net1, net2`},
		{"GET", "/v1/ports?network=net1&network=net2", 400, "given 2 times"},
		{"GET", "/v1/capture?network=net3", 404, "net3"},
		{"GET", "/v1/capture?port=c3", 404, `no port "c3"; there are c1, c2`},
		{"GET", "/v1/capture?network=net1&port=c2", 404, "there are c1"},
		{"GET", "/v1/capture?point=wire", 400, `point "wire"; expected port or tunnel`},
		{"GET", "/v1/capture?view=outer", 400, "outer view exists at the tunnel only"},
		{"GET", "/v1/capture?host=example", 400, `host "example"`},
		{"GET", "/v1/capture?l4port=65536", 400, "up to 65535"},
		{"GET", "/v1/capture?cut=yes", 400, "expected 0 or 1"},
		{"GET", "/v1/capture?snaplen=10", 400, "snaplen 10"},
		{"GET", "/v1/capture?count=-1", 400, `count "-1"`},
		{"GET", "/v1/capture?duration=10", 400, `duration "10"`},
	} {
		t.Run(c.method+" "+c.url, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://weft"+c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := NewClient(socket).http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var f Failure
			if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || resp.StatusCode != c.status || !strings.Contains(f.Error, c.part) {
				t.Errorf("got %s %q (%v), expected %d and %q", resp.Status, f.Error, err, c.status, c.part)
			}
		})
	}
}

func TestCaptureStreamsUntilItsCountIsReached(t *testing.T) {
	node, socket, _ := serve(t)
	body, err := NewClient(socket).Capture(t.Context(), Capture{Options: capture.Options{Network: "net1", Port: "c1", Count: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(body, head); err != nil {
		t.Fatalf("the file's head did not come at once: %v", err)
	}
	sent := bytes.Repeat([]byte("weft"), 20)
	node.tap.Frame(capture.Where{Network: "net1", Port: "c1"}, &frame.Offload{}, [][]byte{sent})
	rest, err := io.ReadAll(body)
	if err != nil || !bytes.Contains(rest, sent) {
		t.Errorf("got %d bytes, %v; expected the frame in them", len(rest), err)
	}
}

func TestCaptureEndsAfterItsDuration(t *testing.T) {
	_, socket, _ := serve(t)
	body, err := NewClient(socket).Capture(t.Context(), Capture{Duration: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || len(b) == 0 {
		t.Errorf("got %d bytes, %v; expected an empty but whole file", len(b), err)
	}
}

func TestCaptureEndsWithItsClientAndWithTheServer(t *testing.T) {
	node, socket, stop := serve(t)
	ctx, leave := context.WithCancel(t.Context())
	if _, err := NewClient(socket).Capture(ctx, Capture{}); err != nil {
		t.Fatal(err)
	}
	leave()
	for deadline := time.Now().Add(5 * time.Second); node.tap.Enabled(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session outlives its client")
		}
	}
	body, err := NewClient(socket).Capture(t.Context(), Capture{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(body); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
}

func TestCaptureQueryIsReadBack(t *testing.T) {
	for _, c := range []Capture{
		{},
		{Duration: 3 * time.Second, Options: capture.Options{
			Point: capture.AtTunnel, Outer: true, Network: "n", Cut: true, Snaplen: 128, Count: 9,
			Filter: capture.Filter{Net: netip.MustParsePrefix("10.77.0.0/24"), Port: 80},
		}},
		{Options: capture.Options{Port: "c1", Filter: capture.Filter{Net: netip.MustParsePrefix("fd00::1/128")}}},
	} {
		if got, err := ParseCapture(c.Query()); err != nil || got != c {
			t.Errorf("%v came back as %+v, %v; expected %+v", c.Query(), got, err, c)
		}
	}
	if got, err := ParseHost("10.77.0.9"); err != nil || got.String() != "10.77.0.9/32" {
		t.Errorf("a host came back as %v, %v", got, err)
	}
}

func FuzzParseCapture(f *testing.F) {
	f.Add("point=tunnel&view=outer&host=10.0.0.0/8&l4port=80&cut=1&snaplen=96&count=5&duration=3s")
	f.Add("host=::ffff:10.0.0.1/120&duration=-1s")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		c, err := ParseCapture(q)
		if err != nil {
			return
		}
		if again, err := ParseCapture(c.Query()); err != nil || again != c {
			t.Fatalf("%q is %+v, but its own query gives %+v, %v", query, c, again, err)
		}
	})
}

func TestSocketIsTheOwnersAlone(t *testing.T) {
	_, socket, stop := serve(t)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; expected 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(socket), ".weft-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket outlives its server: %v", err)
	}
}

func TestListenRefusesALiveAgentAndReplacesADeadOne(t *testing.T) {
	_, socket, stop := serve(t)
	if _, err := Listen(socket, fake{}); err == nil || !strings.Contains(err.Error(), "another agent serves "+socket) {
		t.Errorf("beside a live agent: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket, fake{}); err == nil || !strings.Contains(err.Error(), "another process serves") {
		t.Errorf("beside another program: %v", err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	s, err := Listen(socket, fake{})
	if err != nil {
		t.Fatalf("after a dead agent: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket, fake{}); err == nil || !strings.Contains(err.Error(), "is not a socket; remove it") {
		t.Errorf("on a file: %v", err)
	}
	if _, err := Listen("/"+strings.Repeat("x", 120), fake{}); err == nil || !strings.Contains(err.Error(), "121 bytes") {
		t.Errorf("on a long path: %v", err)
	}
}

func TestClientSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewClient(dir + "/s").Status(t.Context()); err == nil || !strings.Contains(err.Error(), "start one with weft agent") {
		t.Errorf("without a socket: %v", err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := NewClient(dir + "/s").Status(t.Context()); err == nil || !strings.Contains(err.Error(), "its agent has ended") {
		t.Errorf("with a dead socket: %v", err)
	}
}

func ExampleClient() {
	_, err := NewClient("/nowhere/weft.sock").Status(context.Background())
	fmt.Println(err)
	// Output: no agent at /nowhere/weft.sock: there is no such socket; start one with weft agent, or name its socket with --socket
}
