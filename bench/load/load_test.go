package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/internal/lab"
)

// TestMain makes the test binary the load generator that Run starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "bench" && os.Args[2] == "load" {
		if err := Serve(os.Stdin, os.Stdout, os.Args[3] == "server"); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hosts returns two hosts that are joined by a veth pair.
func hosts(t *testing.T) (a, b *lab.Host) {
	t.Helper()
	if lab.Unprivileged() {
		t.Skip("takes CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root")
	}
	a, b = lab.T(t, "a"), lab.T(t, "b")
	lab.Must(t, lab.Link(a, b, lab.LinkOptions{Addresses: [2][]netip.Prefix{
		{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("fd00::1/64")},
		{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("fd00::2/64")},
	}}))
	return a, b
}

var short = Window{Warmup: 50 * time.Millisecond, Duration: 200 * time.Millisecond}

func TestEachKindCarriesItsLoad(t *testing.T) {
	a, b := hosts(t)
	tests := []struct {
		name string
		Spec
		good func(Outcome) bool
	}{
		{"a stream arrives at the server", Spec{Kind: Stream},
			func(o Outcome) bool { return o.Server.Bytes > 1e6 && o.Client.Bytes == 0 }},
		{"four streams arrive at the server", Spec{Kind: Stream, Streams: 4},
			func(o Outcome) bool { return o.Server.Bytes > 1e6 && o.Client.Bytes == 0 }},
		{"a reverse stream arrives at the client", Spec{Kind: Reverse},
			func(o Outcome) bool { return o.Client.Bytes > 1e6 && o.Server.Bytes == 0 }},
		{"datagrams are counted and numbered", Spec{Kind: Datagram, Size: 64},
			func(o Outcome) bool {
				return o.Server.Count > 1000 && o.Server.Bytes == 64*o.Server.Count && o.Server.Expected >= o.Server.Count-batch && o.Client.Count > 1000
			}},
		{"bytes are echoed", Spec{Kind: Echo},
			func(o Outcome) bool { return o.Client.Count > 100 && near(o.Client.Latency.Count(), o.Client.Count) }},
		{"connections are opened and closed", Spec{Kind: Connect},
			func(o Outcome) bool { return o.Client.Count > 100 && near(o.Client.Latency.Count(), o.Client.Count) }},
		{"a stream over IPv6", Spec{Kind: Stream, Server: netip.MustParseAddr("fd00::2")},
			func(o Outcome) bool { return o.Server.Bytes > 1e6 }},
		{"connections over IPv6", Spec{Kind: Connect, Server: netip.MustParseAddr("fd00::2")},
			func(o Outcome) bool { return o.Client.Count > 100 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.Server.IsValid() {
				tt.Server = netip.MustParseAddr("192.0.2.2")
			}
			o, err := Run(t.Context(), a, b, tt.Spec, short)
			if err != nil {
				t.Fatal(err)
			}
			// Each end reads its clock when it hears of it, which may be late on a busy machine.
			if !tt.good(o) || o.Client.Seconds < 0.1 || o.Server.Seconds < 0.1 || o.Client.CPU <= 0 {
				o.Client.Latency = nil
				t.Errorf("got %+v", o)
			}
		})
	}
}

// near reports whether a and b differ by what may happen between two readings.
func near(a, b uint64) bool { return max(a, b)-min(a, b) <= 20 }

func TestLostDatagramsAreCounted(t *testing.T) {
	a, b := hosts(t)
	// A third of the datagrams is dropped on the way.
	rules := "add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; }; " +
		"add rule netdev t c ip protocol udp numgen inc mod 3 == 0 drop"
	if out, err := b.Command("nft", rules).CombinedOutput(); err != nil {
		t.Skipf("nft cannot drop here: %v %s", err, out)
	}
	o, err := Run(t.Context(), a, b, Spec{Kind: Datagram, Size: 64, Server: netip.MustParseAddr("192.0.2.2")}, short)
	if err != nil {
		t.Fatal(err)
	}
	// The server may lose more when another program has its processor.
	if loss := o.Server.Loss(); loss < 0.32 {
		t.Errorf("loss %v, %+v", loss, o.Server)
	}
}

func TestAnEndThatFailsSaysWhy(t *testing.T) {
	a, b := hosts(t)
	t.Run("a port that is taken", func(t *testing.T) {
		var fd int
		lab.Must(t, b.Do(func() (err error) {
			fd, err = listen(1, Spec{Server: netip.MustParseAddr("192.0.2.2")})
			return err
		}))
		defer rawClose(fd)
		_, err := Run(t.Context(), a, b, Spec{Kind: Stream, Server: netip.MustParseAddr("192.0.2.2")}, short)
		if err == nil || !strings.Contains(err.Error(), "server: bind to port 5201: address already in use") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a server that cannot be reached", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := Run(ctx, a, b, Spec{Kind: Stream, Server: netip.MustParseAddr("203.0.113.1")}, short)
		if err == nil || !strings.Contains(err.Error(), "client is not ready") {
			t.Errorf("error %v", err)
		}
	})
}

func TestSpecsThatCannotBeAreRefused(t *testing.T) {
	server := netip.MustParseAddr("192.0.2.2")
	tests := []struct {
		name string
		Spec
		want string
	}{
		{"no server", Spec{Kind: Stream}, "address is missing"},
		{"an unknown kind", Spec{Kind: "flood", Server: server}, `kind "flood"; expected stream, reverse`},
		{"datagrams without room for their number", Spec{Kind: Datagram, Server: server, Size: 7}, "7 bytes; expected 8 to 8192"},
		{"queries for nothing", Spec{Kind: Query, Server: server}, "no names"},
		{"a query for a name without letters", Spec{Kind: Query, Server: server, Names: []string{"a", "b..c"}}, `"b..c" is no name`},
		{"a query for a label that is too long", Spec{Kind: Query, Server: server, Names: []string{strings.Repeat("x", 64)}}, "is no name"},
		{"a query for a name that is too long", Spec{Kind: Query, Server: server, Names: []string{strings.Repeat("x.", 128)}}, "takes 257 bytes; expected at most 255"},
		{"datagrams larger than the buffers", Spec{Kind: Datagram, Server: server, Size: 9000}, "9000 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not contain %q", err, tt.want)
			}
		})
	}
}

func TestServeReportsWhatItCannotRead(t *testing.T) {
	for in, want := range map[string]string{
		"no JSON\n":                              "read the spec",
		`{"kind":"flood","server":"::1"}` + "\n": `kind \"flood\"`,
		"":                                       "",
	} {
		var out bytes.Buffer
		if err := Serve(strings.NewReader(in), &out, true); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) || (want == "") != (out.Len() == 0) {
			t.Errorf("%q: got %q", in, out.String())
		}
	}
}

func TestLoss(t *testing.T) {
	tests := []struct {
		name            string
		count, expected uint64
		want            float64
	}{
		{"all arrived", 100, 100, 0},
		{"a quarter is missing", 75, 100, 0.25},
		{"counted a moment after the numbers were read", 101, 100, 0},
		{"nothing was sent", 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (Result{Count: tt.count, Expected: tt.expected}).Loss(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCountingATransactionDoesNotAllocate(t *testing.T) {
	g := newGenerator(Spec{Kind: Echo}, false)
	m := g.meter()
	if n := testing.AllocsPerRun(100, func() { m.done(time.Microsecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"kind":"datagram","server":"192.0.2.2","size":64}`))
	f.Add([]byte(`{"kind":"stream","server":"fd00::2","streams":4}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Spec
		if json.Unmarshal(text, &s) != nil || s.check() != nil {
			return
		}
		if s.Kind == Datagram && (s.Size < sequenceLen || s.Size > maxDatagram) {
			t.Errorf("%s was accepted", text)
		}
	})
}

func ExampleResult_Loss() {
	fmt.Println(Result{Count: 990, Expected: 1000}.Loss() > 0.0099)
	// Output: true
}
